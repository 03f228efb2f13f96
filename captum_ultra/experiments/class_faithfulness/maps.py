"""One map a scene from every method, and from controls that know nothing of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.attr.methods import METHODS, method_class
from captum_ultra.data.object_scenes import ObjectScene
from captum_ultra.experiments.evaluate.token_tm.maps import LABELS as METHOD_LABELS
from captum_ultra.models.vit_classifier import ViTClassifier
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["ABSOLUTE", "CONTROLS", "LABELS", "MapMaker", "edges", "map_makers", "on_patches"]

MapMaker = Callable[[ObjectScene, Tensor, int, int], Tensor]
"""(scene, its input [1, 3, H, W], class, number of the scene) -> map [H, W], not scaled."""

ABSOLUTE = {f"{method}_absolute": method for method in ("attcat", "conservative_lrp", "residual_lrp", "lrp")}
"""Signed methods once more, by absolute value: the name of the map -> that of the method."""

LABELS = {
    **METHOD_LABELS,
    **{name: f"|{METHOD_LABELS[method]}|".replace("|", "\\|") for name, method in ABSOLUTE.items()},
    "mask": "*the object's mask*",
    "mask_patches": "*the mask on patches*",
    "edges": "*Sobel edges*",
    "centre": "*centre*",
    "random": "*random*",
}
"""What the tables call the methods, between bars their absolute values, and in italics the controls."""

_CENTRE_WIDTH = 0.25  # standard deviation, in sides of the image


def map_makers(model: ViTClassifier, names: Sequence[str], seed: int = 0) -> dict[str, MapMaker]:
    """What makes the maps, by name; a method explains a class of this model, a control looks at the scene alone.

    Args:
        model: that is explained.
        names: of :data:`captum_ultra.attr.methods.METHODS`, ``ABSOLUTE`` or ``CONTROLS``.
        seed: of the random control.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> from captum_ultra.data import render_object_scene
        >>> model, scene = ViTClassifier().eval(), render_object_scene(0, 0)
        >>> makers = map_makers(model, ["gae", "edges"])
        >>> [make(scene, model.preprocess(scene.image)[None], 0, 0).shape for make in makers.values()]
        [torch.Size([64, 64]), torch.Size([64, 64])]
    """
    known = (*METHODS, *ABSOLUTE, *CONTROLS)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"map {unknown[0]!r} is unknown; known are {', '.join(known)}")
    return {
        name: partial(CONTROLS[name], model.patch_size, seed)
        if name in CONTROLS
        else partial(_explained, method_class(ABSOLUTE.get(name, name))(model).attribute, name in ABSOLUTE)
        for name in names
    }


def on_patches(values: Tensor, patch: int) -> Tensor:
    """The mean over every patch: [H, W] -> [H / patch, W / patch]."""
    return F.avg_pool2d(values[None], patch)[0]


def edges(image: Tensor) -> Tensor:
    """How steep the grey value is, by Sobel's filters: [3, H, W] -> [H, W]; the border repeats its pixels."""
    grey = torch.einsum("chw,c->hw", image, image.new_tensor([0.299, 0.587, 0.114]))
    across = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    filters = torch.stack([across, across.T])[:, None]
    slopes = F.conv2d(F.pad(grey[None, None], (1, 1, 1, 1), mode="replicate"), filters)[0]
    return slopes.norm(dim=0)


def _explained(
    attribute: Callable[..., Tensor], absolute: bool, scene: ObjectScene, x: Tensor, target: int, number: int
) -> Tensor:  # a method sees what the model sees, neither the scene nor its number
    found = attribute(x, target=target, output="input", interpolation="bilinear")[0, 0].detach()
    if not bool(found.isfinite().all()):
        raise ValueError(f"the map of scene {number} is not finite")
    return found.abs() if absolute else found


# Controls stand on the patch grid and are enlarged as the maps of most methods are, so that none has finer detail; the
# object's mask is there both ways.
def _enlarged(patches: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(patches[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def _mask(patch: int, seed: int, scene: ObjectScene, x: Tensor, target: int, number: int) -> Tensor:
    return scene.mask.float()


def _mask_patches(patch: int, seed: int, scene: ObjectScene, x: Tensor, target: int, number: int) -> Tensor:
    return _enlarged(on_patches(scene.mask.float(), patch), scene.mask.shape)


def _edges(patch: int, seed: int, scene: ObjectScene, x: Tensor, target: int, number: int) -> Tensor:
    return _enlarged(on_patches(edges(scene.image), patch), scene.mask.shape)


def _centre(patch: int, seed: int, scene: ObjectScene, x: Tensor, target: int, number: int) -> Tensor:
    height, width = (side // patch for side in scene.mask.shape)
    bells = [torch.exp(-0.5 * ((torch.arange(n) + 0.5 - n / 2) / (n * _CENTRE_WIDTH)) ** 2) for n in (height, width)]
    return _enlarged(torch.outer(*bells), scene.mask.shape)


def _random(patch: int, seed: int, scene: ObjectScene, x: Tensor, target: int, number: int) -> Tensor:
    height, width = (side // patch for side in scene.mask.shape)
    values = torch.rand(height, width, generator=seeded_generator(seed, number))
    return _enlarged(values, scene.mask.shape)


CONTROLS: dict[str, Callable[[int, int, ObjectScene, Tensor, int, int], Tensor]] = {
    "mask": _mask,
    "mask_patches": _mask_patches,
    "edges": _edges,
    "centre": _centre,
    "random": _random,
}
"""Short name -> (patch, seed, then as ``MapMaker``) -> map."""
