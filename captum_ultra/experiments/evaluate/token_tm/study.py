"""What the studies of TokenTM have in common: a classifier, its explanations, images with a class or a mask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.methods import METHODS
from captum_ultra.experiments.evaluate.grid import as_grid
from captum_ultra.experiments.evaluate.inputs import ModelInput
from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.study import Result, Setting, Study
from captum_ultra.experiments.evaluate.token_tm.classifier import Classifier
from captum_ultra.experiments.evaluate.token_tm.data import CLASSES, Sample, label_of, open_data
from captum_ultra.experiments.evaluate.token_tm.maps import (
    LABELS,
    RANDOM,
    MapMaker,
    method_makers,
    random_map,
    try_makers,
)
from captum_ultra.experiments.evaluate.token_tm.options import TokenTMOptions
from captum_ultra.experiments.evaluate.token_tm.published import backbone_of
from captum_ultra.experiments.evaluate.token_tm.removal import ORDERS, STEPS
from captum_ultra.models.loader import LoadedModel
from captum_ultra.perturbation.class_result import ClassPerturbationResult
from captum_ultra.perturbation.class_test import ClassPerturbationTest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Result", "TokenTMSetting", "TokenTMStudy", "label"]

_BASE_16 = (12, 197, 768)  # blocks, tokens, width of ViT-B/16 and DeiT-B/16 at 224 pixels


@dataclass(frozen=True, eq=False)
class TokenTMSetting(Setting):
    """What a study of explanations of a class works on.

    Attributes:
        options: of the evaluation.
        data: images with a class or a mask.
        methods: that are compared, by their short names.
        explained: which classes are.
        shape: of the model: blocks, tokens, width.
        grid: of its patches: rows, columns; 14 x 14 where it is not known.
    """

    options: TokenTMOptions
    data: Any
    methods: tuple[str, ...]
    explained: tuple[str, ...]
    shape: tuple[int, int, int]
    grid: tuple[int, int] = (14, 14)

    @property
    def depth(self) -> int:
        """The number of the model's blocks."""
        return self.shape[0]

    @property
    def backbone(self) -> str | None:
        """The paper's name of the model; None for others, and for random weights."""
        return None if self.options.random_weights else backbone_of(self.options.model)

    @property
    def compares_areas(self) -> bool:
        """Whether the published areas, whose model is not known, stand beside this one's.

        On ImageNet beside DeiT; on CIFAR beside every trained model of that size, as weights for it have no name.
        """
        if self.options.data == "imagenet":
            return self.backbone == "DeiT"
        return self.shape == _BASE_16 and not self.options.random_weights

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "methods": list(self.methods), "explained": list(self.explained)}


