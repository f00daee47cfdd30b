"""Wani and Arora 2021: knee films with a bone density class by quantitative ultrasound."""

from __future__ import annotations

from kneexray.datasets.catalogue.record import Card, WebFile

CARD = Card(
    name="wani2021",
    title="Knee X-ray Osteoporosis Database (Wani and Arora 2021)",
    task="osteoporosis",
    labels="normal, osteopenia, osteoporosis; an Excel sheet holds the T-scores",
    counts="239 images: 36 normal, 154 osteopenia, 49 osteoporosis; 210 (30/137/43) once conflicts are dropped and duplicates kept once",
    licence="CC BY 4.0 as far as known; its readme says for research use only",
    citation=(
        "Wani IM, Arora S. Knee X-ray Osteoporosis Database. Mendeley Data, V2, 2021, doi:10.17632/fxjm8fb6mw.2. "
        "Wani IM, Arora S. Osteoporosis diagnosis in knee X-rays by transfer learning based on convolution neural network. "
        "Multimed Tools Appl 2023;82:14193-14217."
    ),
    url="https://data.mendeley.com/datasets/fxjm8fb6mw/2",
    size="190,531,319 bytes",
    layout="class folders normal, osteopenia, osteoporosis of JPEG films with one or two knees (N1.jpg, OP1.jpg, OS1.jpg)",
    traps=(
        "21 groups of identical files; 7 of them carry two different labels",
        "labels are by quantitative ultrasound, not DXA",
        "image size is confounded with class",
        "the larger 'knee osteoporosis' sets on the web are mostly crops and copies of these films under other labels: accuracies of 90 "
        "% and more are leakage",
    ),
    access=WebFile(url="https://data.mendeley.com/public-api/zip/fxjm8fb6mw/download/2", name="wani2021.zip"),
    inherited=(
        "Labels come from quantitative ultrasound, not from DXA, which defines the classes.",
        "The films are few and of one source, and their size goes with the class: how the model does elsewhere is not known.",
    ),
    unverified=(
        "the download address: Mendeley's form for whole data sets, not tried from here",
        "the size, told by a third party",
        "the hash",
    ),
)
