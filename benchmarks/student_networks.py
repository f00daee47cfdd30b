"""The networks that student projects on knee radiographs use, in PyTorch, with random weights: their speed is measured, not their skill."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
