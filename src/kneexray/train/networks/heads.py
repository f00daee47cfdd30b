"""The last layer of a network, and how its outputs become logits: numbers whose softmax are the probabilities of the grades.

A head whose outputs are the logits leaves the class map exact; the others answer with logarithms of probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 1e-7
"""The least probability that CORAL's difference of two sigmoids is taken for; unordered thresholds would make it negative."""


@dataclass(frozen=True, slots=True)
class Head:
    """``layer(features, classes)`` makes the last layer; ``logits`` turns its outputs (N, M) into logits (N, K)."""

    layer: Callable[[int, int], nn.Module]
    logits: Callable[[Tensor], Tensor]


class SharedSlope(nn.Module):
    """One direction for all thresholds and a bias for each, first biases falling (Cao et al. 2020, section 3.3; their initial values)."""

    def __init__(self, features: int, thresholds: int) -> None:
        super().__init__()
        self.slope = nn.Linear(features, 1, bias=False)
        self.bias = nn.Parameter(torch.arange(thresholds, 0, -1) / thresholds)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, thresholds)."""
        out: Tensor = self.slope(x) + self.bias
        return out


def _as_they_are(outputs: Tensor) -> Tensor:
    return outputs


def _linear(features: int, classes: int) -> nn.Module:
    return nn.Linear(features, classes)


def _thresholds(features: int, classes: int) -> nn.Module:
    return nn.Linear(features, classes - 1)


def _shared_slope(features: int, classes: int) -> nn.Module:
    return SharedSlope(features, classes - 1)


def _from_conditional(outputs: Tensor) -> Tensor:
    """(N, K - 1) logits of P(y > k | y > k - 1) -> log P(y = k): the chain rule, in logarithms."""
    reached = F.pad(F.logsigmoid(outputs).cumsum(dim=1), (1, 0))  # (N, K) log P(y > k - 1)
    stays = F.pad(F.logsigmoid(-outputs), (0, 1))  # (N, K) log P(y = k | y > k - 1)
    return reached + stays


def _from_cumulative(outputs: Tensor) -> Tensor:
    """(N, K - 1) logits of P(y > k) -> log P(y = k)."""
    above = torch.sigmoid(outputs)
    return (F.pad(above, (1, 0), value=1.0) - F.pad(above, (0, 1))).clamp(min=SMALLEST).log()


SOFTMAX = Head(_linear, _as_they_are)
"""One output a class."""
SIGMOIDS = Head(_linear, F.logsigmoid)
"""One yes-or-no output a class; the probabilities are the sigmoids, scaled to sum to 1."""
CORN = Head(_thresholds, _from_conditional)
"""One output a threshold, conditional on the one below it (Shi, Cao & Raschka 2021, arXiv:2111.08851)."""
CORAL = Head(_shared_slope, _from_cumulative)
"""One output a threshold, all along one direction (Cao, Mirjalili & Raschka 2020, doi:10.1016/j.patrec.2020.11.008)."""
