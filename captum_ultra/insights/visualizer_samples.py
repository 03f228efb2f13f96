"""The samples of a dataset, read one batch after the other as they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_ultra.insights.features import BaseFeature

__all__ = ["Sample", "Samples"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample, with a batch axis of length one.

    Attributes:
        original: as it is in the dataset, [1, ...].
        inputs: as the model takes it, [1, ...].
        label: the true class; None if it is not known.
        extra: further arguments of the model, None or a tuple.
    """

    original: Tensor
    inputs: Tensor
    label: int | None
    extra: tuple[Any, ...] | None


class Samples:
    """A list of samples that grows while a dataset, which may have no end, is read.

    Args:
        dataset: batches with ``inputs``, ``labels`` and ``additional_args``, as Captum Insights takes them.
        feature: says how a sample is prepared.
        most: so many samples are kept at most; the rest of the dataset is not read.

    Example:
        >>> import torch
        >>> from captum_ultra.insights.features import Batch, ImageFeature
        >>> samples = Samples([Batch(torch.rand(3, 3, 8, 8))], ImageFeature("Photo"), most=2)
        >>> samples.reach(10)
        2
    """

    def __init__(self, dataset: Iterable[Any], feature: BaseFeature, most: int) -> None:
        self._batches = iter(dataset)
        self._feature = feature
        self._most = most
        self._read: list[Sample] = []
        self._ended = False

    def reach(self, count: int) -> int:
        """Read until there are ``count`` samples, if there are so many; how many there are then.

        Raises:
            TypeError, ValueError: for a batch that does not fit the features.
        """
        while len(self._read) < min(count, self._most) and not self._ended:
            batch = next(self._batches, None)
            if batch is None:
                self._ended = True
            else:
                self._read.extend(self._split(batch))
                del self._read[self._most :]
        return len(self._read)

    @property
    def more(self) -> bool:
        """Whether there may be samples beyond those that were read."""
        return not self._ended and len(self._read) < self._most

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.reach(index + 1):
            raise ValueError(f"sample {index} does not exist; there are {len(self._read)}")
        return self._read[index]

    def _split(self, batch: Any) -> Iterator[Sample]:
        inputs = batch.inputs
        if isinstance(inputs, tuple | list) and len(inputs) == 1:
            (inputs,) = inputs
        if not isinstance(inputs, Tensor) or inputs.dim() < 2:
            raise TypeError(
                "inputs of a batch must be one tensor with a batch axis (further arguments of the model go into "
                f"additional_args), got {type(inputs).__name__}"
            )
        if batch.labels is not None and len(batch.labels) != len(inputs):
            raise ValueError(f"a batch has {len(batch.labels)} labels for {len(inputs)} samples")
        for index, original in enumerate(inputs.split(1)):
            label = None if batch.labels is None else int(batch.labels[index])
            extra = _extra(batch.additional_args, index, len(inputs))
            yield Sample(original, _prepared(self._feature, original), label, extra)


def _prepared(feature: BaseFeature, original: Tensor) -> Tensor:
    """The transforms see one sample without its batch axis, as in Captum Insights."""
    value = original[0]
    for transform in feature.input_transforms:
        value = transform(value)
    return value[None]


def _extra(given: Any, index: int, count: int) -> tuple[Any, ...] | None:
    """The further arguments of one sample: of tensors its row, of anything else the whole."""
    if given is None:
        return None
    listed = given if isinstance(given, tuple) else (given,)
    return tuple(
        each[index : index + 1] if isinstance(each, Tensor) and each.dim() and len(each) == count else each
        for each in listed
    )
