"""The two-class knee osteoporosis set of Kaggle (stevepython)."""

from __future__ import annotations

from kneexray.datasets.catalogue.record import Card, Kaggle

CARD = Card(
    name="stevepython",
    title="Osteoporosis Knee X-ray Dataset (Kaggle, stevepython)",
    task="osteoporosis",
    labels="normal, osteoporosis (no osteopenia)",
    counts="372 images: 186 normal, 186 osteoporosis",
    licence="unknown: see the Kaggle page",
    citation="unknown: the Kaggle page names no paper that could be confirmed here",
    url="https://www.kaggle.com/datasets/stevepython/osteoporosis-knee-xray-dataset",
    size="unknown",
    layout="one folder a class; copies of a part of them in small train and test folders lie beside",
    traps=(
        "without osteopenia the question is easier than it looks, and figures do not compare with three-class ones",
        "a small ready-made train/test split repeats a part of the files: audit before use",
        "no patient ids: split by near-duplicate cluster only",
        "whether its films overlap with the Wani set was not checked here: audit both together",
    ),
    access=Kaggle("stevepython/osteoporosis-knee-xray-dataset"),
    unverified=("counts and folders, told by a third party",),
)
