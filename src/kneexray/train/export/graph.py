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
from kneexray.train.networks import models
from kneexray.version import __version__

logger = logging.getLogger(__name__)

PARITY = 1e-4
"""The largest difference between ONNX and torch that an export may have, as a share of the largest logit or map value (or of 1)."""


class Exported(nn.Module):
    """What a bundle computes: the mean logits and class maps of its members, of the image and its mirror image where asked.

    The mean of class maps is the class map of the mean logits, so that the heatmap still explains the answer; where one member has
    none there is none. A member trained at a smaller size sees the image at that size; its map is stretched to the first member's.
    """

    def __init__(self, members: Sequence[tuple[models.GradingNet, int]], *, mirrored: bool) -> None:
        super().__init__()
        self.nets = nn.ModuleList(net for net, _ in members)
        self.sizes = [size for _, size in members]
        self.mirrored = mirrored
        self.has_cam = all(net.has_cam for net, _ in members)
        self.outputs = ("logits", "cam") if self.has_cam else ("logits",)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, 1, H, W) float32 in [0, 1] -> logits (N, K) and, where the network :attr:`has_cam`, class maps (N, K, h, w)."""
        seen = torch.cat([image, image.flip(3)]) if self.mirrored else image
        nets = cast("list[models.GradingNet]", list(self.nets))
        inputs = [_at(seen, (size, size)) for size in self.sizes]
        if not self.has_cam:
            logits = torch.stack([net(x) for net, x in zip(nets, inputs, strict=True)]).mean(dim=0)
            return (logits.unflatten(0, (2, -1)).mean(dim=0) if self.mirrored else logits,)
        answers = [net.with_cam(x) for net, x in zip(nets, inputs, strict=True)]
        map_size = answers[0][1].shape[2:]
        logits = torch.stack([logits for logits, _ in answers]).mean(dim=0)
        cam = torch.stack([_at(cam, (int(map_size[0]), int(map_size[1]))) for _, cam in answers]).mean(dim=0)
        if not self.mirrored:
            return logits, cam
        as_is, mirrored = cam.unflatten(0, (2, -1)).unbind(0)
        return logits.unflatten(0, (2, -1)).mean(dim=0), (as_is + mirrored.flip(3)) / 2


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
    found = Session(bundle).run(images, cam=net.has_cam)
    worst = max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in zip(found, expected, strict=False) if a is not None)
    if worst > PARITY:
        (bundle.folder / CARD).unlink()  # so that nobody takes it for a bundle
        raise BundleError(f"{bundle.folder}: ONNX and torch differ by {worst:.2g}, more than {PARITY:g}: the export cannot be trusted.")
    logger.info("ONNX and torch agree to %.2g", worst)
