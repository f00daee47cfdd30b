"""What a bundle computes, as a graph: one ONNX file that gives ``logits`` and, where the network has an exact one, ``cam``."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kneexray.errors import BundleError
from kneexray.inference.bundle import CARD, NETWORK, Bundle
from kneexray.inference.session import Session
from kneexray.tasks import LENGTHS, TASKS, mirror_columns, opposite
from kneexray.train.networks import models
from kneexray.version import __version__

logger = logging.getLogger(__name__)

PARITY = 1e-4
"""The largest difference between ONNX and torch that an export may have, as a share of the largest logit or map value (or of 1)."""


class Exported(nn.Module):
    """What a bundle computes: the mean logits, class maps and lengths of its members, of the image and its mirror image where asked.

    The mean of class maps is the class map of the mean logits, so that the heatmap still explains the answer; where one member has
    none there is none. A member trained at a smaller size sees the image at that size; its map is stretched to the first member's.
    Of the mirror image, answers for one compartment are those for the other; ``tasks`` says in which columns they lie.
    """

    swap_lengths: Tensor
    mirrored_lengths: Tensor

    def __init__(self, members: Sequence[tuple[models.GradingNet, int]], *, mirrored: bool, tasks: Sequence[str] = ("kl",)) -> None:
        super().__init__()
        self.nets = nn.ModuleList(net for net, _ in members)
        self.sizes = [size for _, size in members]
        self.mirrored = mirrored
        self.tasks = tuple(tasks)
        self.has_cam = all(net.has_cam for net, _ in members)
        self.has_lengths = all(net.lengths is not None for net, _ in members)
        self.outputs = ("logits", *(["cam"] if self.has_cam else []), *(["lengths"] if self.has_lengths else []))
        alone = not any(TASKS[task].compartment for task in tasks)
        self.swap = None if alone else torch.tensor(mirror_columns(tasks))
        places = [LENGTHS.index(other) if (other := opposite(name)) else -1 for name in LENGTHS]
        self.register_buffer("swap_lengths", torch.tensor(places).clamp(min=0), persistent=False)
        self.register_buffer("mirrored_lengths", torch.tensor(places) >= 0, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, 1, H, W) float32 in [0, 1] -> logits (N, K) and, where the network gives them, class maps (N, K, h, w) and lengths (N, L)."""
        seen = torch.cat([image, image.flip(3)]) if self.mirrored else image
        nets = cast("list[models.GradingNet]", list(self.nets))
        answers = [net.answers(_at(seen, (size, size))) for net, size in zip(nets, self.sizes, strict=True)]
        out = [self._both(torch.stack([logits for logits, _, _ in answers]).mean(dim=0))]
        if self.has_cam:
            cams = [cast("Tensor", cam) for _, cam, _ in answers]
            map_size = (int(cams[0].shape[2]), int(cams[0].shape[3]))
            cam = torch.stack([_at(cam, map_size) for cam in cams]).mean(dim=0)
            if self.mirrored:
                as_is, mirrored = cam.unflatten(0, (2, -1)).unbind(0)
                cam = (as_is + self._swapped(mirrored.flip(3))) / 2
            out.append(cam)
        if self.has_lengths:
            out.append(self._lengths(torch.stack([cast("Tensor", lengths) for _, _, lengths in answers]).mean(dim=0)))
        return tuple(out)

    def _both(self, logits: Tensor) -> Tensor:
        if not self.mirrored:
            return logits
        as_is, mirrored = logits.unflatten(0, (2, -1)).unbind(0)
        both: Tensor = (as_is + self._swapped(mirrored)) / 2
        return both

    def _swapped(self, answers: Tensor) -> Tensor:
        return answers if self.swap is None else answers[:, self.swap]

    def _lengths(self, lengths: Tensor) -> Tensor:
        if not self.mirrored:
            return lengths
        as_is, mirrored = lengths.unflatten(0, (2, -1)).unbind(0)
        return torch.where(self.mirrored_lengths, (as_is + mirrored[:, self.swap_lengths]) / 2, as_is)


def _at(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[2:] == size:
        return images
    return nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def write_onnx(net: nn.Module, path: Path, *, size: int | tuple[int, int], outputs: Sequence[str]) -> None:
    """Export ``net``, images (N, 1, *size) to ``outputs``, with a free batch size, checked by onnx, weights inside the file."""
    example = torch.rand(3, 1, *((size, size) if isinstance(size, int) else size))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        raw = Path(folder) / NETWORK
        torch.onnx.export(
            net,
            (example,),
            raw,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_shapes={"image": {0: torch.export.Dim.DYNAMIC}},
            external_data=False,
            dynamo=True,
        )
        model = onnx.load(raw)
    del model.metadata_props[:]
    for node in model.graph.node:  # the exporter notes where each node came from: paths of the machine it ran on
        del node.metadata_props[:]
        node.doc_string = ""
    model.producer_name, model.producer_version = "kneexray", __version__
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def check_parity(bundle: Bundle, net: Exported, images: NDArray[np.float32]) -> None:
    """Raise :class:`BundleError` where torch and ONNX differ by more than :data:`PARITY` on real ``images``."""
    with torch.inference_mode():
        expected = [t.numpy() for t in net(torch.from_numpy(images.copy()))]
    given = Session(bundle).answers(images, cam=net.has_cam)
    found = [a for a in (given.logits, given.cam, given.lengths) if a is not None]
    worst = max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in zip(found, expected, strict=True))
    if worst > PARITY:
        (bundle.folder / CARD).unlink()  # so that nobody takes it for a bundle
        raise BundleError(f"{bundle.folder}: ONNX and torch differ by {worst:.2g}, more than {PARITY:g}: the export cannot be trusted.")
    logger.info("ONNX and torch agree to %.2g", worst)