class TokenTMStudy(Study[TokenTMOptions, TokenTMSetting]):
    """One kind of table of the TokenTM paper (arXiv 2403.14552)."""

    options_class = TokenTMOptions
    heading = "method"
    takes: ClassVar[tuple[str, ...]] = CLASSES  # data sets
    explains: ClassVar[tuple[str, ...]] = ("predicted",)  # unless the options say otherwise
    needs_label: ClassVar[bool] = False
    orders: ClassVar[tuple[str, ...]] = ORDERS  # in which pixels become black

    def __init__(self, setting: TokenTMSetting) -> None:
        super().__init__(setting)
        self.classifier = Classifier(setting.model)
        self.makers = self.makers_for(setting)
        self.removal = ClassPerturbationTest(
            setting.model, self.orders, STEPS, mean=setting.prepare.mean, std=setting.prepare.std,
            forward=self.classifier,
        )  # fmt: skip

    @classmethod
    def makers_for(cls, setting: TokenTMSetting) -> dict[str, MapMaker]:
        """What makes the maps, by the names of the rows."""
        return method_makers(setting.model, setting.methods)

    @classmethod
    def check_data(cls, options: TokenTMOptions, root: str | Path | None) -> None:
        data = open_data(options, root, 64, cls.takes)
        explained = options.explained or cls.explains
        if (cls.needs_label or "target" in explained) and not data.classes:
            raise ValueError(f"{options.data} tells no classes: explain the predicted one")

    @classmethod
    def setting_for(
        cls, options: TokenTMOptions, loaded: LoadedModel, root: str | Path | None, folder: Path, show_progress: bool
    ) -> TokenTMSetting:
        prepare = ModelInput.of(loaded)
        data = open_data(options, root, prepare.side, cls.takes)
        x = prepare(data[0].image)
        logits = Classifier(loaded.model)(x)
        _check_classes(options, data.classes, logits.shape[1])
        reader = LatentReader(loaded.model)
        shape = (reader.number(x), *reader(x).shape[1:])
        methods = options.methods or tuple(METHODS)
        layout = LatentTokenAttribution(loaded.model).token_layout(x)
        setting = TokenTMSetting(
            options, loaded.model, data, prepare, methods, options.explained or cls.explains, shape,
            layout.grid or TokenTMSetting.grid,
        )  # fmt: skip
        try_makers(cls.makers_for(setting), x, int(logits.argmax()))
        return setting

    def subject(self, images: str) -> str:
        options = self.setting.options
        split = f", split {options.split}" if options.split else ""
        weights = ", random weights" if options.random_weights else ""
        return f"{options.data}{split}, {images}; {options.model}{weights}"

    def result_of(self, sample: Sample, number: int) -> Result:
        x = self.setting.prepare(sample.image)
        return self.measure(x, sample, self.classifier(x)[0], number)

    def maps(self, x: Tensor, target: int, number: int) -> Iterator[tuple[str, Tensor]]:
        """A name and a map [1, 1, H, W] in 0..1 of every row: the methods, and a map that knows nothing."""
        for name, make in self.makers.items():
            yield name, make(x, target)
        yield RANDOM, random_map(x, self.setting.grid, self.setting.options.seed, number)

    def removed(self, x: Tensor, found: Tensor, target: int, label: int | None = None) -> ClassPerturbationResult:
        """What becomes of one image as its pixels become black in the order of a map.

        Args:
            x: the input [1, 3, side, side].
            found: the map [1, 1, side, side] of the class.
            target: the class that is explained.
            label: the true one, where it is known.
        """
        return self.removal.run(x, found, target, label)

    def named(self, explained: str, metric: str) -> str:
        """What a metric is called: with the class, where several are explained."""
        return metric if len(self.setting.explained) == 1 else f"{explained} class, {metric}"

    def explained_classes(self, sample: Sample, logits: Tensor) -> dict[str, int]:
        """The number of the class, by which one it is: "predicted" or "target"."""
        return {
            each: int(logits.argmax()) if each == "predicted" else label_of(sample) for each in self.setting.explained
        }

    @abstractmethod
    def measure(self, x: Tensor, sample: Sample, logits: Tensor, number: int) -> Result:
        """What one image gives.

        Args:
            x: the input [1, 3, side, side].
            sample: as the data set has it.
            logits: of the classes, [K].
            number: of the image in its data set.
        """

    def table(self, rows: Sequence[Row]) -> str:
        return as_grid(rows, self.heading)

    def figure(self, rows: Sequence[Row], results: Sequence[Result]) -> Figure:
        from captum_ultra.insights.evaluation import panels_figure

        return panels_figure(rows)


def label(method: str) -> str:
    """What the tables call a method."""
    return LABELS.get(method, method)


def _check_classes(options: TokenTMOptions, classes: Sequence[str], scores: int) -> None:
    """Raise unless the model scores the classes of the data set, where it has some."""
    if classes and len(classes) != scores:
        raise ValueError(
            f"{options.data} has {len(classes)} classes, but {options.model} gives {scores} scores: their numbers "
            "would not mean the same; take a model that was trained for these classes"
        )
