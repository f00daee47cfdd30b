"""An audit as files: ``audit.json``, and one self-contained HTML page that shows the offending images side by side."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets.audit.audit import SMALLEST, Audit, to_dict
from kneexray.datasets.audit.items import Item
from kneexray.datasets.audit.register import FEWEST_POINTS, LEAST_AGREEMENT
from kneexray.files import make_folder, write_whole
from kneexray.pages.page import Table, caution, data_uri, page, table, tile
from kneexray.read import read_bytes

SHOWN = 24
"""How many groups of a kind the page shows; the rest is in ``audit.json``."""
_FILMS, _FILES = 4, 10
_HEIGHT = 240

DEFINITIONS: MappingProxyType[str, str] = MappingProxyType(
    {
        "Exact copies": "Files with the same bytes, or images with the same pixels whatever the file format.",
        "Near-duplicates": "Images of one film that was mirrored, turned, cropped, resized, encoded again, or given another contrast. "
        f"Distinctive points must agree ({FEWEST_POINTS} or more), and the detail of the laid-over images must correlate "
        f"({LEAST_AGREEMENT:g} or more).",
        "Label conflicts": "Copies, exact or near, that carry different labels. At most one of the labels is right.",
        "Leaks": "Copies in more than one split, or images of one patient in more than one split: what is measured there is memory.",
        "Confounds": "The label guessed from the file alone, without its image. Chance is 1 / number of classes; p is the share of "
        "shuffled labellings "
        "that do as well.",
        "Suspicious": f"Images that cannot be read, are (almost) constant, look inverted, or have fewer than {SMALLEST} pixels on a side.",
    }
)
NOTHING = "No copy across splits, no label conflict, no confound and no suspicious image was found."
_LEAKS: MappingProxyType[str, str] = MappingProxyType(
    {
        "exact": "identical images in more than one split",
        "near": "near-duplicates in more than one split",
        "recrop": "the same film, cropped anew, in more than one split",
        "patient": "one patient in more than one split",
        "sets": "the same film in more than one of the audited sets",
    }
)


def write_audit(found: Audit, out: Path, *, title: str, digest: str, provenance: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write ``audit.json`` and ``audit.html`` into ``out`` and return the page's path; raises :class:`~kneexray.errors.OutputError` where
    that fails.
    """
    make_folder(out)
    write_whole(out / "audit.json", json.dumps(to_dict(found, digest=digest), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(out / "audit.html", render(found, title=title, provenance=provenance))
    return out / "audit.html"


def verdict(found: Audit) -> list[str]:
    """Return what has to be mended, a sentence each; empty where nothing was found."""
    kinds = Counter(kind for kind, _ in found.leaks)
    sentences = [f"{n:,} {'case' if n == 1 else 'cases'} of {_LEAKS[kind]}." for kind, n in kinds.items()]
    if found.conflicts:
        sentences.append(f"{len(found.conflicts):,} group(s) of copies carry different labels.")
    sentences += [
        f"The label can be told from the {c.feature} alone: balanced accuracy {c.balanced_accuracy:.2f}, chance {c.chance:.2f}."
        for c in found.confounds
        if c.found
    ]
    if found.suspicious:
        sentences.append(f"{len(found.suspicious):,} image(s) are suspicious.")
    return sentences


def render(found: Audit, *, title: str, provenance: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the HTML page, pictures included."""
    labels = Counter(_label(item) or "without a label" for item in found.items)
    splits = Counter(item.split for item in found.items if item.split)
    return page(
        "audit",
        title=f"Audit of {title}",
        subtitle=[f"{len(found.items):,} images: {_counted(labels)}." + (f" Splits: {_counted(splits)}." if splits else "")],
        how="How this was found",
        facts=(provenance, DEFINITIONS),
        footer="Made by KneeXRay; the same findings, all of them, are in audit.json.",
        verdict=caution("To be mended before anything is trained or judged on these images", verdict(found)) or f"<p>{NOTHING}</p>",
        headline="\n".join(_tiles(found)),
        sections="\n".join(_sections(found)),
    )


def _tiles(found: Audit) -> Iterable[str]:
    copies = sum(len(group) - 1 for group in found.clusters_at)
    rows = (
        ("Images", len(found.items), f"{len(found.items) - copies:,} different films"),
        ("Exact copies", len(found.exact), "groups"),
        ("Near-duplicates", len(found.near), "groups"),
        ("Label conflicts", len(found.conflicts), "groups"),
        ("Split leaks", len(found.leaks), "cases"),
        ("Suspicious", len(found.suspicious), "images"),
    )
    for name, number, unit in rows:
        yield tile(name, f"{number:,}", unit)


def _sections(found: Audit) -> Iterable[str]:
    picture = _Pictures(found.items)
    how = {frozenset((pair.first, pair.second)): pair.how for pair in found.pairs}
    conflicts = set(found.conflicts)

    def shown(groups: Sequence[tuple[int, ...]], heading: Callable[[tuple[int, ...]], str]) -> str:
        cards = "\n".join(_card(found.items, group, heading(group), picture, clash=group in conflicts) for group in groups[:SHOWN])
        more = f'<p class="muted">{len(groups) - SHOWN:,} more in audit.json.</p>' if len(groups) > SHOWN else ""
        return f'<div class="groups">\n{cards}\n</div>\n{more}'

    def what(group: tuple[int, ...]) -> str:
        told = sorted({how[pair] for i in group for j in group if i < j and (pair := frozenset((i, j))) in how})
        return "; ".join(told[:3]) or "identical"

    if found.conflicts:
        text = "One film under two labels: --fix drops all of its files, since nobody can say here which label is right."
        yield f"<h2>Label conflicts</h2><p>{text}</p>{shown(found.conflicts, what)}"
    if found.leaks:
        text = "Split again with kneexray data split, which keeps patients and clusters together."
        yield f"<h2>Split leaks</h2><p>{text}</p>"
        for kind in _LEAKS:
            if groups := [group for found_kind, group in found.leaks if found_kind == kind]:
                yield shown(groups, dict.fromkeys(groups, _LEAKS[kind]).__getitem__)
    if found.near:
        text = "What was done to one image to make the other is told as far as it can be seen."
        yield f"<h2>Near-duplicates</h2><p>{text}</p>{shown(found.near, what)}"
    if found.exact:
        yield f"<h2>Exact copies</h2><p>The same bytes, or the same pixels.</p>{shown(found.exact, lambda g: f'{len(g)} identical files')}"
    if found.confounds:
        yield f"<h2>Can the label be told without the image?</h2>{_confounds(found)}"
    if found.suspicious:
        reasons = dict(found.suspicious)
        text = "Look at them before they are used."
        yield f"<h2>Suspicious images</h2><p>{text}</p>{shown([(i,) for i in reasons], lambda g: reasons[g[0]])}"


def _card(items: Sequence[Item], group: tuple[int, ...], heading: str, picture: _Pictures, *, clash: bool) -> str:
    films = "".join(picture(place) for place in _shown(items, group))
    listed = sorted({*_shown(items, group), *group[: max(0, _FILES - _FILMS)]})
    rows = "".join(f"<li><code>{escape(items[i].file)}</code><span>{escape(_tag(items[i]))}</span></li>" for i in listed)
    more = f"<li><code>and {len(group) - len(listed):,} more</code></li>" if len(group) > len(listed) else ""
    told = escape(heading[:1].upper() + heading[1:])
    caption = f'<figcaption><b>{told}</b><ul class="files{" clash" if clash else ""}">{rows}{more}</ul></figcaption>'
    return f"<figure><div class=films>{films}</div>{caption}</figure>"


def _shown(items: Sequence[Item], group: tuple[int, ...]) -> list[int]:
    """Return the images of a group to show: at least one of each label, then the first ones."""
    one_each = list({items[i].label: i for i in reversed(group)}.values())
    return sorted({*one_each[:_FILMS], *group[: max(0, _FILMS - len(one_each))]})


def _tag(item: Item) -> str:
    return " · ".join(part for part in (_label(item), item.split) if part)


def _label(item: Item) -> str:
    return f"KL {item.label}" if item.task == "kl" and item.label else item.label


class _Pictures:
    """Draws images for the page, each read again from where it lies."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._drawn: dict[int, str] = {}

    def __call__(self, place: int) -> str:
        if place not in self._drawn:
            self._drawn[place] = self._draw(self._items[place])
        return self._drawn[place]

    @staticmethod
    def _draw(item: Item) -> str:
        from kneexray.errors import ReadError

        try:
            found = read_bytes(item.source.load(), source=item.file).radiographs
        except ReadError:
            return ""
        return f'<img src="{_jpeg(found[0].pixels)}" alt="{escape(item.file)}" loading="lazy">' if found else ""


def _jpeg(pixels: NDArray[np.float32]) -> str:
    from PIL import Image

    image = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    image.thumbnail((2 * _HEIGHT, _HEIGHT))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return data_uri(data.getvalue())


def _confounds(found: Audit) -> str:
    rows = tuple(
        (c.feature, f"{c.balanced_accuracy:.3f}", f"{c.chance:.3f}", f"{c.p_value:.3f}", "yes" if c.found else "no")
        for c in found.confounds
    )
    return table(Table("", ("Known of the file", "Balanced accuracy", "Chance", "p", "Confounded"), rows))


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items()))
