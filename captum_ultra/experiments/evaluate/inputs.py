"""Images brought to the model's own input, the model by its name, and which images are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.experiments.evaluate.options import StudyOptions
from captum_ultra.models.loader import LoadedModel, load_model
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["ModelInput", "chosen_images", "load_subject"]


@dataclass(frozen=True)
class ModelInput:
    """RGB images in 0..1 as a model reads them.

    A model's own preprocessing crops, which would part the image from its labels: here the whole image is
    resized to the model's square (bicubic, antialiased) and normalised by the model's mean and deviation.

    Attributes:
        side: of the model's input in pixels.
        mean: of the channels.
        std: of the channels.
        device: where the input is put.
    """

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def of(cls, loaded: LoadedModel) -> ModelInput:
        """The input of a model, put where the model is.

        Raises:
            ValueError: if the model reads no images, or none that are square.
        """
        if loaded.preprocess is None:
            raise ValueError(f"{loaded.name!r} reads {loaded.kind}, not images: there is nothing to evaluate")
        from PIL import Image

        height, width = loaded.preprocess(Image.new("RGB", (64, 64))).shape[-2:]
        if height != width:
            raise ValueError(f"{loaded.name!r} reads images of {height} x {width} pixels; the protocol's are square")
        parameter = next(loaded.model.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        return cls(height, loaded.mean, loaded.std, device)

    def __call__(self, image: Tensor) -> Tensor:
        """An image [3, H, W] as input [1, 3, side, side]."""
        batch = image[None].to(self.device)
        if batch.shape[-1] != self.side or batch.shape[-2] != self.side:
            low, high = batch.aminmax()
            batch = F.interpolate(batch, size=(self.side, self.side), mode="bicubic", antialias=True).clamp(low, high)
        mean, std = (torch.tensor(each, device=batch.device).view(-1, 1, 1) for each in (self.mean, self.std))
        return (batch - mean) / std


def load_subject(options: StudyOptions, device: str = "cpu") -> LoadedModel:
    """The model of an evaluation; untrained ones have the same weights in every run.

    Raises:
        ValueError: for an unknown model, or a device that this machine does not have.
        ModelNotAvailableError: as :func:`captum_ultra.models.loader.load_model`.
    """
    place = _device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        loaded = load_model(options.model, pretrained=not options.random_weights)
    loaded.model.to(place)
    return loaded


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; 'cpu' and 'cuda' are usual") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: torch finds no CUDA device here; 'cpu' is always there")
    return device


def chosen_images(options: StudyOptions, names: Sequence[str], count: int | None) -> list[int]:
    """The numbers of ``count`` images among those with these names; all where there are not more.

    Scenes come in their order, which is random; of files it is a random choice, to which a larger count only adds.
    """
    if count is None or count >= len(names) or options.data == "scenes":
        return list(range(len(names)))
    return torch.randperm(len(names), generator=seeded_generator(options.seed))[:count].tolist()
