"""What the ``kneexray data`` commands print about data sets, splits and audits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from kneexray.datasets.catalogue.record import Card


def in_short(card: Card) -> str:
    lines = (card.title, f"{card.task}: {card.labels}", card.counts, f"licence: {card.licence}", card.url)
    return "\n".join(f"{card.name if i == 0 else '':14}{line}" for i, line in enumerate(lines))


def whole(card: Card) -> str:
    facts = card.to_dict()
    lines = [f"{card.name}: {card.title}"]
    lines += [f"  {key:12}{facts[key]}" for key in ("task", "labels", "counts", "licence", "citation", "url", "size", "sha256", "layout")]
    for key in ("traps", "unverified"):
        lines += [f"  {key if i == 0 else '':12}- {text}" for i, text in enumerate(facts[key])]
    return "\n".join(lines)


def say_splits(manifest: Any) -> None:
    from kneexray.datasets.split import summary

    counts = summary(manifest)
    labels = manifest.task.labels
    typer.echo(f"{'split':10}" + "".join(f"{label:>14}" for label in labels) + f"{'images':>10}")
    for name, row in counts.items():
        typer.echo(f"{name:10}" + "".join(f"{row[label]:>14,}" for label in labels) + f"{sum(row.values()):>10,}")
    patients = len({e.patient_id for e in manifest.examples if e.patient_id})
    typer.echo(
        f"{len(manifest.examples):,} images, task {manifest.task.name}, {patients:,} patients or clusters, split_quality: "
        f"{manifest.split_quality}"
    )


def say_audit(found: Any) -> None:
    from kneexray.datasets.audit.report import verdict

    rows = (
        ("images", len(found.items)),
        ("groups of exact copies", len(found.exact)),
        ("groups of near-duplicates", len(found.near)),
        ("label conflicts", len(found.conflicts)),
        ("split leaks", len(found.leaks)),
        ("confounds", sum(confound.found for confound in found.confounds)),
        ("suspicious images", len(found.suspicious)),
    )
    for name, number in rows:
        typer.echo(f"{name:28}{number:>10,}")
    for sentence in verdict(found):
        typer.echo(f"- {sentence}")


def say_left_out(items: list[tuple[str, str]], what: str = "left out") -> None:
    if items:
        typer.echo(f"{what}: {len(items):,} file(s), all of them listed in manifest.json; the first:")
        for name, reason in items[:10]:
            typer.echo(f"  {name}: {reason}")
