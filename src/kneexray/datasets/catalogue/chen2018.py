"""Chen 2018: knee crops of the Osteoarthritis Initiative, KL 0-4."""

from __future__ import annotations

import re

from kneexray.datasets.catalogue.record import Card, Redundant, WebFile

CARD = Card(
    name="chen2018",
    title="Knee Osteoarthritis Severity Grading Dataset (Chen 2018)",
    task="kl",
    labels="KL 0, 1, 2, 3, 4 (folders 0 to 4)",
    counts="train 2286/1046/1516/757/173, val 328/153/212/106/27, test 1,656 in all: 8,260 knees",
    licence="CC BY 4.0; the terms of the Osteoarthritis Initiative may apply as well",
    citation=(
        "Chen P. Knee Osteoarthritis Severity Grading Dataset. Mendeley Data, V1, 2018, doi:10.17632/56rmx5bjcr.1. "
        "Chen P, Gao L, Shi X, Allen K, Yang L. Fully automatic knee osteoarthritis severity grading using deep neural networks with a "
        "novel ordinal "
        "loss. Comput Med Imaging Graph 2019;75:84-92."
    ),
    url="https://data.mendeley.com/datasets/56rmx5bjcr/1",
    size="unknown",
    layout="KneeXrayData.zip: ClsKLData/kneeKL224 and kneeKL299, each with train, val, test and auto_test (as ZIPs or folders) of class "
    "folders 0 to 4; "
    "PNG at 224 or 299 px, one knee each; names are patient and side: 9003175L.png",
    traps=(
        "auto_test holds the test knees again, cropped by another detector: never train on it",
        "kneeKL224 and kneeKL299 are the same knees at two sizes",
        "a set that circulates as 'OSAIL KL' is this one with its contrast changed; pools of 9,786 images mix the test knees into training",
        "grades are noisy: human readers reach a weighted kappa of 0.56 to 0.85; grade 1 is the hard one",
        "some knees are negatives (bone dark): 14 of the 826 of val, always both knees of a person",
        "models pretrained on OAI films have seen many of the test patients",
    ),
    access=WebFile(url="https://data.mendeley.com/public-api/zip/56rmx5bjcr/download/1", name="chen2018.zip"),
    unverified=("the download address: Mendeley's form for whole data sets, not tried from here", "the size and hash of the download"),
    redundant=(
        Redundant("auto_test", "the test knees again, cropped by another detector"),
        Redundant("kneeKL224", "the knees of kneeKL299 at a smaller size", beside="kneeKL299"),
    ),
    file_name=re.compile(r"^(?P<patient>9\d{6})(?P<side>[LR])(?:_\d+)?$"),
)
