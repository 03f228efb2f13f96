"""How far an explanation moves when its input hardly does: Captum's max-sensitivity, image by image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_ultra.intervals import Interval, bootstrap
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["SensitivityResult", "max_sensitivity"]

# What Captum repeats for every perturbed copy of a sample; all else is the same for all samples.
_PER_SAMPLE = ("target", "additional_forward_args")


@dataclass(frozen=True)
class SensitivityResult:
    """Max-sensitivity of every image.

    Attributes:
        values: float64 [N]: the largest ||map(x + noise) - map(x)|| / ||map(x)|| over the samples of noise.
        perturb_radius: of the noise, in units of the input.
        n_perturb_samples: samples of noise an image.
        confidence: of the interval.
    """

    values: Tensor
    perturb_radius: float
    n_perturb_samples: int
    confidence: float = 0.95

    @property
    def interval(self) -> Interval:
        """The mean over images with its interval."""
        return bootstrap(self.values, self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, ready for ``json.dump``; the ends are None for one image."""
        found = self.interval
        ends = [None, None] if found.low != found.low else [found.low, found.high]
        return {
            "mean": found.mean,
            "interval": ends,
            "confidence": self.confidence,
            "perturb_radius": self.perturb_radius,
            "n_perturb_samples": self.n_perturb_samples,
            "values": self.values.tolist(),
        }


def max_sensitivity(
    explain: Any, inputs: Tensor, *, perturb_radius: float = 0.02, n_perturb_samples: int = 10, seed: int = 0,
    first: int = 0, internal_batch_size: int | None = None, confidence: float = 0.95, **arguments: Any,
) -> SensitivityResult:  # fmt: skip
    """Max-sensitivity through ``captum.metrics.sensitivity_max``, with noise that a seed decides.

    The noise of an image is uniform in [-perturb_radius, perturb_radius] and depends on the seed and the
    image's number only, not on the batch. Give the explained class (``target=``): where it is left out, a
    method that explains the predicted class may explain another one after the noise.

    A low value is no merit by itself: a map that never changes has a sensitivity of 0.

    Args:
        explain: any object with ``attribute(inputs, ...)``, as Captum's, or a callable.
        inputs: [B, ...], floating point.
        perturb_radius: not negative, in units of the (normalised) input.
        n_perturb_samples: samples of noise an image.
        seed: of the noise.
        first: number of the first image, for data sets that come in several batches.
        internal_batch_size: perturbed images explained at once, at least the size of the batch; all when None.
        confidence: of the interval.
        **arguments: of ``attribute``: ``target=``, ``token=``, ``layer=`` and so on.

    Returns:
        The value of every image, and the interval of their mean.

    Raises:
        ValueError, TypeError: for arguments, or maps that are not finite.

    Source:
        Yeh et al. (NeurIPS 2019), "On the (In)fidelity and Sensitivity of Explanations", definition 2.2; the
        distance is divided by the norm of the map, as Captum does.

    Example:
        >>> from captum.attr import Saliency
        >>> saliency = Saliency(torch.nn.Linear(4, 3))
        >>> max_sensitivity(saliency, torch.rand(2, 4), target=1).values  # the gradient is constant
        tensor([0., 0.], dtype=torch.float64)
    """
    from captum.metrics import sensitivity_max

    attribute = _attribute_of(explain)
    _check(inputs, perturb_radius, n_perturb_samples, internal_batch_size)
    generators = [seeded_generator(seed, first + number) for number in range(len(inputs))]
    together = None if internal_batch_size is None else min(internal_batch_size, len(inputs) * n_perturb_samples)
    per_sample = {name: arguments.pop(name) for name in _PER_SAMPLE if name in arguments}
    # Captum copies its keyword arguments deeply, which would part a block given as ``layer`` from its model.
    bound = partial(_explained, attribute, arguments)
    found = sensitivity_max(
        bound, inputs, perturb_func=partial(_add_noise, generators, perturb_radius),
        n_perturb_samples=n_perturb_samples, max_examples_per_batch=together, **per_sample,
    )  # fmt: skip
    return SensitivityResult(found.detach().double().cpu(), perturb_radius, n_perturb_samples, confidence)


def _attribute_of(explain: Any) -> Callable[..., Any]:
    attribute = getattr(explain, "attribute", explain)
    if not callable(attribute):
        raise TypeError(f"{type(explain).__name__} has no attribute(inputs, ...) and is no callable")
    return attribute


def _check(inputs: Tensor, radius: float, samples: int, together: int | None) -> None:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.dim() < 2 or not len(inputs):
        raise TypeError("inputs must be a floating point tensor [B, ...]; ids have no neighbourhood")
    if not 0 <= radius < float("inf"):
        raise ValueError(f"perturb_radius ({radius}) must be finite and not negative")
    if samples < 1:
        raise ValueError(f"n_perturb_samples ({samples}) must be at least 1")
    if together is not None and not len(inputs) <= together:
        raise ValueError(f"internal_batch_size ({together}) must be at least the size of the batch, {len(inputs)}")


def _explained(attribute: Callable[..., Any], arguments: dict[str, Any], inputs: Any, **per_sample: Any) -> Any:
    """Maps as Captum needs them; it gives, and wants back, a tuple of the clean ones and a tensor of the changed."""
    maps = attribute(inputs[0] if isinstance(inputs, tuple) else inputs, **arguments, **per_sample)
    if not isinstance(maps, Tensor):
        raise TypeError(f"the explanation of a tensor must be a tensor [B, ...], got {type(maps).__name__}")
    if not bool(maps.isfinite().all()):
        raise ValueError("a map holds values that are not finite; its sensitivity is not defined")
    maps = maps.detach().contiguous()
    return (maps,) if isinstance(inputs, tuple) else maps


def _add_noise(generators: list[torch.Generator], radius: float, repeated: Tensor) -> Tensor:
    """Noise for inputs [B * n, ...], the n copies of an image side by side.

    Drawn sample by sample, so that an image's noise does not depend on how many samples come at once.
    """
    copies = len(repeated) // len(generators)
    drawn = [torch.rand(repeated.shape[1:], generator=each) for each in generators for _ in range(copies)]
    return repeated + (2 * torch.stack(drawn) - 1).to(repeated) * radius
