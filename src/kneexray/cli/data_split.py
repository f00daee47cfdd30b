"""``kneexray data split``, and which images any split must keep together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneexray.cli._bars import files_bar
from kneexray.cli._data_text import say_splits
from kneexray.cli._task import TaskOption, task_at

if TYPE_CHECKING:
    from kneexray.datasets.manifest import Manifest


def split(
    data: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest, folder or archive.")],
    out: Annotated[
        Path, typer.Option("--out", help="The manifest to write (CSV or Parquet); with --folds, one a fold: NAME.fold0.csv ...")
    ],
    fractions: Annotated[str, typer.Option(help="Shares in per cent: train/val (80/20) or train/val/test (70/10/20).")] = "80/20",
    folds: Annotated[int, typer.Option(min=0, help="Make this many folds instead (cross-validation).")] = 0,
    seed: Annotated[int, typer.Option(help="Another number gives another split.")] = 0,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="The audit.json of this data: keeps near-duplicate clusters together.")
    ] = None,
    by: Annotated[str, typer.Option(help="patient; image keeps nothing together: for studies of what such a split does.")] = "patient",
    task: TaskOption = "",
) -> None:
    """Split by patient, or by near-duplicate cluster where patients are unknown: stratified, seeded, the same to the byte each time."""
    from kneexray.datasets import manifest as manifests
    from kneexray.datasets import split as splits
    from kneexray.errors import ConfigError, choices

    manifest = manifests.load(data, task=task_at(data, task).name)
    if by not in splits.UNITS:
        raise ConfigError(choices("--by", by, splits.UNITS))
    clusters = clusters_of(audit, manifest) if by == "patient" else []
    if folds:
        made = splits.folds(manifest, k=folds, seed=seed, clusters=clusters, by=by)
        names = [out.with_name(f"{out.stem}.fold{i}{out.suffix}") for i in range(folds)]
    else:
        made, names = (splits.split(manifest, parts=splits.parse_fractions(fractions), seed=seed, clusters=clusters, by=by),), [out]
    for part, name in zip(made, names, strict=True):
        manifests.write(part, name)
        typer.echo(f"{name}")
        say_splits(part)


def clusters_of(audit: Path | None, manifest: Manifest) -> list[list[str]]:
    """Return the clusters of an audit; of the one beside the manifest if none is named; of one made now where a patient is not known."""
    from kneexray.datasets.audit import audit as audits
    from kneexray.datasets.audit.items import items_of

    known = audit or audits.beside(manifest)
    if known is not None:
        clusters = audits.clusters_of(known, manifest)
        typer.echo(f"near-duplicates: as {known} has them", err=True)
        return clusters
    if all(e.patient_id for e in manifest.examples):
        return []
    typer.echo("patients are not known for every image: looking for near-duplicates, which must stay together", err=True)
    with files_bar("looking", len(manifest.examples)) as progress:
        return [list(group) for group in audits.audit(items_of(manifest), progress=progress).clusters]
