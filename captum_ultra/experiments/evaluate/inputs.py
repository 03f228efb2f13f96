"""What is read: the images of a data set, brought to the model's own input."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.data.registry import SEGMENTATION_DATASETS, segmentation_dataset
from captum_ultra.data.samples import SegmentationDataset
from captum_ultra.experiments.evaluate.options import Options
from captum_ultra.models.loader import LoadedModel, load_model
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["ModelInput", "ModelInputs", "check_data", "chosen_images", "load_subject", "open_data"]


@dataclass(frozen=True)
class ModelInput:
    """Square RGB images in 0..1 as a model reads them.

    A model's own preprocessing crops, which would part the image from its labels: here the whole square is
    resized (bicubic, antialiased) and normalised by the model's mean and deviation.

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
            raise ValueError(f"{loaded.name!r} reads {loaded.kind}, not images: it has no segmentation to evaluate")
        from PIL import Image

        height, width = loaded.preprocess(Image.new("RGB", (64, 64))).shape[-2:]
        if height != width:
            raise ValueError(f"{loaded.name!r} reads images of {height} x {width} pixels; the protocol's are square")
        parameter = next(loaded.model.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        return cls(height, loaded.mean, loaded.std, device)

    def __call__(self, image: Tensor) -> Tensor:
        """An image [3, H, H] as input [1, 3, side, side]."""
        batch = image[None].to(self.device)
        if batch.shape[-1] != self.side or batch.shape[-2] != self.side:
            low, high = batch.aminmax()
            batch = F.interpolate(batch, size=(self.side, self.side), mode="bicubic", antialias=True).clamp(low, high)
        mean, std = (torch.tensor(each, device=batch.device).view(-1, 1, 1) for each in (self.mean, self.std))
        return (batch - mean) / std


@dataclass(frozen=True)
class ModelInputs:
    """Some images of a data set as inputs [3, side, side], read when asked for."""

    data: SegmentationDataset
    numbers: list[int]
    prepare: ModelInput

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> Tensor:
        return self.prepare(self.data[self.numbers[index]].image)[0]


def open_data(options: Options, root: str | Path | None, side: int, split: str, length: int) -> SegmentationDataset:
    """The data set of an evaluation.

    Args:
        options: name, size, seed and noise.
        root: where its archives were unpacked; None for scenes.
        side: of the model's input, which is the size of scenes unless the options have another.
        split: the part.
        length: number of scenes.

    Raises:
        ValueError: for an unknown name or split, or a root that is missing or too much.
        FileNotFoundError: for files that are missing; names them.
    """
    if options.data != "scenes":
        return segmentation_dataset(options.data, root, split, size=options.size)
    return segmentation_dataset(
        "scenes", root, split, size=options.size or side, length=length, seed=options.seed, noise=options.noise
    )


def check_data(options: Options, root: str | Path | None) -> None:
    """Raise what :func:`open_data` would, before any model is loaded."""
    if options.data not in SEGMENTATION_DATASETS:
        raise ValueError(f"data set {options.data!r} is unknown; known are {', '.join(SEGMENTATION_DATASETS)}")
    splits = [options.split] if options.score != "w" else [options.split, options.train_split]
    for split in splits:
        open_data(options, root, 64, split, 1)


def load_subject(options: Options, device: str = "cpu") -> LoadedModel:
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


def chosen_images(options: Options, data: SegmentationDataset, count: int | None) -> list[int]:
    """The numbers of ``count`` images; of files a random choice, to which a larger count only adds.

    Scenes come in their order, which is random. All images where there are not more.
    """
    if count is None or count >= len(data) or options.data == "scenes":
        return list(range(len(data)))
    return torch.randperm(len(data), generator=seeded_generator(options.seed))[:count].tolist()
