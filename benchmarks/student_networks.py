"""The networks that student projects on knee radiographs use, in PyTorch, with random weights: their speed is measured, not their skill."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from kneexray.inference.bundle import CARD, NETWORK, InputCard, read_card, sha256_of, shipped

SIZES = {"small-cnn": 150, "inception-v3": 75, "densenet121": 224}
"""Network -> side of its square input in pixels."""


class Grey(nn.Module):
    """A network for colour images that is given grey ones."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, S, S) -> logits (N, 5)."""
        logits: Tensor = self.net(image.expand(-1, 3, -1, -1))
        return logits


def network(name: str, size: int) -> nn.Module:
    """Return the network ``name`` with random weights, ready to infer."""
    torch.manual_seed(0)
    if name == "small-cnn":
        blocks: list[nn.Module] = []
        for before, width in ((3, 32), (32, 64), (64, 128)):
            blocks += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        flat = 128 * (size // 8) ** 2
        return Grey(nn.Sequential(*blocks, nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, 5))).eval()
    import timm

    return Grey(timm.create_model({"inception-v3": "inception_v3"}.get(name, name), pretrained=False, num_classes=5)).eval()


def write_bundle(name: str, size: int, folder: Path) -> Path:
    """Write the network ``name`` into a new ``folder`` as a bundle under the shipped model's card, so that our predictor can run it."""
    folder.mkdir()
    axes = {"image": {0: torch.export.Dim.DYNAMIC}}
    example = torch.rand(2, 1, size, size)
    names = {"input_names": ["image"], "output_names": ["logits"], "dynamic_shapes": axes}
    torch.onnx.export(network(name, size), (example,), folder / NETWORK, external_data=False, dynamo=True, verbose=False, **names)
    write_card(folder, name, size)
    return folder


def write_card(folder: Path, name: str, size: int) -> None:
    """Write the card of the network that lies in ``folder``."""
    facts = {
        "model_id": name,
        "sha256": sha256_of(folder / NETWORK),
        "class_map": False,
        "input": InputCard(size=size, zoom=1, shift_y=0),
    }
    alone = {"also": (), "lengths": (), "format_version": 1}
    (folder / CARD).write_text(read_card(shipped("kl")).model_copy(update=facts | alone).model_dump_json())
