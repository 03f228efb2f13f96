"""Is the scenes' classifier right, and is the object what it goes by?

    python -m captum_ultra.experiments.classifier_check --scenes 1000 --seed 0

Prints the accuracy on held-out scenes and the confusion of classes, then the accuracy on changed versions of the
same scenes: the object gone, painted over, alone, or of another class.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from captum_ultra.data.object_scenes import ObjectScene, ObjectScenes, render_object_scene
from captum_ultra.experiments.markdown import markdown_table
from captum_ultra.intervals import Interval, bootstrap
from captum_ultra.models.vit_classifier import ViTClassifier, load_vit_classifier, scenes_classifier

__all__ = ["CHANGES", "Check", "check_classifier", "markdown"]

_BATCH = 50
_GREY = 0.5  # zero after normalisation


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        accuracy: by the name of the change, "as they are" first; over scenes, with its interval.
        confusion: counts, by true class and by predicted class, of the scenes as they are.
        classes: the names of the classes.
        follows: the share of scenes in which the answer is the class that the object was woven anew as, all other
            pixels being the same.
    """

    accuracy: dict[str, Interval]
    confusion: list[list[int]]
    classes: tuple[str, ...]
    follows: Interval


def _gone(scene: ObjectScene, source: ObjectScenes, index: int) -> Tensor:
    return render_object_scene(source.seed, index, source.size, split=source.split, present=False).image


def _mean_of_rest(scene: ObjectScene, source: ObjectScenes, index: int) -> Tensor:
    return torch.where(scene.mask, scene.image[:, ~scene.mask].mean(1)[:, None, None], scene.image)


def _box(scene: ObjectScene) -> Tensor:
    """The smallest upright rectangle [H, W] about the object."""
    rows, columns = scene.mask.any(1).nonzero(), scene.mask.any(0).nonzero()
    box = torch.zeros_like(scene.mask)
    box[int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1] = True
    return box


CHANGES: dict[str, Callable[[ObjectScene, ObjectScenes, int], Tensor]] = {
    "as they are": lambda scene, source, index: scene.image,
    "object gone, what lies behind it shown": _gone,
    "object in the mean colour of the rest": _mean_of_rest,
    "object's bounding box in grey": lambda scene, source, index: scene.image.masked_fill(_box(scene), _GREY),
    "all but the object in black": lambda scene, source, index: scene.image * scene.mask,
    "all but the object in grey": lambda scene, source, index: scene.image.masked_fill(~scene.mask, _GREY),
    "all but the object's bounding box in grey": lambda scene, source, index: scene.image.masked_fill(
        ~_box(scene), _GREY
    ),
}


def check_classifier(model: ViTClassifier, scenes: ObjectScenes, *, progress: bool = False) -> Check:
    """Classify scenes, as they are and changed.

    Args:
        model: in eval mode, of the scenes' size.
        scenes: held-out scenes.
        progress: show a progress bar.

    Returns:
        A :class:`Check`.

    Example:
        >>> from captum_ultra.models.vit_classifier import ViTClassifierConfig
        >>> model = ViTClassifier(ViTClassifierConfig(dim=16, depth=1, heads=2)).eval()
        >>> check = check_classifier(model, ObjectScenes(4))
        >>> list(check.accuracy)[0], sum(map(sum, check.confusion))
        ('as they are', 4)
    """
    right: dict[str, list[Tensor]] = {name: [] for name in CHANGES}
    follows: list[Tensor] = []
    count = model.num_classes
    confusion = torch.zeros(count * count, dtype=torch.long)
    for first in tqdm(range(0, len(scenes), _BATCH), desc="scenes", disable=not progress):
        part = range(first, min(first + _BATCH, len(scenes)))
        shown = [scenes[index] for index in part]
        labels = torch.tensor([scene.label for scene in shown])
        for name, change in CHANGES.items():
            images = [change(scene, scenes, index) for scene, index in zip(shown, part, strict=True)]
            guess = classify(model, torch.stack(images))
            right[name].append(guess == labels)
            if name == "as they are":
                confusion += torch.bincount(count * labels + guess, minlength=count * count)
        others = torch.tensor(
            [(label + 1 + index % (count - 1)) % count for label, index in zip(labels, part, strict=True)]
        )
        swapped = [_swapped(scenes, index, model.classes[other]) for index, other in zip(part, others, strict=True)]
        follows.append(classify(model, torch.stack(swapped)) == others)
    accuracy = {name: bootstrap(torch.cat(found).double()) for name, found in right.items()}
    return Check(accuracy, confusion.view(count, count).tolist(), model.classes, bootstrap(torch.cat(follows).double()))


def _swapped(source: ObjectScenes, index: int, weave: str) -> Tensor:
    return render_object_scene(source.seed, index, source.size, split=source.split, weave=weave).image


@torch.no_grad()
def classify(model: ViTClassifier, images: Tensor) -> Tensor:
    """The most likely class [B] of images [B, 3, H, W] in [0, 1]."""
    return model(model.preprocess(images)).argmax(1)


def markdown(check: Check) -> str:
    """Two tables: accuracy by change, and the confusion."""
    accuracy = {**check.accuracy, "object woven as another class: share of answers that follow": check.follows}
    answers = [[name, *map(str, row)] for name, row in zip(check.classes, check.confusion, strict=True)]
    tables = [
        markdown_table(["scenes", "accuracy"], [[name, str(interval)] for name, interval in accuracy.items()]),
        markdown_table(["true \\ answer", *check.classes], answers),
    ]
    return "\n\n".join(tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="a file of training/scenes_classifier.py; default: as shipped")
    parser.add_argument("--json", type=Path, help="write the numbers there, too")
    args = parser.parse_args()
    model = load_vit_classifier(args.weights) if args.weights else scenes_classifier()
    check = check_classifier(model, ObjectScenes(args.scenes, args.seed, model.image_size), progress=True)
    print(markdown(check))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(asdict(check), indent=1) + "\n")


if __name__ == "__main__":
    main()
