"""NHANES III knee films, 1988-1994: digitised films of a population survey, most without a public grade."""

from __future__ import annotations

from kneexray.datasets.catalogue.record import ByHand, Card

CARD = Card(
    name="nhanes3",
    title="NHANES III knee radiographs, 1988-1994",
    task="kl",
    labels="readings of osteophytes, sclerosis and chondrocalcinosis in a separate file (11A), for phase 2; films of phase 1 have none",
    counts="4,908 knee films (and 4,769 hand films) of 5,020 people; readings for 2,589 people",
    licence="U.S. government survey data; see the data use restrictions of the National Center for Health Statistics",
    citation=(
        "National Center for Health Statistics. Third National Health and Nutrition Examination Survey (NHANES III), 1988-94: hand and "
        "knee X-ray images "
        "(series 11, 48A); knee osteoarthritis X-ray readings (series 11, 11A)."
    ),
    url="https://wwwn.cdc.gov/Nchs/data/nhanes3/48a/NH3_XRay.htm",
    size="unknown",
    layout="one digitised film a person, both knees, straight AP, not weight bearing; DICOM made by a film digitiser",
    traps=(
        "not weight bearing: joint space looks wider than on the standing films that models are trained on",
        "both knees on one film: locate each before grading",
        "people of 60 years and older",
        "film scans: scratches, labels and borders",
    ),
    access=ByHand(
        "Open the page, follow its data link, download the knee films and, for readings, file 11A. "
        "Then write a CSV with the columns path, label, patient_id and run 'kneexray data prepare' on it."
    ),
    unverified=("file names and sizes of the download",),
)
