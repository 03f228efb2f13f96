"""Does a latent token's map find the object under the token?

    python -m captum_ultra.experiments.scene_localisation --scenes 200 --markdown table.md

For held-out scenes and tokens whose patch lies wholly in one object, the ROC-AUC of the token's
map against the object's exact mask: for ULTra_S and ULTra_E beside raw attention rows, attention
rollout rows, the cosine of latents, and the distances of patch colours and of positions; for every layer.

On the patch grid (the default) a patch belongs to the object that covers more than half of it, and
the target's own patch, on which every method is right, is left out. ``--grid pixels`` enlarges the
maps to the image and compares them with the mask of the pixels.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from captum_ultra import LatentTokenAttribution
from captum_ultra.data import Scene, Scenes
from captum_ultra.experiments import rows
from captum_ultra.experiments.auc import roc_auc
from captum_ultra.experiments.markdown import bold, markdown_table
from captum_ultra.models.vit import VisionTransformer, load_vit, scenes_vit

__all__ = ["Cell", "localise", "markdown", "targets"]

METHODS = ("ULTra_E", "ULTra_S", "cosine of latents", "raw attention", "rollout", "patch colour", "patch position")


@dataclass(frozen=True)
class Cell:
    """Mean and standard error over scenes (the mean over a scene's tokens first) of the ROC-AUC."""

    mean: float
    error: float
    scenes: int


def localise(
    model: VisionTransformer,
    scenes: Scenes,
    *,
    per_object: int = 2,
    grid: str = "patches",
    interpolation: str = "bicubic",
    progress: bool = False,
) -> dict[str, dict[int, Cell]]:
    """Measure every method at every layer.

    Args:
        model: a :class:`VisionTransformer`.
        scenes: held-out scenes of the model's image size; scenes without a target are passed over.
        per_object: at most so many targets an object.
        grid: "patches" or "pixels"; see the module's description.
        interpolation: how maps are enlarged for the pixels: "bicubic" or "bilinear".
        progress: show a progress bar.

    Returns:
        ``result[method][layer]``; colour and position, which have no layer, are at layer 0.

    Raises:
        ValueError: for an unknown grid, or when no scene has a target.

    Example:
        >>> from captum_ultra.models.vit import ViTConfig
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2)).eval()
        >>> result = localise(model, Scenes(3), per_object=1)
        >>> sorted(result["ULTra_S"]), sorted(result["cosine of latents"])
        ([1], [0, 1])
    """
    if grid not in ("patches", "pixels"):
        raise ValueError(f"grid is {grid!r}; it must be 'patches' or 'pixels'")
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for index in tqdm(range(len(scenes)), desc="scenes", disable=not progress):
        scene = scenes[index]
        tokens, objects = targets(scene, model.patch_size, per_object, seed=index)
        if not len(tokens):
            continue
        for method, layer, maps in all_rows(model, scene.image, tokens):
            if grid == "patches":
                area = area_on_patches(maps, scene, tokens, objects, model.patch_size)
            else:
                area = area_on_pixels(maps, scene, tokens, objects, model.patch_size, interpolation)
            found[method, layer].append(area)
    if not found:
        raise ValueError(f"none of {len(scenes)} scenes has a patch that lies wholly in an object")
    result: dict[str, dict[int, Cell]] = {method: {} for method in METHODS}
    for (method, layer), areas in found.items():
        values = torch.tensor(areas, dtype=torch.float64)
        error = float(values.std() / len(areas) ** 0.5) if len(areas) > 1 else float("nan")
        result[method][layer] = Cell(float(values.mean()), error, len(areas))
    return result


def targets(scene: Scene, patch: int, per_object: int, seed: int) -> tuple[Tensor, Tensor]:
    """Patches that lie wholly in one object, drawn at random: their numbers and their objects, each [T]."""
    generator = torch.Generator().manual_seed(seed)
    cover = coverage(scene, patch)
    tokens, objects = [], []
    for instance in range(1, len(scene.names) + 1):
        inside = (cover[instance] == 1).nonzero().flatten()
        chosen = inside[torch.randperm(len(inside), generator=generator)[:per_object]]
        tokens += chosen.tolist()
        objects += [instance] * len(chosen)
    return torch.tensor(tokens, dtype=torch.long), torch.tensor(objects, dtype=torch.long)


def all_rows(model: VisionTransformer, image: Tensor, tokens: Tensor) -> Iterator[tuple[str, int, Tensor]]:
    """Every method's rows over the patches [T, P], with its name and the layer."""
    x = model.preprocess(image)[None]
    run = rows.record(model, x)
    first = model.num_prefix_tokens
    places = tokens + first
    explain = LatentTokenAttribution(model)
    for layer in range(len(run.latents)):
        yield "cosine of latents", layer, rows.cosine_rows(run, places, layer)[:, first:]
        if layer == 0:
            continue
        yield "raw attention", layer, rows.raw_rows(run, places, layer)[:, first:]
        yield "rollout", layer, rows.rollout_rows(run, places, layer)[:, first:]
        for name, score in (("ULTra_S", "sum"), ("ULTra_E", "energy")):
            maps = explain.attribute(x, token=places.tolist(), layer=layer, score=score, output="patches")
            yield name, layer, maps[0]
    yield "patch colour", 0, rows.colour_rows(image, tokens, model.patch_size)
    yield "patch position", 0, rows.position_rows(tokens, model.image_size // model.patch_size)


def coverage(scene: Scene, patch: int) -> Tensor:
    """The share of every patch that every instance covers, background first: [1 + objects, P]."""
    masks = F.one_hot(scene.instances, len(scene.names) + 1).permute(2, 0, 1).double()
    return F.avg_pool2d(masks, patch).flatten(1)


def area_on_patches(maps: Tensor, scene: Scene, tokens: Tensor, objects: Tensor, patch: int) -> float:
    """Mean ROC-AUC over the targets, on the patch grid without the target's own patch."""
    positive = coverage(scene, patch)[objects] > 0.5
    others = torch.ones_like(positive).scatter_(1, tokens[:, None], False)
    width = positive.shape[1] - 1
    return float(roc_auc(maps[others].view(-1, width), positive[others].view(-1, width)).mean())


def area_on_pixels(
    maps: Tensor, scene: Scene, tokens: Tensor, objects: Tensor, patch: int, interpolation: str = "bicubic"
) -> float:
    """Mean ROC-AUC over the targets, on the pixels; every method's own patch is set to its next best."""
    hidden = maps.scatter(1, tokens[:, None], float("-inf"))
    maps = maps.scatter(1, tokens[:, None], hidden.amax(1, keepdim=True))
    height, width = scene.instances.shape
    small = maps.view(1, len(maps), height // patch, width // patch)
    large = F.interpolate(small, size=(height, width), mode=interpolation)[0]
    return float(roc_auc(large.flatten(1), (scene.instances == objects[:, None, None]).flatten(1)).mean())


def markdown(result: dict[str, dict[int, Cell]]) -> str:
    """The table, one row a method and one column a layer, best layer of every method in bold."""
    layers = sorted({layer for cells in result.values() for layer in cells})
    rows = []
    for method, cells in result.items():
        best = max(cells, key=lambda layer: cells[layer].mean)
        rows.append([method])
        for layer in layers:
            cell = cells.get(layer)
            text = f"{cell.mean:.3f} ± {cell.error:.3f}" if cell else ""
            rows[-1].append(bold(text, layer == best))
    return markdown_table(["method", *(f"layer {layer}" for layer in layers)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--per-object", type=int, default=2, help="targets an object, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, pixels being in 0..1")
    parser.add_argument("--grid", choices=("patches", "pixels"), default="patches")
    parser.add_argument("--interpolation", choices=("bicubic", "bilinear"), default="bicubic", help="to pixels")
    parser.add_argument("--weights", type=Path, help="other weights than the shipped ones")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    args = parser.parse_args()
    model = load_vit(args.weights) if args.weights else scenes_vit()
    scenes = Scenes(args.scenes, args.seed, model.image_size, args.noise)
    result = localise(
        model,
        scenes,
        per_object=args.per_object,
        grid=args.grid,
        interpolation=args.interpolation,
        progress=True,
    )
    table = markdown(result)
    print(table)
    if args.markdown:
        args.markdown.write_text(table + "\n")
    if args.json:
        cells = {method: {layer: vars(cell) for layer, cell in row.items()} for method, row in result.items()}
        options = {name: str(value) for name, value in vars(args).items()}
        args.json.write_text(json.dumps({"options": options, "auc": cells}, indent=2) + "\n")


if __name__ == "__main__":
    main()
