"""Why a trained network answers as it does: maps of one image and one grade, by methods that need the network itself.

All are computed on the network's one pass over the image, at its last feature map where the method asks for a layer. There, pooling
is a mean and the head is linear, so that Grad-CAM, HiResCAM and the class map of the bundle are one and the same up to sign and scale.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kneexray.errors import ConfigError, choices
from kneexray.train.export.export import load_net
from kneexray.train.networks import models
from kneexray.train.recipe.config import Config
from kneexray.train.run_folder import load_config

Map = NDArray[np.float32]
Method = Callable[[models.GradingNet, Tensor, int], Map]

STEPS = 32
"""Points on the way from a flat grey image to the true one, of integrated gradients."""
CELLS = 16
"""How many squares a side integrated gradients are summed over: single pixels are noise."""
PATCH = 8
"""An occluding patch is this part of the image's side, and moves by half of itself."""

_BATCH = 16


def load(path: str | Path) -> tuple[models.GradingNet, Config]:
    """Return the network of a run folder (its chosen epoch) or of a checkpoint (``.ckpt``) in one, and its recipe.

    It is ready to infer, and for gradients even where the recipe froze it.
    Raises :class:`~kneexray.errors.ConfigError` where the path is neither.
    """
    place = Path(path)
    if place.is_dir():
        config = load_config(place)
        return load_net(place, config).requires_grad_(True), config
    if not zipfile.is_zipfile(place):
        raise ConfigError(f"{place}: is no checkpoint. Give the --out of a 'kneexray train', or a .ckpt file in its folder checkpoints.")
    config = load_config(place.parent.parent)
    net = models.for_recipe(config)
    try:
        state = torch.load(place, map_location="cpu", weights_only=True)["state_dict"]
        net.load_state_dict({name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")})
    except (RuntimeError, KeyError, OSError, ValueError) as error:
        raise ConfigError(f"{place}: is no checkpoint of the run in {place.parent.parent} ({error}).") from error
    return net.eval().requires_grad_(True), config


def check(method: str) -> None:
    """Raise :class:`~kneexray.errors.ConfigError` that lists the methods for an unknown one."""
    if method not in METHODS:
        raise ConfigError(choices("--method", method, METHODS))


def attribute(net: models.GradingNet, image: NDArray[np.float32], *, method: str, grade: int) -> Map:
    """Return the map (h, w) of ``method`` for ``grade`` on a preprocessed ``image`` (1, H, W), positive where it speaks for the grade."""
    check(method)
    return METHODS[method](net, torch.from_numpy(image)[None], grade)


def class_map(net: models.GradingNet, image: Tensor, grade: int) -> Map:
    """Return the map that a bundle of this network has inside (Zhou et al., CVPR 2016).

    Raises :class:`~kneexray.errors.ConfigError` for a network that has none.
    """
    if not net.has_cam:
        raise ConfigError("--method cam: this network has no class map, its head is not one linear layer on averages. Try grad-cam.")
    with torch.inference_mode():
        _, cam, _ = net.answers(image)
        assert cam is not None
        return _array(cam[0, grade])


def integrated_gradients(net: models.GradingNet, image: Tensor, grade: int) -> Map:
    """Return integrated gradients of the logit from a flat image on, summed over cells (Sundararajan et al., ICML 2017).

    The way runs in standardised greys, where the flat image is zero; the map's sum is the difference of the two logits.
    """
    from captum.attr import LayerIntegratedGradients

    flat = torch.full_like(image, float(image.mean()))
    gradients = LayerIntegratedGradients(net, net.standardise)
    found = gradients.attribute(image, baselines=flat, target=grade, n_steps=STEPS, internal_batch_size=_BATCH)
    side = image.shape[-1] // CELLS
    return _array(nn.functional.avg_pool2d(found, side, ceil_mode=True, divisor_override=1)[0, 0])


def occlusion(net: models.GradingNet, image: Tensor, grade: int) -> Map:
    """Return how much the logit falls when a patch about each place is painted over with the mean grey (Zeiler & Fergus, ECCV 2014)."""
    from captum.attr import Occlusion

    side = max(2, image.shape[-1] // PATCH)
    with torch.no_grad():
        found = Occlusion(net).attribute(
            image,
            sliding_window_shapes=(1, side, side),
            strides=(1, side // 2, side // 2),
            baselines=float(image.mean()),
            target=grade,
            perturbations_per_eval=_BATCH,
        )
    return _array(found[0, 0])


def _cam(name: str) -> Method:
    """Return a method of the package ``grad-cam`` by the name of its class; its maps are scaled to [0, 1] at the image's size."""

    def explain(net: models.GradingNet, image: Tensor, grade: int) -> Map:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        options: dict[str, Any] = {"ablation_layer": pytorch_grad_cam.AblationLayer()} if name == "AblationCAM" else {}
        explainer = getattr(pytorch_grad_cam, name)(model=net, target_layers=[net.backbone], **options)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # some draw progress bars
                found: NDArray[Any] = explainer(input_tensor=image, targets=[ClassifierOutputTarget(grade)])
        finally:
            explainer.activations_and_grads.release()
            net.zero_grad()
        return np.asarray(np.nan_to_num(found[0]), dtype=np.float32)

    return explain


def _array(values: Tensor) -> Map:
    return values.detach().numpy().astype(np.float32)


METHODS: MappingProxyType[str, Method] = MappingProxyType(
    {
        "cam": class_map,
        "grad-cam": _cam("GradCAM"),
        "grad-cam++": _cam("GradCAMPlusPlus"),
        "hirescam": _cam("HiResCAM"),
        "layercam": _cam("LayerCAM"),
        "score-cam": _cam("ScoreCAM"),
        "eigen-cam": _cam("EigenCAM"),
        "ablation-cam": _cam("AblationCAM"),
        "integrated-gradients": integrated_gradients,
        "occlusion": occlusion,
    }
)
"""Selvaraju et al. 2017 (Grad-CAM), Chattopadhyay et al. 2018 (++), Draelos & Carin 2020 (HiResCAM), Jiang et al. 2021 (LayerCAM), Wang et
al. 2020 (Score-CAM), Muhammad & Yeasin 2020 (Eigen-CAM: the same for every grade), Desai & Ramaswamy 2020 (Ablation-CAM)."""
