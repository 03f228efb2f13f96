"""One scene: does a token's map find the object under it, and does its latent change when patches are removed?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.attr.latents import LatentReader
from captum_ultra.data import Scene
from captum_ultra.experiments.latent_methods.cells import Setting, key_of
from captum_ultra.experiments.latent_methods.maps import latent_rows, mixed, ranks
from captum_ultra.experiments.latent_methods.variants import Variant
from captum_ultra.experiments.rows import colour_rows, position_rows
from captum_ultra.experiments.scene_localisation import area_on_patches, targets
from captum_ultra.models.vit import VisionTransformer
from captum_ultra.perturbation.latent_test import SWEEP
from captum_ultra.perturbation.patches import patch_mask
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["SCENE_MEASURES", "measure_scene"]

SCENE_MEASURES = ("region", "removal")
_BATCH = 36
_DIGITS = 6


def measure_scene(
    model: VisionTransformer, scene: Scene, variants: Sequence[Variant], seed: int, number: int,
    removed: Callable[[Setting], bool] = lambda setting: True, *, per_object: int = 1, removal_tokens: int = 1,
) -> dict[str, float]:  # fmt: skip
    """Measure every variant at every layer.

    Args:
        model: a ViT without class token.
        scene: of its image size.
        variants: that explain.
        seed: with the number, of the targets and of the order of equal relevances.
        number: of the scene.
        removed: whether patches are removed in the order of a setting.
        per_object: targets an object, at most, whose map is compared with the object.
        removal_tokens: of these, how many for removal.

    Returns:
        By :func:`~captum_ultra.experiments.latent_methods.cells.key_of`: "region", the ROC-AUC of the object on the
        patch grid without the target's own patch; "positive" and "negative", the distance of the latent when the most
        or least relevant 10 % to 90 % of the other patches become zero in the normalised input, mean over the shares;
        "removal", their difference, and "relative", that by the norm of the latent. Empty without a target.

    Example:
        >>> from captum_ultra.data import render_scene
        >>> from captum_ultra.models.vit import ViTConfig
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2)).eval()
        >>> found = measure_scene(model, render_scene(0, 0), [Variant("rollout", "rollout")], 0, 0)
        >>> sorted(key for key in found if key.startswith("rollout"))
        ['rollout|1||negative', 'rollout|1||positive', 'rollout|1||region', 'rollout|1||relative', 'rollout|1||removal']
    """
    generator = seeded_generator(seed, number)
    tokens, objects = targets(scene, model.patch_size, per_object, seed=number)
    if not len(tokens):
        return {}
    # The drawn targets stand object by object; removal takes them in random order.
    mixing = torch.randperm(len(tokens), generator=generator)
    tokens, objects = tokens[mixing], objects[mixing]
    x, patches = model.preprocess(scene.image)[None], (model.image_size // model.patch_size) ** 2
    order = torch.randperm(patches, generator=generator)
    found: dict[str, float] = {}
    for layer, maps in _maps(model, scene, x, tokens, order, variants).items():
        places = {setting: ranks(each, order) for setting, each in maps.items()}
        for setting, each in places.items():
            if setting.layer or layer == 1:
                area = area_on_patches(each, scene, tokens, objects, model.patch_size)
                found[key_of(setting, "region")] = area
        chosen = {setting: each[:removal_tokens] for setting, each in places.items() if removed(_at(setting, layer))}
        if chosen:
            found |= _removal(model, x, layer, tokens[:removal_tokens], chosen)
    return {key: round(value, _DIGITS) for key, value in found.items()}


def _maps(
    model: VisionTransformer, scene: Scene, x: Tensor, tokens: Tensor, order: Tensor, variants: Sequence[Variant]
) -> dict[int, dict[Setting, Tensor]]:
    """Layer -> setting -> maps [T, P] in which the target's own patch is zero."""
    first = model.num_prefix_tokens
    rows: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for layer, name, each in latent_rows(model, x, (tokens + first).tolist(), variants):
        rows[layer][name] = each[:, first:].scatter(1, tokens[:, None], 0.0)
    shape = next(iter(rows[1].values()))
    controls = {
        "chance": torch.zeros_like(shape),
        "nearness": position_rows(tokens, model.image_size // model.patch_size),
        "colour": colour_rows(scene.image, tokens, model.patch_size),
    }
    found = {}
    for layer, of_layer in rows.items():
        maps = {Setting(name, layer): each for name, each in mixed(of_layer).items()}
        found[layer] = {**maps, **{Setting(name): each for name, each in controls.items()}}
    return found


def _at(setting: Setting, layer: int) -> Setting:
    return setting._replace(layer=layer)


@torch.no_grad()
def _removal(
    model: VisionTransformer, x: Tensor, layer: int, tokens: Tensor, places: dict[Setting, Tensor]
) -> dict[str, float]:
    """Distances of the latents after a layer, mean over the tokens [T]; places [T, P] of every setting."""
    read, first = LatentReader(model, layer), model.num_prefix_tokens
    clean = read(x)[0, tokens + first].double()
    masks = torch.stack([_masks(each, tokens) for each in places.values()], 1)  # [T, settings, 2, shares, P]
    distances = []
    side = model.image_size // model.patch_size
    for token, of_token, masked in zip(tokens + first, clean, masks, strict=True):
        moved = []
        for part in masked.flatten(0, 2).split(_BATCH):
            pixels = patch_mask(part, (side, side), (model.image_size, model.image_size))
            changed = read(torch.where(pixels[:, None], 0.0, x))[:, token].double()
            moved.append((changed - of_token).norm(dim=-1))
        distances.append(torch.cat(moved).view(masked.shape[:3]).mean(-1))
    positive, negative = torch.stack(distances).unbind(-1)  # [T, settings]
    norm = clean.norm(dim=-1)[:, None]
    numbers = {
        "positive": positive.mean(0), "negative": negative.mean(0), "removal": (positive - negative).mean(0),
        "relative": ((positive - negative) / norm).mean(0),
    }  # fmt: skip
    settings = [_at(each, layer) for each in places]
    return {
        key_of(setting, name): value
        for name, values in numbers.items()
        for setting, value in zip(settings, values.tolist(), strict=True)
    }


def _masks(places: Tensor, tokens: Tensor) -> Tensor:
    """Which patches are removed [T, 2, shares, P]: of the highest places, then of the lowest; never a token's own."""
    count = places.shape[1] - 1
    own = F.one_hot(tokens, places.shape[1]).bool()
    shares = torch.tensor([max(1, int(share * count + 0.5)) for share in SWEEP])[:, None]
    orders = []
    for sign in (-1.0, 1.0):
        # The own patch comes last, and the shares stay below all others.
        turn = (sign * places).masked_fill(own, float("inf")).argsort(1).argsort(1)
        orders.append(turn[:, None] < shares)
    return torch.stack(orders, 1)
