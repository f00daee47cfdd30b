"""``kneexray data``: the catalogue of public data sets, and what makes a data set one that can be trusted."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from kneexray.cli import data_split
from kneexray.cli._bars import bytes_bar, files_bar
from kneexray.cli._data_text import in_short, say_audit, say_left_out, say_splits, whole
from kneexray.cli._record import write_record
from kneexray.cli._task import TaskOption, task_at

app = typer.Typer(no_args_is_help=True, help="Public data sets: list, fetch, import, audit for leaks, split by patient.")


@app.command("list")
def list_sets(
    name: Annotated[str, typer.Argument(help="A data set, to see its whole card; all of them, in short, if left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the catalogue of public data sets: labels, counts, licence, source, known traps."""
    from kneexray.datasets.catalogue import CATALOGUE, get_card

    cards = [get_card(name)] if name else list(CATALOGUE.values())
    if as_json:
        typer.echo(json.dumps([card.to_dict() for card in cards], indent=2, ensure_ascii=False))
    elif name:
        typer.echo(whole(cards[0]))
    else:
        typer.echo("\n\n".join(in_short(card) for card in cards))
        typer.echo("\nWhole card: kneexray data list NAME. Download: kneexray data fetch NAME.")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set of the catalogue (kneexray data list).")],
    out: Annotated[Path | None, typer.Option("--out", help="The folder to download into; data/NAME unless named.")] = None,
) -> None:
    """Download a public data set: resumed, retried, checked. Says what to do where a person has to act."""
    from kneexray.datasets.catalogue import get_card
    from kneexray.datasets.catalogue.record import UNKNOWN
    from kneexray.datasets.fetch import fetch as bring
    from kneexray.inference.bundle import sha256_of

    card, started = get_card(name), datetime.now(UTC)
    folder = out or Path("data") / card.name
    typer.echo(f"{card.title}\nlicence: {card.licence}\nfrom: {card.url}", err=True)
    with bytes_bar(card.name) as progress:
        place = bring(card, folder, progress=progress)
    sha256 = sha256_of(place) if place.is_file() else ""
    outputs = {place.name: sha256 or "folder", "checked": card.sha256 != UNKNOWN}
    write_record(folder, started, config={"name": name}, inputs={}, outputs=outputs)
    if sha256:
        typer.echo(f"sha256 {sha256} ({'as expected' if card.sha256 != UNKNOWN else 'no trusted hash is known to check it against'})")
    typer.echo(f"{place}\nnext: kneexray data prepare {place} --out {folder / 'prepared'}")


@app.command()
def prepare(
    path: Annotated[
        Path, typer.Argument(help="A folder of classes, a ZIP or TAR (archives within too), or a CSV or Parquet table of files and labels.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write the manifest (and the images of archives) into.")],
    task: TaskOption = "",
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", help="PATH is a table of the Osteoarthritis Initiative; these are its images, or further tables."),
    ] = None,
    unread_is_none: Annotated[
        bool, typer.Option("--unread-is-none", help="With --images: osteophytes of a knee of KL 0 that were not read are 0.")
    ] = False,
) -> None:
    """Import a data set as it was published: check every image, map the class names, write one manifest."""
    if images:
        _prepare_readings(path, images, out, unread_is_none=unread_is_none)
        return
    from kneexray.datasets import manifest as manifests
    from kneexray.datasets.prepare import prepare as bring
    from kneexray.inference.bundle import sha256_of

    started, wanted = datetime.now(UTC), task_at(path, task)
    with files_bar("reading", None) as progress:
        imported = bring(path, out, task=wanted, progress=progress)
    manifest = manifests.Manifest(wanted, imported.examples, out)
    manifests.write(manifest, out / manifests.NAME)
    left_out = [{"file": item.name, "reason": item.reason, "repeats": item.repeats} for item in imported.left_out]
    outputs = {"manifest": manifests.NAME, "images": len(imported.examples), "left_out": left_out}
    inputs = {str(path): sha256_of(path)} if path.is_file() else {str(path): manifest.digest()}
    write_record(out, started, config={"path": str(path), "task": wanted.name}, inputs=inputs, outputs=outputs)
    say_splits(manifest)
    say_left_out([(item.name, item.reason) for item in imported.left_out])
    typer.echo(f"{out / manifests.NAME}\nnext: kneexray data audit {out / manifests.NAME} --out {out / 'audit'}")


def _prepare_readings(table: Path, places: list[Path], out: Path, *, unread_is_none: bool) -> None:
    from kneexray.datasets import manifest as manifests
    from kneexray.datasets import oai
    from kneexray.inference.bundle import sha256_of
    from kneexray.tasks import get_task

    started = datetime.now(UTC)
    tables = [table, *(place for place in places if place.is_file())]
    folders = [place for place in places if place.is_dir()]
    read = oai.import_readings(tables, folders, unread_is_none=unread_is_none)
    manifests.write(manifests.Manifest(get_task("kl"), read.examples, out), out / manifests.NAME)
    oai.write_lengths(read.lengths, out / oai.LENGTHS_FILE)
    outputs = {"rows": len(read.examples), "knees with lengths": len(read.lengths), "without a reading": list(read.without)}
    inputs = {str(one): sha256_of(one) for one in tables}
    write_record(out, started, config={"tables": list(inputs), "unread_is_none": unread_is_none}, inputs=inputs, outputs=outputs)
    knees = len({(e.patient_id, e.side) for e in read.examples})
    typer.echo(f"{knees:,} knees with readings, {len(read.lengths):,} with lengths; {len(read.without):,} images without a reading")
    typer.echo(f"{out / manifests.NAME}\n{out / oai.LENGTHS_FILE}")


