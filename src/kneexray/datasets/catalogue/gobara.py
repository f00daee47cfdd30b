"""The multi-class knee osteoporosis set of Kaggle (mohamedgobara): pooled from other sets."""

from __future__ import annotations

from kneexray.datasets.catalogue.record import Card, Kaggle

CARD = Card(
    name="gobara",
    title="Multi-Class Knee Osteoporosis X-Ray Dataset (Kaggle, mohamedgobara)",
    task="osteoporosis",
    labels="Normal, Osteopenia, Osteoporosis",
    counts="1,947 images: 780 normal, 374 osteopenia, 793 osteoporosis",
    licence="unknown: see the Kaggle page",
    citation="Knee Osteoporosis Diagnosis Based on Deep Learning. Int J Comput Intell Syst 2024, doi:10.1007/s44196-024-00615-4 (named "
    "by the Kaggle page).",
    url="https://www.kaggle.com/datasets/mohamedgobara/multi-class-knee-osteoporosis-x-ray-dataset",
    size="1.17 GB",
    layout="'OS Collected Data' with the class folders Normal, Osteopenia, Osteoporosis; JPEG and PNG",
    traps=(
        "gathered from various sources, the Wani films among them: never a test set for a model that has seen those",
        "no patient ids, crops and copies: split by near-duplicate cluster only",
    ),
    access=Kaggle("mohamedgobara/multi-class-knee-osteoporosis-x-ray-dataset"),
    unverified=("counts, size and folder names, told by third parties",),
)
