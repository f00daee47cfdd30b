"""Losses and heads: reference values, gradients, and what they promise for smoothed, mixed, weighed and missing targets."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("timm")

import torch.nn.functional as F

from kneexray.errors import ConfigError
from kneexray.train.networks import heads
from kneexray.train.networks.losses import LOSSES, Criterion
from kneexray.train.recipe.config import LossConfig

K = 5
LABELS = torch.tensor([0, 3, 4, 2, 2, 1])


def outputs_for(name: str, *, seed: int = 0) -> torch.Tensor:
    columns = LOSSES[name][1].layer(1, K)(torch.zeros(1, 1)).shape[1]
    return torch.randn(len(LABELS), columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_right_and_the_truth_is_preferred(name: str):
    criterion = Criterion(LossConfig(name=name), classes=K)
    assert torch.autograd.gradcheck(lambda z: criterion(z, LABELS), outputs_for(name).requires_grad_())
    outputs = outputs_for(name).requires_grad_()
    optimizer = torch.optim.Adam([outputs], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        criterion(outputs, LABELS).backward()
        optimizer.step()
    assert criterion.probabilities(outputs).argmax(dim=1).tolist() == LABELS.tolist()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_extreme_outputs_give_finite_losses_and_gradients(name: str):
    outputs = (outputs_for(name).float() * 300).requires_grad_()
    loss = Criterion(LossConfig(name=name, gamma=0.5), classes=K)(outputs, LABELS)
    loss.backward()
    assert torch.isfinite(loss)
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_probabilities_sum_to_one_and_are_the_softmax_of_the_logits(name: str):
    criterion = Criterion(LossConfig(name=name), classes=K)
    probabilities = criterion.probabilities(outputs_for(name) * 3)
    assert probabilities.shape == (len(LABELS), K)
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(LABELS), dtype=torch.float64))


def test_cross_entropy_is_torch_s_with_smoothing_and_weights():
    outputs, weights = outputs_for("cross_entropy"), [0.5, 1.0, 2.0, 1.0, 4.0]
    ours = Criterion(LossConfig(smoothing=0.1), classes=K)(outputs, LABELS)
    torch.testing.assert_close(ours, F.cross_entropy(outputs, LABELS, label_smoothing=0.1))
    ours = Criterion(LossConfig(), classes=K, weights=weights)(outputs, LABELS)
    torch.testing.assert_close(ours, F.cross_entropy(outputs, LABELS, weight=torch.tensor(weights, dtype=torch.float64)))


def test_soft_ordinal_spreads_the_target():
    criterion = Criterion(LossConfig(name="soft_ordinal", sharpness=math.log(2)), classes=3)
    outputs = torch.tensor([[0.3, -0.2, 0.9]])
    expected = -(torch.tensor([[4 / 7, 2 / 7, 1 / 7]]) * outputs.log_softmax(dim=1)).sum()
    torch.testing.assert_close(criterion(outputs, torch.tensor([0])), expected)


def test_distance_weighted_has_the_paper_s_value():
    probabilities = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    loss = Criterion(LossConfig(name="distance", power=2.0), classes=K)(torch.tensor(probabilities)[None].log(), torch.tensor([1]))
    expected = -sum(abs(i - 1) ** 2 * math.log(1 - p) for i, p in enumerate(probabilities))
    assert float(loss) == pytest.approx(expected)


def test_focal_without_focus_is_cross_entropy_and_with_it_lin_s():
    outputs = outputs_for("focal")
    torch.testing.assert_close(Criterion(LossConfig(name="focal", gamma=0), classes=K)(outputs, LABELS), F.cross_entropy(outputs, LABELS))
    p = outputs.softmax(dim=1)[torch.arange(len(LABELS)), LABELS]
    alpha = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)
    ours = Criterion(LossConfig(name="focal", gamma=2, alpha=tuple(alpha.tolist())), classes=K)(outputs, LABELS)
    torch.testing.assert_close(ours, -(alpha[LABELS] * (1 - p) ** 2 * p.log()).mean())


def test_focal_of_two_classes_is_the_binary_loss():
    z, label = torch.tensor([0.7, -1.2, 2.0], dtype=torch.float64), torch.tensor([1, 1, 0])
    ours = Criterion(LossConfig(name="focal", gamma=2, alpha=(0.75, 0.25)), classes=2)(torch.stack([torch.zeros(3), z], dim=1), label)
    p = torch.where(label == 1, torch.sigmoid(z), torch.sigmoid(-z))
    alpha = torch.where(label == 1, 0.25, 0.75)
    torch.testing.assert_close(ours, -(alpha * (1 - p) ** 2 * p.log()).mean())


def test_focal_sigmoid_is_torchvision_s():
    ops = pytest.importorskip("torchvision.ops")
    outputs = outputs_for("focal_sigmoid")
    expected = ops.sigmoid_focal_loss(outputs, F.one_hot(LABELS, K).double(), alpha=0.25, gamma=2, reduction="sum") / len(LABELS)
    torch.testing.assert_close(Criterion(LossConfig(name="focal_sigmoid", alpha=(0.25,)), classes=K)(outputs, LABELS), expected)


def test_coral_has_the_value_that_its_authors_print():
    """The example of coral_pytorch.losses.coral_loss: 0.6920."""
    outputs = torch.tensor([[2.1, 1.8, -2.1, -1.8], [1.9, -1.0, -1.5, -1.3], [1.9, 1.8, 1.7, 1.6]])
    assert float(Criterion(LossConfig(name="coral"), classes=K)(outputs, torch.tensor([2, 1, 4]))) == pytest.approx(0.6920, abs=5e-5)


def test_corn_is_the_mean_over_knees_and_the_thresholds_that_they_are_asked():
    """Equation 5 of Shi, Cao & Raschka 2021, written out."""
    outputs = outputs_for("corn")
    total, asked = 0.0, 0
    for k in range(K - 1):
        for row, label in zip(outputs, LABELS, strict=True):
            if label > k - 1:
                total -= float(F.logsigmoid(row[k] if label > k else -row[k]))
                asked += 1
    assert float(Criterion(LossConfig(name="corn"), classes=K)(outputs, LABELS)) == pytest.approx(total / asked)


def test_corn_and_coral_answer_with_the_differences_of_exceedance():
    outputs = torch.tensor([[1.0, 0.5, -0.5, -1.0]], dtype=torch.float64)
    exceeds = torch.sigmoid(outputs).cumprod(dim=1)
    corn = heads.CORN.logits(outputs).exp()
    torch.testing.assert_close(corn[0], torch.tensor([1, *exceeds[0], 0]).double().diff().neg())
    coral = heads.CORAL.logits(outputs).exp()
    torch.testing.assert_close(coral[0], torch.tensor([1, *torch.sigmoid(outputs)[0], 0]).double().diff().neg())


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"corn"}))
def test_a_mixed_target_costs_the_mean_of_its_parts(name: str):
    criterion, outputs = Criterion(LossConfig(name=name), classes=K), outputs_for(name)
    a, b = F.one_hot(LABELS, K).double(), F.one_hot(LABELS.flip(0), K).double()
    mixed = criterion(outputs, 0.3 * a + 0.7 * b)
    torch.testing.assert_close(mixed, 0.3 * criterion(outputs, a) + 0.7 * criterion(outputs, b))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_missing_labels_cost_nothing(name: str):
    criterion, outputs = Criterion(LossConfig(name=name, smoothing=0.1), classes=K), outputs_for(name).requires_grad_()
    partly = LABELS.clone()
    partly[1::2] = -1
    torch.testing.assert_close(criterion(outputs, partly), criterion(outputs[::2], LABELS[::2]))
    nothing = criterion(outputs, torch.full_like(LABELS, -1))
    nothing.backward()
    assert nothing.item() == 0.0
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


def test_unknown_loss_lists_the_known_and_alpha_must_fit():
    with pytest.raises(ConfigError, match="Did you mean cross_entropy"):
        Criterion(LossConfig(name="crossentropy"), classes=K)
    with pytest.raises(ConfigError, match=r"loss\.alpha has 2 value\(s\); 'focal' on 5 classes takes 5"):
        Criterion(LossConfig(name="focal", alpha=(0.5, 0.5)), classes=K)
    with pytest.raises(ConfigError, match="takes 0"):
        Criterion(LossConfig(name="corn", alpha=(0.5,)), classes=K)
