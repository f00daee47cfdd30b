"""A bundle's card as a page to read, in the form that model hubs expect: YAML front matter with the scores, then Markdown.

Format: the Hugging Face model card (huggingface.co/docs/hub/model-cards), scores as its ``model-index``. A folder with this page as
``README.md`` can be uploaded as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kneexray.datasets.catalogue import CATALOGUE
from kneexray.errors import DataError
from kneexray.evaluation.metric_table import METRICS
from kneexray.inference.bundle import Card, MemberCard
from kneexray.tasks import TASKS

PAGE = "README.md"
OA: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "auc": ("roc_auc", "OA (KL >= 2): AUC"),
        "sensitivity": ("recall", "OA (KL >= 2): sensitivity"),
        "specificity": ("specificity", "OA (KL >= 2): specificity"),
    }
)
_KINDS = {"average": "on average", "per_class": "within each class"}


def markdown(card: Card, evaluations: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the page of ``card``: what the model is for, how it was made, what it scored, and what it must not be used for.

    ``evaluations`` are the contents of ``metrics.json`` of further evaluations of this very model: their scores go beside the card's.
    Raises :class:`~kneexray.errors.DataError` for one of another model.
    """
    for evaluation in evaluations:
        if evaluation["model_id"] != card.model_id:
            raise DataError(f"the evaluation is of model {evaluation['model_id']}, the card of {card.model_id}; evaluate this model.")
    task, size = TASKS[card.task], card.input.size
    grades = "\n".join(f"- **{task.display(i)}**: {meaning}" for i, meaning in enumerate(task.meanings))
    limits = "\n".join(f"- {sentence}" for sentence in card.limitations)
    mirrored = "averaged over the image and its mirror image" if card.mirrored_averaging else "of one pass"
    scores = "\n".join(_further(evaluation) for evaluation in evaluations)
    return f"""{_front_matter(card, evaluations)}
# {card.model_id}

{task.title} of one knee on a frontal radiograph. **For research use. Not a medical device.**

{grades}

{card.intended_use}

## Scores

On {card.scores["n"]} images of {card.scores["n_patients"]} patients, answers {mirrored}: {card.scores_on}. Value and 95 % interval
({card.data.split_quality}-level bootstrap).

{_table(card.scores)}
{_also(card)}{scores}{_calibration(card)}
## How it was made

- Data: {card.data.title}: {card.data.images} images of {card.data.patients} patients, split by {card.data.split_quality}.
  Licence of the data: {card.data.licence}. SHA-256 of files, labels and splits: `{card.data.sha256}`.
- Network: {card.parameters / 1e6:.1f} million parameters, grey input of {size} x {size} px. SHA-256 of `model.onnx`: `{card.sha256}`.
{_quantization(card)}- Command: `{card.command}`
- Licence: {card.licence}.
{"".join(_members(card.members))}
## Limits

{limits}

## Use

```python
from kneexray import Predictor

for film in Predictor(models=["path/to/this/folder"], tasks=["{card.task}"]).predict(["films/"]):
    print(film.source, [prediction.label for prediction in film.predictions], [rejection.reason for rejection in film.rejections])
```
{_citation(card)}"""


def _also(card: Card) -> str:
    """Return the table of the further tasks that the same network answers; nothing where there is none."""
    if not card.also:
        return ""
    rows = "\n".join(
        f"| {TASKS[head.task].title} (`{head.task}`) | {head.scores['n']} | {_interval(head.scores['accuracy'])} "
        f"| {_interval(head.scores['qwk'])} | {_interval(head.scores['macro_auc'])} |"
        for head in card.also
    )
    lengths = (
        f"\nThe network gives {len(card.lengths)} joint space widths as well, as shares of the condyles' width.\n" if card.lengths else ""
    )
    return f"""
In the same pass the network answers, on those of these images that were read for it:

| task | n | accuracy | quadratic weighted kappa | macro AUC |
|---|---|---|---|---|
{rows}
{lengths}
"""


