"""A bundle's card as a page to read, in the form that model hubs expect (YAML front matter, then Markdown)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kneexray.bundle import Card, MemberCard
from kneexray.tasks import TASKS

PAGE = "README.md"
_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "qwk": "quadratic weighted kappa",
    "mae": "mean absolute error, grades",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC (one against the rest)",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "nll": "negative log likelihood",
}


def markdown(card: Card) -> str:
    """Return the page of ``card``: what the model is for, how it was made, what it scored, and what it must not be used for."""
    task, size = TASKS[card.task], card.input.size
    rows = "\n".join(f"| {title} | {_interval(card.scores[name])} |" for name, title in _NAMES.items())
    oa = card.scores.get("oa")
    if oa:
        rows += "".join(f"\n| OA (KL >= 2): {part} | {_interval(oa[part])} |" for part in ("auc", "sensitivity", "specificity"))
    grades = "\n".join(f"- **{task.display(i)}**: {meaning}" for i, meaning in enumerate(task.meanings))
    limits = "\n".join(f"- {sentence}" for sentence in card.limitations)
    mirrored = "averaged over the image and its mirror image" if card.mirrored_averaging else "of one pass"
    return f"""---
license: {card.licence.lower()}
library_name: kneexray
pipeline_tag: image-classification
tags: [radiograph, knee, {card.task}, onnx]
---
# {card.model_id}

{task.title} of one knee on a frontal radiograph. **For research use. Not a medical device.**

{grades}

{card.intended_use}

## Scores

On {card.scores["n"]} images of {card.scores["n_patients"]} patients, answers {mirrored}: {card.scores_on}. Value and 95 % interval
({card.data.split_quality}-level bootstrap).

| metric | value |
|---|---|
{rows}

## How it was made

- Data: {card.data.title}: {card.data.images} images of {card.data.patients} patients, split by {card.data.split_quality}.
  Licence of the data: {card.data.licence}. SHA-256 of files, labels and splits: `{card.data.sha256}`.
- Network: {card.parameters / 1e6:.1f} million parameters, grey input of {size} x {size} px. SHA-256 of `model.onnx`: `{card.sha256}`.
- Command: `{card.command}`
- Licence: {card.licence}.
{"".join(map(_member, card.members))}
## Limits

{limits}

## Use

```python
from kneexray import Predictor

for film in Predictor(models=["path/to/this/folder"], tasks=["{card.task}"]).predict(["films/"]):
    print(film.source, [prediction.label for prediction in film.predictions], [rejection.reason for rejection in film.rejections])
```
"""


def _member(member: MemberCard) -> str:
    recipe = member.recipe
    return f"""
### {recipe["model"]["backbone"]}

Trained by `{member.command}` from {member.starting_point} ({member.starting_point_licence}); the averaged weights of epoch
{member.best_epoch + 1} of {recipe["optim"]["epochs"]}. The recipe, resolved:

```json
{json.dumps(recipe, indent=1)}
```
"""


def _interval(score: Mapping[str, Any]) -> str:
    if score["value"] is None:
        return "not defined"
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
