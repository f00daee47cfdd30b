"""
Grade a film and show its heatmap
=================================

`Predictor` reads, finds the knees, and answers. A film gives predictions, one a knee and task, and rejections with their reasons.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from kneexray import Predictor
from kneexray.synthetic import write_films

folder = Path(tempfile.mkdtemp())
films = write_films(folder)
results = list(Predictor(tasks=["kl", "oa"]).predict([folder]))
for film in results:
    for prediction in film.predictions:
        print(prediction.knee.side, prediction.task, prediction.label, prediction.probabilities.round(2))

# %%
# The heatmap lies over the knee's box, as it hangs on the film.

prediction = next(p for p in results[-1].predictions if p.task == "kl")
x0, y0, x1, y1 = prediction.knee.box
figure, axes = plt.subplots()
axes.imshow(prediction.knee.radiograph.pixels, cmap="gray")
axes.imshow(prediction.heatmap, cmap="inferno", alpha=0.4, extent=(x0, x1, y1, y0))
axes.set_title(f"KL {prediction.label}, p = {prediction.probabilities.max():.2f}")
axes.axis("off")
plt.show()
