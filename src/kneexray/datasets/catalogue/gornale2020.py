"""Gornale and Patravali 2020: 1,650 digital knee radiographs, graded by two experts, KL 0-4."""

from __future__ import annotations

import re

from kneexray.datasets.catalogue.record import Card, Redundant, WebFile

CARD = Card(
    name="gornale2020",
    title="Digital Knee X-ray Images (Gornale and Patravali 2020)",
    task="kl",
    labels="KL 0 to 4 (folders 0Normal, 1Doubtful, 2Mild, 3Moderate, 4Severe), once by each of two experts",
    counts="1,650 images as published; counts a class: unknown",
    licence="CC BY 4.0",
    citation="Gornale S, Patravali P. Digital Knee X-ray Images. Mendeley Data, V1, 2020, doi:10.17632/t9ndx37v5h.1.",
    url="https://data.mendeley.com/datasets/t9ndx37v5h/1",
    size="unknown",
    layout="MedicalExpert-I and MedicalExpert-II, each with class folders; mostly PNG of 300 x 162 px, some 640 x 161 (both knees), "
    "some of 16 bits",
    traps=(
        "the two folders hold the same files: they must never be split against each other",
        "the experts differ on a few images (normal or doubtful)",
        "a copy holds pixel-identical images, some of them under two grades",
        "many images are crops or mirror images of others: an audit of 837 of them finds 102 clusters, some of 10 and more images",
        "no patient ids: splits must be by near-duplicate cluster",
    ),
    access=WebFile(url="https://data.mendeley.com/public-api/zip/t9ndx37v5h/download/1", name="gornale2020.zip"),
    unverified=("the download address: Mendeley's form for whole data sets, not tried from here", "the size and hash of the download"),
    redundant=(
        Redundant(
            "MedicalExpert-II",
            "the same films, graded by the second expert; prepare that folder alone to use those grades",
            beside="MedicalExpert-I",
        ),
    ),
    file_name=re.compile(r"^(?:Normal|Doubtful|Mild|Moderate|Severe)G[0-4] ?\(\d+\)$"),
)
