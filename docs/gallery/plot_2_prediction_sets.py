"""
Prediction sets: how sure is an answer?
=======================================

A prediction set holds the true grade as often as `coverage` asks, on patients like those it was calibrated on. More coverage
asks for larger sets; the sets of an ordinal task have no gaps.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from kneexray import Predictor
from kneexray.synthetic import write_films

folder = Path(tempfile.mkdtemp())
write_films(folder)
coverages = [0.5, 0.7, 0.8, 0.9, 0.95, 0.99]
sizes = []
for coverage in coverages:
    films = Predictor(coverage=coverage, heatmaps=False).predict([folder])
    sizes.append([len(prediction.prediction_set) for film in films for prediction in film.predictions])

figure, axes = plt.subplots()
for knee in zip(*sizes, strict=True):
    axes.plot(coverages, knee, marker="o")
axes.set(xlabel="coverage asked for", ylabel="grades in the set", title="Five drawn knees")
plt.show()
