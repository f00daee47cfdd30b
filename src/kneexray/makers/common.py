"""What the makers of the small networks (localiser, joint space, side markers) share: the descent, the file, the card."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from kneexray import provenance
from kneexray.inference.bundle import sha256_of
from kneexray.train.export.graph import write_onnx
from kneexray.train.export.half_precision import halve

logger = logging.getLogger(__name__)


def descend(
    losses: Iterable[Tensor], groups: Sequence[dict[str, Any]], *, steps: int, rising: float = 0.1, clip: float = 5.0, every: int = 50
) -> Iterator[tuple[int, float]]:
    """Lower ``losses``, one a step, each computed when its turn comes; yield the step and the mean loss ``every`` so many steps.

    ``groups`` are AdamW's parameter groups, each with the highest rate ``lr`` of its one cycle, in which a share ``rising`` of the
    ``steps`` climbs to it. Gradients are cut to the norm ``clip``.
    """
    optimizer = torch.optim.AdamW(list(groups), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [group["lr"] for group in groups], total_steps=steps, pct_start=rising)
    parameters = [p for group in groups for p in group["params"]]
    recent = []
    for step, value in enumerate(losses, start=1):
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        schedule.step()
        recent.append(value.item())
        if step % every == 0:
            yield step, statistics.fmean(recent)
            recent.clear()


def write_network(net: nn.Module, path: Path, *, size: int | tuple[int, int], output: str, halved: bool = True) -> Path:
    """Write ``net`` as ONNX to ``path``, ``halved`` with its weights in float16; return ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_onnx(net.eval(), path, size=size, outputs=[output])
    if halved:
        path.write_bytes(halve(onnx.load(path)).SerializeToString())
    return path


def write_card(network: Path, net: nn.Module, *, name: str, maker: str, given: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write the card of a ``network`` beside it: what every card states, and the ``facts`` of this one."""
    digest = sha256_of(network)
    card = {
        "format_version": 1,
        "model_id": f"{name}-{digest[:8]}",
        "licence": "Apache-2.0",
        "sha256": digest,
        "parameters": sum(p.numel() for p in net.parameters()),
        "command": provenance.command_line(["python", "-m", maker, *given], home=str(Path.home())),
        "environment": provenance.environment(),
        **facts,
    }
    (network.parent / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(card["scores"], indent=1))
