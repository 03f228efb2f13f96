"""What an evaluation of ULTra depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from captum_ultra.experiments.evaluate.options import StudyOptions
from captum_ultra.segmentation.cutting import Cut
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings

__all__ = ["SCORES", "Options"]

SCORES = ("sum", "energy", "w")


@dataclass(frozen=True)
class Options(StudyOptions):
    """Everything that the numbers of an evaluation depend on, except where files lie and on which device it runs.

    Attributes:
        study: one whose name begins with "ultra-".
        data: a name of :func:`captum_ultra.data.registry.segmentation_dataset`.
        split: as the data set names its parts.
        model: a name of :func:`captum_ultra.models.loader.load_model`.
        random_weights: build the model untrained, always with the same weights.
        score: "sum" (ULTra_S), "energy" (ULTra_E) or "w" (ULTra_W, trained first, and beside it ULTra_S).
        layer: number of blocks passed, negative from the end.
        images: how many; all of a data set of files, or 100 scenes, when None.
        k: number of clusters of every image.
        zeta: in its place, the distance up to which maps are joined. Without both, k is the number of
            classes in the ground truth of every image: an oracle.
        values: of a study that sweeps (layers, taus, zetas, fractions), in increasing order; its own when empty.
        size: side of the centred square in pixels that is cut out of every image; of scenes, their size.
            The protocol's 320, and for scenes the model's own, when None.
        seed: of the scenes, of the choice of images, of perturbed tokens and noise.
        noise: standard deviation of the noise on scenes, pixels being in 0..1.
        train_split: the part of the data set on which ULTra_W is trained; its labels are not used.
        training: how ULTra_W is trained.

    Raises:
        ValueError: for an unknown score, or numbers out of range.

    Example:
        >>> Options("ultra-segmentation", images=4).cut_policy
        'k = number of classes in the ground truth of each image (ORACLE)'
        >>> Options("ultra-segmentation", zeta=0.4).cut_policy
        'cut at distance 0.4'
    """

    split: str = "val"
    model: str = "scenes-vit"
    score: str = "sum"
    layer: int = -1
    k: int | None = None
    zeta: float | None = None
    values: tuple[float, ...] = ()
    size: int | None = None
    noise: float = 0.0
    train_split: str = "train"
    training: UltraWSettings = field(default_factory=UltraWSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in SCORES:
            raise ValueError(f"score {self.score!r} is unknown; possible: {', '.join(SCORES)}")
        if self.layer == 0:
            raise ValueError(
                "layer 0 is the embedding, where every token holds itself alone; take a layer after a block"
            )
        if self.data != "scenes" and self.noise:
            raise ValueError(f"noise is added to scenes only; {self.data} has noise={self.noise:g}")
        if list(self.values) != sorted(set(self.values)):
            raise ValueError(f"values {self.values} must increase")
        if not self.oracle:
            Cut.parse(self.k, self.zeta)

    @property
    def oracle(self) -> bool:
        """Whether every image's k is read off its ground truth."""
        return self.k is None and self.zeta is None

    @property
    def cut_policy(self) -> str:
        """How the number of regions is decided, in words."""
        if self.oracle:
            return "k = number of classes in the ground truth of each image (ORACLE)"
        return str(Cut.parse(self.k, self.zeta))

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        if self.score != "w":
            del found["train_split"], found["training"]
        return found
