"""Inference: model bundles, what networks run on, preprocessing, calibration and prediction sets."""