@app.command()
def audit(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH|MANIFEST...", help="Folders, archives or manifests; several are audited against each other."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write audit.json and audit.html into.")],
    fix: Annotated[bool, typer.Option("--fix", help="Write a cleaned manifest too: conflicts dropped, one file a cluster kept.")] = False,
    task: TaskOption = "",
    jobs: Annotated[int, typer.Option(min=0, help="Threads (0: one a core).")] = 0,
) -> None:
    """Find copies, conflicting labels, leaks between splits, confounds and suspicious images."""
    from kneexray.cli._extras import need

    need("data", "cv2")
    from kneexray.datasets import manifest
    from kneexray.datasets.audit import audit as audits
    from kneexray.datasets.audit import report
    from kneexray.datasets.audit.items import items_at
    from kneexray.tasks import get_task

    started = datetime.now(UTC)
    items = items_at(paths, task=get_task(task) if task else None)
    with files_bar("auditing", len(items)) as progress:
        found = audits.audit(items, jobs=jobs, progress=progress)
    digest = manifest.digest((seen.sha256, item.label, item.split) for item, seen in zip(found.items, found.scans, strict=True))
    title = ", ".join(path.name or str(path) for path in paths)
    seconds = (datetime.now(UTC) - started).total_seconds()
    rows = {
        "Command": _command(),
        "Images": f"{len(items):,} in {seconds:.0f} s",
        "Data": f"{', '.join(map(str, paths))} (sha256 {digest})",
    }
    page = report.write_audit(found, out, title=title, digest=digest, provenance=rows)
    outputs: dict[str, Any] = {"audit": audits.to_dict(found, digest=digest)["figures"], "page": page.name}
    say_audit(found)
    if fix:
        outputs |= _fix(found, out, task)
    config = {"paths": [str(path) for path in paths], "task": task, "fix": fix, "jobs": jobs}
    write_record(out, started, config=config, inputs={", ".join(map(str, paths)): digest}, outputs=outputs)
    typer.echo(f"{page}")


def _fix(found: Any, out: Path, task: str) -> dict[str, Any]:
    """Write the cleaned manifest and say what was dropped; returns what the run's record holds of it."""
    from collections import Counter

    from kneexray.datasets import manifest
    from kneexray.datasets.audit.clean import clean
    from kneexray.errors import ConfigError
    from kneexray.tasks import TASKS, get_task

    named = Counter(item.task for item in found.items if item.task)
    if not task and len(named) != 1:
        raise ConfigError(f"the images are of {'several tasks' if named else 'no task'}; name one with --task: {', '.join(TASKS)}.")
    cleaned, dropped = clean(found, task=get_task(task or next(iter(named))), root=out)
    manifest.write(cleaned, out / "cleaned.csv")
    reasons = Counter(item.reason.split(" to ")[0].split(" of ")[0] for item in dropped)
    typer.echo(f"cleaned: {len(cleaned.examples):,} images kept, {len(dropped):,} dropped -> {out / 'cleaned.csv'}")
    for reason, n in reasons.most_common():
        typer.echo(f"  {n:,} {reason}")
    say_left_out([(item.file, item.reason) for item in dropped], "dropped")
    return {
        "cleaned": "cleaned.csv",
        "kept": len(cleaned.examples),
        "dropped": [{"file": item.file, "reason": item.reason} for item in dropped],
    }


@app.command()
def crop(
    data: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Films: a manifest, folder or archive.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write one image a knee and their manifest into.")],
    boxes: Annotated[Path | None, typer.Option(help="A table file,x0,y0,x1,y1[,side]; other films' knees are located.")] = None,
    source: Annotated[str, typer.Option(help="The data set of the catalogue, where the files' names do not tell.")] = "",
    task: TaskOption = "",
) -> None:
    """Cut the knees out of whole films, which training does not do by itself; knees of a film stay together in later splits."""
    from kneexray.datasets import crops
    from kneexray.datasets import manifest as manifests
    from kneexray.datasets.catalogue import get_card
    from kneexray.inference.bundle import sha256_of

    if source:
        get_card(source)
    started, manifest = datetime.now(UTC), manifests.load(data, task=task_at(data, task).name)
    with files_bar("cropping", len(manifest.examples)) as progress:
        made = crops.crop(manifest, out, boxes=crops.read_boxes(boxes) if boxes else {}, source=source, progress=progress)
    manifests.write(made.manifest, out / manifests.NAME)
    left_out = [{"file": item.name, "reason": item.reason} for item in made.left_out]
    config = {"data": str(data), "boxes": str(boxes) if boxes else None, "task": manifest.task.name}
    inputs = {str(data): manifest.digest(), **({str(boxes): sha256_of(boxes)} if boxes else {})}
    write_record(out, started, config=config, inputs=inputs, outputs={"knees": len(made.manifest.examples), "left_out": left_out})
    say_splits(made.manifest)
    say_left_out([(item.name, item.reason) for item in made.left_out])
    typer.echo(f"{len(manifest.examples) - len(made.left_out)} films, {made.located} of them located\n{out / manifests.NAME}")


app.command()(data_split.split)


def _command() -> str:
    from kneexray.provenance import command_line

    return command_line(sys.argv)
