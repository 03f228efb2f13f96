"""What one evaluation depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from captum_ultra.segmentation.cutting import Cut
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings

__all__ = ["SCORES", "Options"]

SCORES = ("sum", "energy", "w")
_SCENES = 100


@dataclass(frozen=True)
class Options:
    """Everything that the numbers of an evaluation depend on, except where files lie and on which device it runs.

    Attributes:
        study: one of :data:`captum_ultra.experiments.evaluate.STUDIES`.
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

    study: str
    data: str = "scenes"
    split: str = "val"
    model: str = "scenes-vit"
    random_weights: bool = False
    score: str = "sum"
    layer: int = -1
    images: int | None = None
    k: int | None = None
    zeta: float | None = None
    values: tuple[float, ...] = ()
    size: int | None = None
    seed: int = 0
    noise: float = 0.0
    train_split: str = "train"
    training: UltraWSettings = field(default_factory=UltraWSettings)

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"score {self.score!r} is unknown; possible: {', '.join(SCORES)}")
        if self.images is not None and self.images < 1:
            raise ValueError(f"images is {self.images}; evaluate at least one")
        if self.layer == 0:
            raise ValueError(
                "layer 0 is the embedding, where every token holds itself alone; take a layer after a block"
            )
        if self.data != "scenes" and self.noise:
            raise ValueError(f"noise is added to scenes only; {self.data} has noise={self.noise:g}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative")
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

    @property
    def scenes(self) -> int:
        """How many scenes are rendered."""
        return _SCENES if self.images is None else self.images

    def identity(self) -> dict[str, Any]:
        """What an image's result depends on, in plain numbers and strings: not on how many images there are."""
        found = asdict(self)
        del found["images"]
        if self.score != "w":
            del found["train_split"], found["training"]
        return found
