"""What the studies of ULTra have in common: labelled images, layers and scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.scores import Score
from captum_ultra.data.samples import SegmentationDataset, SegmentationSample
from captum_ultra.experiments.evaluate.inputs import ModelInput, chosen_images
from captum_ultra.experiments.evaluate.study import Result, Setting, Study
from captum_ultra.experiments.evaluate.ultra.data import ModelInputs, check_data, open_data
from captum_ultra.experiments.evaluate.ultra.learned import LearnedScores, scores_by_name
from captum_ultra.experiments.evaluate.ultra.options import Options
from captum_ultra.experiments.evaluate.ultra.published import backbone_of
from captum_ultra.models.loader import LoadedModel

__all__ = ["Result", "UltraSetting", "UltraStudy"]


@dataclass(frozen=True, eq=False)
class UltraSetting(Setting):
    """What a study of ULTra works on.

    Attributes:
        options: of the evaluation.
        data: images with their labels.
        layer: number of blocks passed, from 1.
        depth: the number of the model's blocks.
        pixels: (H, W) of the labels.
        scores: of a layer, by the paper's names.
    """

    options: Options
    data: SegmentationDataset
    layer: int
    depth: int
    pixels: tuple[int, int]
    scores: Callable[[int], Mapping[str, Score]]

    @property
    def classes(self) -> int:
        """How many classes the data set has."""
        return len(self.data.classes)

    @property
    def backbone(self) -> str | None:
        """The paper's name of the model, where the numbers can be compared with its own.

        That is: pretrained weights, the last layer, and the protocol's images.
        """
        options = self.options
        as_published = options.split == "val" and options.size is None and not options.random_weights
        return backbone_of(options.model) if as_published and self.layer == self.depth else None

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "layer": self.layer, "pixels": self.pixels}


class UltraStudy(Study[Options, UltraSetting]):
    """One kind of table or figure of the ULTra paper (arXiv 2411.12589)."""

    options_class = Options
    heading = "score"
    sweep: ClassVar[tuple[float, ...]] = ()  # unless the options say otherwise
    expected: ClassVar[str] = ""  # of a value that is swept
    cuts: ClassVar[bool] = False  # whether k and zeta matter

    def __init__(self, setting: UltraSetting) -> None:
        super().__init__(setting)
        self.values = setting.options.values or self.own_values()
        # All of them now: ULTra_W is trained before the first image is looked at.
        self.scores_at = {layer: setting.scores(layer) for layer in self.layers()}
        self.scores = self.scores_at[self.layers()[-1]]

    def own_values(self) -> tuple[float, ...]:
        """What is swept where the options do not say."""
        return self.sweep

    def layers(self) -> tuple[int, ...]:
        """The layers that are explained, numbers of blocks passed."""
        return (self.setting.layer,)

    @classmethod
    def check(cls, options: Options) -> None:
        if options.values and not cls.axis:
            raise ValueError(f"{options.study} sweeps nothing: leave values={options.values} away")
        if not options.oracle and not cls.cuts:
            raise ValueError(f"{options.study} cuts no tree at a k or zeta of yours: leave k and zeta away")
        if any(not cls.possible(value) for value in options.values):
            raise ValueError(f"values {options.values}: a {cls.axis} must be {cls.expected}")

    @classmethod
    def check_data(cls, options: Options, root: str | Path | None) -> None:
        check_data(options, root)

    @classmethod
    def setting_for(
        cls, options: Options, loaded: LoadedModel, root: str | Path | None, folder: Path, show_progress: bool
    ) -> UltraSetting:
        model, prepare = loaded.model, ModelInput.of(loaded)
        data = open_data(options, root, prepare.side, options.split, options.scenes)
        learned = _learned(options, loaded, prepare, root, folder, show_progress)
        sample = data[0]
        x, (height, width) = prepare(sample.image), sample.labels.shape
        layer, depth = (LatentReader(model, each).number(x) for each in (options.layer, -1))
        scores = partial(scores_by_name, options.score, learned=learned)
        setting = UltraSetting(options, model, data, prepare, layer, depth, (height, width), scores)
        cls.check_model(setting)
        return setting

    @classmethod
    def check_model(cls, setting: UltraSetting) -> None:
        """Raise ``ValueError`` for a model that lacks what is asked for, before anything is written."""

    @classmethod
    def possible(cls, value: float) -> bool:
        """Whether a value can be swept."""
        return True

    def subject(self, images: str) -> str:
        setting, options = self.setting, self.setting.options
        layers = ", ".join(map(str, self.layers()))
        noise = f", noise {options.noise:g}" if options.noise else ""
        weights = ", random weights" if options.random_weights else ""
        return (
            f"{options.data}, split {options.split}, {images}{noise}; {options.model}{weights}, layer {layers} of "
            f"{setting.depth}"
        )

    def result_of(self, sample: SegmentationSample, number: int) -> Result:
        return self.measure(self.setting.prepare(sample.image), sample.labels, number)

    @abstractmethod
    def measure(self, x: Tensor, target: Tensor, number: int) -> Result:
        """What one image gives.

        Args:
            x: the input [1, 3, side, side].
            target: its labels, int64 [H, W].
            number: of the image in its data set.
        """


def _learned(
    options: Options, loaded: LoadedModel, prepare: ModelInput, root: str | Path | None, folder: Path, progress: bool
) -> LearnedScores | None:
    """What trains ULTra_W where it is asked for, on the training part of the same data set; nothing is trained yet."""
    if options.score != "w":
        return None
    samples = options.training.samples
    data = open_data(options, root, prepare.side, options.train_split, samples)
    images = ModelInputs(data, chosen_images(options, data.names, samples), prepare)
    return LearnedScores(loaded.model, images, options.training, folder, progress)