def _front_matter(card: Card, evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Return the YAML block; every text in it is quoted as JSON, which YAML reads."""
    results = [_result(card, card.scores, name=card.data.title, split="validation")]
    for evaluation in evaluations:
        results.append(_result(card, evaluation, name=", ".join(evaluation["sources"]), split=", ".join(evaluation["splits"])))
    types = list(dict.fromkeys(metric.hub for metric in METRICS.values()))
    return "\n".join(
        [
            "---",
            f"license: {card.licence.lower()}",
            "library_name: kneexray",
            "pipeline_tag: image-classification",
            f"tags: {json.dumps(['radiograph', 'x-ray', 'knee', 'medical', card.task, 'onnx'])}",
            f"metrics: {json.dumps(types)}",
            "model-index:",
            f"- name: {json.dumps(card.model_id)}",
            "  results:",
            *results,
            "---",
        ]
    )


def _result(card: Card, scores: Mapping[str, Any], *, name: str, split: str) -> str:
    title = json.dumps(TASKS[card.task].title)
    lines = [
        f'  - task: {{"type": "image-classification", "name": {title}}}',
        f'    dataset: {{"type": {json.dumps(_slug(name))}, "name": {json.dumps(name)}, "split": {json.dumps(split)}}}',
        "    metrics:",
    ]
    for kind, metric, score in _scores(scores):
        if score["value"] is not None:
            bounds = "" if score["low"] is None else f", 95 % interval {score['low']:.3f} to {score['high']:.3f}"
            lines.append(f'    - {{"type": {json.dumps(kind)}, "value": {score["value"]:.4f}, "name": {json.dumps(metric + bounds)}}}')
    return "\n".join(lines)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"


def _scores(scores: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield type, name and score of each metric that ``scores`` has."""
    for name, metric in METRICS.items():
        yield metric.hub, metric.name, scores[name]
    for name, (kind, title) in OA.items() if scores.get("oa") else ():
        yield kind, title, scores["oa"][name]


def _table(scores: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {title} | {_interval(score)} |" for _, title, score in _scores(scores))
    return f"| metric | value |\n|---|---|\n{rows}"


def _further(evaluation: Mapping[str, Any]) -> str:
    data = f"{', '.join(evaluation['sources'])}, split {', '.join(evaluation['splits'])}"
    unit = evaluation["bootstrap"]["unit"]
    told = (
        f"{evaluation['n']} images of {evaluation['n_patients']} {unit}s, split by {evaluation['split_quality']}; {unit}-level bootstrap."
    )
    return f"\n### On {data}\n\n{told}\n\n{_table(evaluation)}\n"


def _calibration(card: Card) -> str:
    found = card.scores.get("cross_fitted")
    if not found:
        return ""
    rows = "\n".join(
        f"| {entry['coverage']:.0%} {_KINDS[entry['kind']]} | {_interval(entry['measured'])} | {_interval(entry['mean_size'])} |"
        for entry in found["sets"]
    )
    return f"""
## Calibration and prediction sets

Probabilities are calibrated by {found["scaling"]} scaling. On the same images, each fifth of the patients calibrated by the others:
expected calibration error {_interval(found["ece"])}, negative log likelihood {_interval(found["nll"])}. Prediction sets, made alike:

| asked for | held the true grade | mean size |
|---|---|---|
{rows}
"""


def _quantization(card: Card) -> str:
    if card.quantization is None:
        return ""
    found = card.quantization
    return (
        f"- Computes in 8 bits: {found['method']}, ranges set by {found['images']} training images. Against the same network in float32, "
        f"on the images above: {changes(found)}. Scores, calibration and prediction sets are the 8-bit network's own.\n"
    )


def changes(quantization: Mapping[str, Any]) -> str:
    """Return in words what 8 bits changed: the differences of accuracy and kappa with their intervals, and how many answers stayed."""
    loss = quantization["loss"]
    told = [f"{METRICS[name].name} {_interval(loss[name], form='+.3f')}" for name in ("accuracy", "qwk") if name in loss]
    return f"{', '.join(told)}; {quantization['agreement']:.1%} of the answers are the same"


def _members(members: Sequence[MemberCard]) -> Iterator[str]:
    """Yield how each network was made; networks that differ in their data alone, as the folds of a cross-validation do, together."""
    alike: dict[str, list[MemberCard]] = {}
    for member in members:
        alike.setdefault(json.dumps([member.command, member.recipe, member.starting_point]), []).append(member)
    for group in alike.values():
        yield _made(group)


def _made(group: Sequence[MemberCard]) -> str:
    member, recipe = group[0], group[0].recipe
    number = f"{len(group)} networks, each trained" if len(group) > 1 else "Trained"
    epochs = ", ".join(dict.fromkeys(str(one.best_epoch + 1) for one in group))
    return f"""
### {recipe["model"]["backbone"]}

{number} by `{member.command}` from {member.starting_point} ({member.starting_point_licence}); the averaged weights of epoch
{epochs} of {recipe["optim"]["epochs"]}. The recipe, resolved:

```json
{json.dumps(recipe, indent=1)}
```
"""


def _citation(card: Card) -> str:
    source = next((data for data in CATALOGUE.values() if data.title == card.data.title), None)
    return f"\n## Cite\n\nThe data: {source.citation} {source.url}\n" if source else ""


def _interval(score: Mapping[str, Any], *, form: str = ".3f") -> str:
    if score["value"] is None:
        return "not defined"
    if score["low"] is None:
        return f"{score['value']:{form}}"
    return f"{score['value']:{form}} ({score['low']:{form}} to {score['high']:{form}})"
