"""What a perturbation test of explanations of a class found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_ultra.intervals import Interval, bootstrap, bootstrap_of
from captum_ultra.perturbation.class_curves import area, log_odds_change, probability_drop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["QUANTITIES", "SCORES", "ClassPerturbationResult", "Curve"]

QUANTITIES = ("accuracy", "probability", "drop", "log_odds")
"""What has a value at every step: correct or not, p_k, p - p_k, ln(p_k / p)."""

SCORES = ("accuracy_auc", "probability_auc", "aopc", "log_odds")
"""What has one value an image: 100 times the area of the accuracy, the area of p_k, the means of the other two."""

_TENSORS = ("predicted", "log_probability", "clean_predicted", "clean_log_probability", "targets", "labels")


class Curve(NamedTuple):
    """Mean over images at every step [S], and both ends of its confidence interval [S], NaN for one image."""

    steps: tuple[float, ...]
    mean: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class ClassPerturbationResult:
    """Predictions while pixels are removed (or inserted) in the order that explanations give.

    Attributes:
        steps: S shares of the pixels.
        orders: O names of orders.
        predicted: int64 [N, O, S], the class that the model predicts for the changed image.
        log_probability: float64 [N, O, S], ln p_k of the explained class.
        clean_predicted: int64 [N], for the whole image.
        clean_log_probability: float64 [N], ln p of the explained class for the whole image.
        targets: int64 [N], the explained classes.
        labels: int64 [N], the true ones; None if they are not known.
        confidence: of the intervals, which are taken over images.
        settings: what was tested, in plain numbers and strings.

    Example:
        >>> result = ClassPerturbationResult(
        ...     (0.25, 0.75), ("positive",), torch.tensor([[[1, 0]], [[1, 1]]]),
        ...     torch.tensor([[[0.5, 0.1]], [[0.5, 0.3]]]).double().log(), torch.tensor([1, 1]),
        ...     torch.tensor([0.5, 0.5]).double().log(), torch.tensor([1, 1]), torch.tensor([1, 1]),
        ... )
        >>> result.curve("accuracy", "positive").mean.tolist()
        [1.0, 0.5]
        >>> round(result.score("aopc", "positive").mean, 4)
        0.15
    """

    steps: tuple[float, ...]
    orders: tuple[str, ...]
    predicted: Tensor
    log_probability: Tensor
    clean_predicted: Tensor
    clean_log_probability: Tensor
    targets: Tensor
    labels: Tensor | None = None
    confidence: float = 0.95
    settings: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        count = len(self.targets)
        shape = (count, len(self.orders), len(self.steps))
        if not count or tuple(self.predicted.shape) != shape or tuple(self.log_probability.shape) != shape:
            raise ValueError(
                f"predicted {list(self.predicted.shape)} and log_probability {list(self.log_probability.shape)} must "
                f"be [images, orders, steps], {list(shape)}"
            )
        for name in ("clean_predicted", "clean_log_probability", "labels"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != (count,):
                raise ValueError(f"{name} {list(value.shape)} must hold one number for each of {count} images")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; it must lie between 0 and 1")

    def __len__(self) -> int:
        return len(self.targets)

    def values(self, quantity: str, order: str) -> Tensor:
        """Of every image at every step, float64 [N, S].

        Args:
            quantity: a name among ``QUANTITIES``.
            order: a name among ``orders``.

        Raises:
            ValueError: for other names, or for the accuracy where labels are not known.
        """
        if order not in self.orders:
            raise ValueError(f"order {order!r} was not tested; possible: {', '.join(map(repr, self.orders))}")
        column = self.orders.index(order)
        if quantity == "accuracy":
            if self.labels is None:
                raise ValueError("the accuracy needs the true classes: run the test with labels=...")
            return (self.predicted[:, column] == self.labels[:, None]).double()
        changed = self.log_probability[:, column]
        if quantity == "probability":
            return changed.exp()
        if quantity == "drop":
            return probability_drop(self.clean_log_probability, changed)
        if quantity == "log_odds":
            return log_odds_change(self.clean_log_probability, changed)
        raise ValueError(f"quantity {quantity!r} is unknown; possible: {', '.join(map(repr, QUANTITIES))}")

    def curve(self, quantity: str, order: str) -> Curve:
        """Mean over images at every step, with its interval; arguments as in :meth:`values`."""
        mean, low, high = bootstrap_of(self.values(quantity, order), confidence=self.confidence)
        return Curve(self.steps, mean, low, high)

    def per_image(self, score: str, order: str) -> Tensor:
        """The score of every image, float64 [N].

        Args:
            score: a name among ``SCORES``.
            order: a name among ``orders``.

        Raises:
            ValueError: for other names; for an area of fewer than two steps; for the accuracy without labels.
        """
        if score in ("accuracy_auc", "probability_auc"):
            if len(self.steps) < 2:
                raise ValueError(f"{score} is an area and needs at least two steps, got {self.steps}")
            if score == "accuracy_auc":
                return 100 * area(self.values("accuracy", order), self.steps)
            return area(self.values("probability", order), self.steps)
        if score == "aopc":
            return self.values("drop", order).mean(1)
        if score == "log_odds":
            return self.values("log_odds", order).mean(1)
        raise ValueError(f"score {score!r} is unknown; possible: {', '.join(map(repr, SCORES))}")

    def score(self, score: str, order: str) -> Interval:
        """Mean over images with its interval; arguments as in :meth:`per_image`."""
        return bootstrap(self.per_image(score, order), self.confidence)

    def difference(self, score: str, order: str = "negative", other: str = "positive") -> Interval:
        """``order`` minus ``other``, with the interval of the difference, which is taken within images."""
        return bootstrap(self.per_image(score, order) - self.per_image(score, other), self.confidence)

    def summary(self) -> dict[str, dict[str, Interval]]:
        """Every score that can be computed, by order and name."""
        known = [
            name
            for name in SCORES
            if not (name == "accuracy_auc" and self.labels is None)
            and not (name.endswith("auc") and len(self.steps) < 2)
        ]
        return {order: {name: self.score(name, order) for name in known} for order in self.orders}

    @classmethod
    def concatenate(cls, results: Sequence[ClassPerturbationResult]) -> ClassPerturbationResult:
        """One result of the results of several batches of one test.

        Raises:
            ValueError: for no results, or some of different tests.
        """
        if not results:
            raise ValueError("results is empty; give at least one")
        one = results[0]
        for each in results[1:]:
            same = (each.steps, each.orders, each.confidence, each.settings, each.labels is None)
            if same != (one.steps, one.orders, one.confidence, one.settings, one.labels is None):
                raise ValueError("results of different tests cannot be put together: their settings differ")
        joined: dict[str, Any] = {
            name: None if getattr(one, name) is None else torch.cat([getattr(each, name) for each in results])
            for name in _TENSORS
        }
        return cls(one.steps, one.orders, **joined, confidence=one.confidence, settings=one.settings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings, ready for ``json.dump``; NaN becomes None."""
        summary = {
            order: {name: [_plain(each.mean), _plain(each.low), _plain(each.high)] for name, each in scores.items()}
            for order, scores in self.summary().items()
        }
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in plain.items():
            if isinstance(value, Tensor):
                plain[name] = value.tolist()
        return {**plain, "steps": list(self.steps), "orders": list(self.orders), "summary": summary}

    def save(self, path: str | Path) -> None:
        """Write everything to a file: ``.json``, which also holds the summary, or ``.npz``, which is smaller.

        Raises:
            ValueError: for another suffix.
        """
        path = Path(path)
        if path.suffix == ".json":
            path.write_text(json.dumps(self.to_dict(), allow_nan=False))
        elif path.suffix == ".npz":
            arrays = {name: getattr(self, name) for name in _TENSORS}
            about = {"orders": self.orders, "confidence": self.confidence, "settings": self.settings}
            np.savez_compressed(
                path, steps=np.array(self.steps), about=np.array(json.dumps(about)),
                **{name: value.cpu().numpy() for name, value in arrays.items() if value is not None},
            )  # fmt: skip
        else:
            raise ValueError(f"{path.name} must end in .json or .npz")

    @classmethod
    def load(cls, path: str | Path) -> ClassPerturbationResult:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: for another suffix.
        """
        path = Path(path)
        if path.suffix == ".json":
            plain = json.loads(path.read_text())
            arrays = {name: None if plain[name] is None else np.array(plain[name]) for name in _TENSORS}
            about, steps = plain, plain["steps"]
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                about, steps = json.loads(str(stored["about"])), stored["steps"].tolist()
                arrays = {name: stored.get(name) for name in _TENSORS}
        else:
            raise ValueError(f"{path.name} must end in .json or .npz")
        tensors: dict[str, Any] = {
            name: None if value is None else torch.from_numpy(value) for name, value in arrays.items()
        }
        return cls(
            tuple(steps), tuple(about["orders"]), **tensors, confidence=about["confidence"], settings=about["settings"]
        )

    def figure(self, quantity: str | None = None) -> Figure:
        """The curves of all orders with their intervals.

        Args:
            quantity: a name among ``QUANTITIES``; by default the accuracy, or the probability without labels.
        """
        from captum_ultra.insights.faithfulness_curves import orders_figure

        return orders_figure(self, quantity)


def _plain(number: float) -> float | None:
    return number if number == number else None
