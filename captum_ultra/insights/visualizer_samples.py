"""The samples of a dataset, read one batch after the other as they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from captum_ultra.insights.features import BaseFeature
from captum_ultra.insights.visualizer_errors import RequestError

__all__ = ["Sample", "Samples"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample, with a batch axis of length one.

    Attributes:
        original: as it is in the dataset, [1, ...].
        label: the true class; None if it is not known.
        extra: further arguments of the model, None or a tuple.
        feature: says how the sample is prepared.
    """

    original: Tensor
    label: int | None
    extra: tuple[Any, ...] | None
    feature: BaseFeature

    @cached_property
    def inputs(self) -> Tensor:
        """As the model takes it, [1, ...]: prepared when it is first needed.

        The transforms see one sample without its batch axis, as in Captum Insights.
        """
        value = self.original[0]
        for transform in self.feature.input_transforms:
            value = transform(value)
        return value[None]


class Samples:
    """A list of samples that grows while a dataset, which may have no end, is read.

    What cannot be read keeps its place in the list, so that the others can be had.

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
        self._read: list[Sample | Exception] = []
        self._ended = False

    def reach(self, count: int) -> int:
        """Read until there are ``count`` samples, if there are so many; how many there are then."""
        while len(self._read) < min(count, self._most) and not self._ended:
            try:
                found = self._split(next(self._batches))
            except StopIteration:
                self._ended = True
                break
            except Exception as error:
                found = [error]
            self._read.extend(found[: self._most - len(self._read)])
        return len(self._read)

    @property
    def more(self) -> bool:
        """Whether there may be samples beyond those that were read."""
        return not self._ended and len(self._read) < self._most

    def __getitem__(self, index: int) -> Sample:
        """A sample.

        Raises:
            RequestError: if there is none.
            Exception: what the dataset raised in its place.
        """
        if not 0 <= index < self.reach(index + 1):
            raise RequestError(f"sample {index} does not exist; there are {len(self._read)}")
        found = self._read[index]
        if isinstance(found, Exception):
            raise found
        return found

    def _split(self, batch: Any) -> list[Sample | Exception]:
        """The samples of a batch, or what is wrong with each.

        Raises:
            TypeError, ValueError: for a batch that does not fit the feature.
        """
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
        return [self._sample(batch, index, original, len(inputs)) for index, original in enumerate(inputs.split(1))]

    def _sample(self, batch: Any, index: int, original: Tensor, count: int) -> Sample | Exception:
        try:
            label = None if batch.labels is None else int(batch.labels[index])
            return Sample(original, label, _extra(batch.additional_args, index, count), self._feature)
        except Exception as error:
            return error


def _extra(given: Any, index: int, count: int) -> tuple[Any, ...] | None:
    """The further arguments of one sample: of tensors its row, of anything else the whole."""
    if given is None:
        return None
    listed = given if isinstance(given, tuple) else (given,)
    return tuple(
        each[index : index + 1] if isinstance(each, Tensor) and each.dim() and len(each) == count else each
        for each in listed
    )
