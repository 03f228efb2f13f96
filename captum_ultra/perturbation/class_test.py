"""Does a class fade when the pixels that its explanation calls relevant are removed?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_ultra.adapters import ModelViews
from captum_ultra.adapters.class_scores import Head, check_head, class_scores
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.perturbation.class_curves import check_steps, class_log_probability
from captum_ultra.perturbation.class_result import ClassPerturbationResult
from captum_ultra.perturbation.pixel_orders import (
    INSERTIONS,
    ORDERS,
    REMOVALS,
    black_of,
    pixel_ranks,
    steps_in_pixels,
    switch_pixels,
)
from captum_ultra.relevance import explaining

__all__ = ["INSERTION_STEPS", "REMOVAL_STEPS", "ClassPerturbationTest"]

REMOVAL_STEPS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
INSERTION_STEPS = tuple(round(0.05 * twentieth, 2) for twentieth in range(21))


class ClassPerturbationTest:
    """The perturbation tests of explanations of a class, with a control in random order.

    Orders that remove pixels, which become black:

    - ``"positive"``: most relevant first. A faithful map makes accuracy and probability fall fast.
    - ``"negative"``: least relevant first. A faithful map keeps them up.
    - ``"random"``: the control, in the order of a random map for every image.

    Insertion and deletion, which go from 0 to all pixels: ``"deletion"`` removes the most relevant first,
    ``"insertion"`` puts them first into a black image; ``"random_deletion"`` and ``"random_insertion"`` are
    their controls.

    What an image gives depends on the seed and its number only, not on the other images or the batches. Of
    equal values in a map, the pixel that comes first row by row is changed first, in every order.

    Args:
        model: a classifier, of any kind: only its scores are read.
        order: one order or several; removal and insertion/deletion need two tests, their steps differ.
        steps: shares of the pixels in increasing order: 0.1 .. 0.9 for removal, where 0 and 1 are excluded,
            and 0, 0.05 .. 1 for insertion and deletion.
        mean: [C] that the inputs' normalisation subtracted, one number a channel; black is -mean / std.
        std: [C] by which it divided.
        baseline: instead of mean and std: the normalised value that replaces pixels, a number, [C], or an
            image [C, H, W].
        head: as in :class:`captum_ultra.GenericAttention`, for models that return no class scores.
        forward: instead of the model itself: inputs [B, C, H, W] -> logits [B, K].
        internal_batch_size: changed images in one run of the model.
        random_grid: (rows, columns) of the random maps, best as many as the model has patches; None draws
            every pixel by itself.
        seed: of the random maps.
        confidence: of the intervals.

    Raises:
        ValueError, TypeError: for arguments.

    Source:
        Chefer et al. (CVPR 2021), section 4; TokenTM (arXiv 2403.14552), tables 2 to 5. Insertion and
        deletion: RISE (Petsiuk et al., BMVC 2018), section 4.2, with black for both.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
        >>> test = ClassPerturbationTest(model, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> result = test.run(torch.randn(2, 3, 8, 8), torch.rand(2, 1, 8, 8), targets=[0, 3], labels=[0, 1])
        >>> result.curve("accuracy", "positive").mean.shape, len(result.summary())
        (torch.Size([9]), 3)
    """

    def __init__(
        self, model: nn.Module, order: str | Sequence[str] = ORDERS, steps: Sequence[float] | None = None, *,
        mean: Sequence[float] | Tensor | None = None, std: Sequence[float] | Tensor | None = None,
        baseline: float | Sequence[float] | Tensor | None = None, head: Head | None = None,
        forward: Callable[[Tensor], Tensor] | None = None, internal_batch_size: int = 64,
        random_grid: tuple[int, int] | None = (14, 14), seed: int = 0, confidence: float = 0.95,
    ) -> None:  # fmt: skip
        self.orders = _check_orders(order)
        removes = self.orders[0] in ORDERS
        default = REMOVAL_STEPS if removes else INSERTION_STEPS
        self.steps = check_steps(default if steps is None else steps, ends=not removes)
        self._black = _check_black(mean, std, baseline)
        check_head(head)
        if internal_batch_size < 1:
            raise ValueError(f"internal_batch_size ({internal_batch_size}) must be at least 1")
        if random_grid is not None and min(random_grid) < 1:
            raise ValueError(f"random_grid {random_grid} must have at least one row and one column")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
        self.model, self.head, self.forward = model, head, forward
        self._views = ModelViews(model)
        self.internal_batch_size, self.random_grid = internal_batch_size, random_grid
        self.seed, self.confidence = seed, confidence

    def run(
        self, inputs: Tensor, maps: Tensor, targets: int | Sequence[int] | Tensor | None = None,
        labels: int | Sequence[int] | Tensor | None = None, *, first: int = 0, show_progress: bool = False,
    ) -> ClassPerturbationResult:  # fmt: skip
        """Test the maps of a batch.

        Args:
            inputs: [B, C, H, W], normalised as the model expects.
            maps: [B, 1, H, W] or [B, H, W], as large as the inputs (``output="input"``), of the targets.
            targets: the explained classes, one for all or [B]; the predicted ones when None.
            labels: the true classes, against which the accuracy is counted.
            first: number of the first image, for data sets that are tested in several batches, which
                :meth:`ClassPerturbationResult.concatenate` puts together.
            show_progress: show a progress bar over the changed images.

        Returns:
            Predictions and probabilities by image, order and step; curves and scores with intervals follow.

        Raises:
            ValueError, TypeError: for shapes that do not fit, maps that are not finite, classes that do not
                exist, or a model whose scores are not finite.
            UnsupportedModelError: for models that do not give one score a class, [B, K].
        """
        maps = _check_maps(inputs, maps)
        black = black_of(inputs, *self._black)
        with explaining(self.model, gradients=False):
            clean = torch.cat([self._scores(part) for part in inputs.split(self.internal_batch_size)])
            predicted = clean.argmax(-1)
            classes = predicted if targets is None else _check_classes("targets", targets, clean)
            truth = None if labels is None else _check_classes("labels", labels, clean)
            changed = len(inputs) * len(self.orders) * len(self.steps)
            with tqdm(total=changed, desc="perturbation test", disable=not show_progress) as bar:
                parts = [
                    (scores.argmax(-1).cpu(), class_log_probability(scores, classes[owners]).cpu())
                    for owners, scores in self._changed(inputs, maps, black, first, bar)
                ]
        shape = (len(inputs), len(self.orders), len(self.steps))
        found, log_probability = (torch.cat(each).view(shape) for each in zip(*parts, strict=True))
        return ClassPerturbationResult(
            self.steps, self.orders, found, log_probability, predicted.cpu(),
            class_log_probability(clean, classes).cpu(), classes.cpu(), None if truth is None else truth.cpu(),
            self.confidence, self.settings(),
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """What is tested, in plain numbers and strings."""
        names = ("mean", "std", "baseline")
        return {
            **{
                name: value.tolist() if value.dim() < 2 else f"an image {list(value.shape)}"
                for name, value in zip(names, self._black, strict=True)
                if value is not None
            },
            "random_grid": None if self.random_grid is None else list(self.random_grid),
            "seed": self.seed,
        }

    def _changed(
        self, inputs: Tensor, maps: Tensor, black: Tensor, first: int, bar: tqdm
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The images [b] and the scores [b, K] of their changed versions, image by image, order by order."""
        counts = torch.tensor(steps_in_pixels(self.steps, maps[0].numel()), device=inputs.device)
        insert = torch.tensor([order in INSERTIONS for order in self.orders], device=inputs.device)
        versions = len(self.orders) * len(self.steps)
        together = max(1, self.internal_batch_size // versions)
        for start in range(0, len(inputs), together):
            part = slice(start, start + together)
            ranks = torch.stack(
                [
                    pixel_ranks(maps[part], order, seed=self.seed, first=first + start, grid=self.random_grid)
                    for order in self.orders
                ],
                dim=1,
            )
            everything = torch.arange(len(ranks) * versions, device=inputs.device)
            for chosen in everything.split(self.internal_batch_size):
                image, version = chosen // versions, chosen % versions
                order, step = version // len(self.steps), version % len(self.steps)
                changed = switch_pixels(
                    inputs[part][image], ranks[image, order], counts[step], black, insert[order]
                )  # fmt: skip
                yield image + start, self._scores(changed)
                bar.update(len(chosen))

    def _scores(self, inputs: Tensor) -> Tensor:
        """Logits [B, K]."""
        if self.forward is not None:
            scores = self.forward(inputs)
        else:
            scores = class_scores(self.model, self._output(inputs), self.head)
        if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(inputs):
            got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            who = type(self.model).__name__ if self.forward is None else "forward"
            raise UnsupportedModelError(
                f"{who} gives {got} for {len(inputs)} images; one score a class, [B, K], is needed: give "
                "forward=callable (inputs -> [B, K])"
            )
        if not bool(scores.isfinite().all()):
            raise ValueError(f"{type(self.model).__name__} gives scores that are not finite; check weights and dtype")
        return scores

    def _output(self, inputs: Tensor) -> Any:
        """What the model returns, or of a two-tower model the tower that the inputs belong to."""
        if self.head is None:
            return self.model(inputs)
        view = self._views(inputs)
        return view.call(view.model, inputs, None)


def _check_orders(order: str | Sequence[str]) -> tuple[str, ...]:
    orders = (order,) if isinstance(order, str) else tuple(order)
    known = (*REMOVALS, *INSERTIONS)
    wrong = [each for each in orders if each not in known]
    if not orders or wrong:
        raise ValueError(f"order={order!r}: possible are {', '.join(map(repr, known))}")
    if len(set(orders)) < len(orders):
        raise ValueError(f"order={order!r}: name each once")
    if len({each in ORDERS for each in orders}) > 1:
        raise ValueError(
            f"order={order!r} mixes removal ({', '.join(ORDERS)}) with insertion or deletion, whose steps differ; make "
            "one test of each"
        )
    return orders


def _check_black(mean: Any, std: Any, baseline: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    if (mean is None) != (std is None) or (mean is None) == (baseline is None):
        raise ValueError(
            "what black is in the inputs depends on their normalisation: give mean=... and std=..., one number a "
            "channel each, or baseline=..., the value of black (0.0 for inputs that are not normalised)"
        )
    mean, std, baseline = (None if each is None else torch.as_tensor(each) for each in (mean, std, baseline))
    if std is not None and not bool((std > 0).all()):
        raise ValueError(f"std {std.tolist()} must be positive")
    if any(each is not None and not bool(each.isfinite().all()) for each in (mean, std, baseline)):
        raise ValueError("mean, std and baseline must be finite")
    return mean, std, baseline


def _check_maps(inputs: Tensor, maps: Tensor) -> Tensor:
    """[B, H, W]."""
    if inputs.dim() != 4 or not inputs.is_floating_point() or not len(inputs):
        raise ValueError(f"inputs must be floating point [B, C, H, W], got {inputs.dtype} {list(inputs.shape)}")
    batch, _, height, width = inputs.shape
    if tuple(maps.shape) not in ((batch, 1, height, width), (batch, height, width)):
        raise ValueError(
            f"maps {list(maps.shape)} do not fit inputs {list(inputs.shape)}; one map of the inputs' size is needed, "
            f'[{batch}, 1, {height}, {width}]: attribute(..., output="input")'
        )
    if maps.is_complex() or not bool(maps.isfinite().all()):
        raise ValueError("maps hold values that are not finite real numbers; no order of pixels follows from them")
    return maps.detach().reshape(batch, height, width).to(inputs.device)


def _check_classes(name: str, given: Any, scores: Tensor) -> Tensor:
    """One class an image [B]."""
    classes, (batch, count) = torch.as_tensor(given, device=scores.device), scores.shape
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise TypeError(f"{name} must be class numbers, got {classes.dtype}")
    if classes.dim() > 1 or (classes.dim() == 1 and len(classes) not in (1, batch)):
        raise ValueError(f"{name} {list(classes.shape)} for {batch} images; give one class, or [{batch}]")
    wrong = (classes < 0) | (classes >= count)
    if bool(wrong.any()):
        raise ValueError(
            f"{name}: class {int(classes[wrong].flatten()[0])} does not exist, the model has {count} classes "
            f"(0..{count - 1})"
        )
    return classes.long().expand(batch)
