"""Everything about the training of ULTra_W that its equation leaves open."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from captum_ultra.perturbation.patches import Perturbation

__all__ = ["UltraWSettings"]


@dataclass(frozen=True)
class UltraWSettings:
    """How ULTra_W is trained; the defaults are this package's choice where no source states one.

    Attributes:
        samples: how many of the images are used, from the first (the paper: 256).
        epochs: passes over them.
        batch_size: images a step.
        learning_rate: of Adam.
        regions: which maps predict the regions: "sum" (ULTra_S, throughout) or "current" (the weights
            as they are at that step).
        n_clusters: regions an image; takes the place of ``threshold``.
        threshold: the distance zeta up to which maps are joined.
        normalize: compare latents divided by their norm; the equation has raw ones.
        perturbation: what takes the place of the patches outside a region; zero by default.
        seed: of the noise, where the perturbation is noise.
        patch_size: as in :func:`captum_ultra.perturbation.patches.perturb_patches`.
        forward_batch_size: perturbed images in one run of the model.

    Raises:
        ValueError: for a number out of range, or unknown regions.
    """

    samples: int = 256
    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 1e-2
    regions: str = "sum"
    n_clusters: int | None = None
    threshold: float = 0.4
    normalize: bool = False
    perturbation: Perturbation = field(default_factory=Perturbation)
    seed: int = 0
    patch_size: tuple[int, int] | None = None
    forward_batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("samples", "epochs", "batch_size", "forward_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive")
        if self.regions not in ("sum", "current"):
            raise ValueError(f"regions={self.regions!r} is unknown; possible: 'sum', 'current'")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for ``json.dump``."""
        return asdict(self)
