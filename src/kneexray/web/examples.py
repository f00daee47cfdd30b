"""What OpenAPI shows: the answer to one left knee, and to one chest film."""

from __future__ import annotations

from typing import Any

VISIT = "p7rD0vX2mC4yqWb1tZ8sKj3L"
MODEL = "reading-tf-efficientnet-lite0-320-0123abcd"
PREDICTION: dict[str, Any] = {
    "file": "knee.dcm",
    "sop_instance_uid": "1.2.840.99999.1.2.3",
    "knee": {
        "side": "L",
        "box": [212.0, 340.5, 1012.0, 1140.5],
        "mirrored": True,
        "score": 0.98,
        "measurements": [],
        "pixel_spacing_source": None,
        "side_sources": [{"source": "ImageLaterality", "said": "L", "used": True}],
    },
    "task": "kl",
    "grade": 2,
    "label": "2",
    "labels": ["0", "1", "2", "3", "4"],
    "probabilities": [0.04, 0.17, 0.61, 0.17, 0.01],
    "prediction_set": [1, 2, 3],
    "coverage": 0.9,
    "change": None,
    "heatmap": f"/api/v1/visits/{VISIT}/films/0/knees/0/heatmap.png",
    "warnings": [],
    "model_id": MODEL,
}
REJECTION = {"file": "chest.png", "reason": "not_a_knee", "detail": "no knee in AP view was found on the image"}
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "model_ids": [MODEL],
    "predictions": [PREDICTION],
    "rejections": [REJECTION],
    "visit": VISIT,
}
FILM_LINE: dict[str, Any] = {"film": 0, "of": 1, "file": "knee.dcm", "predictions": [PREDICTION], "rejections": [], "visit": VISIT}
