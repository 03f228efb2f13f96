"""What was measured: numbers of every sample by setting and measure, and the choice of settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Cells", "Setting", "key_of"]


class Setting(NamedTuple):
    """A variant at a layer; of texts also at a position, "own" or "before". Controls have layer 0.

    Example:
        >>> str(Setting("rollout", 2, "before")), str(Setting("chance", 0))
        ('rollout at layer 2, before', 'chance')
    """

    variant: str
    layer: int = 0
    position: str = ""

    def __str__(self) -> str:
        place = f" at layer {self.layer}" if self.layer else ""
        return self.variant + place + (f", {self.position}" if self.position else "")


def key_of(setting: Setting, measure: str) -> str:
    """The name of a number in a sample's cell."""
    return "|".join([setting.variant, str(setting.layer), setting.position, measure])


@dataclass(frozen=True)
class Cells:
    """The numbers of all samples.

    Attributes:
        samples: each a mapping of :func:`key_of` to a number; a measure that a sample does not have is missing.

    Example:
        >>> cells = Cells([{"a|1||region": 0.5, "a|2||region": 0.7}, {"a|1||region": 0.7, "a|2||region": 0.8}])
        >>> cells.best("region", ["a"])
        Setting(variant='a', layer=2, position='')
    """

    samples: Sequence[Mapping[str, float]]

    def values(self, setting: Setting, measure: str) -> Tensor:
        """float64 [samples that have it]."""
        key = key_of(setting, measure)
        return torch.tensor([each[key] for each in self.samples if key in each], dtype=torch.float64)

    def pairs(self, first: Setting, second: Setting, measure: str) -> Tensor:
        """First minus second within samples, float64."""
        keys = key_of(first, measure), key_of(second, measure)
        found = [each[keys[0]] - each[keys[1]] for each in self.samples if keys[0] in each and keys[1] in each]
        return torch.tensor(found, dtype=torch.float64)

    def settings(self, measure: str, variants: Iterable[str] | None = None) -> list[Setting]:
        """All settings of which some sample has the measure, of these variants if any are given."""
        wanted = None if variants is None else set(variants)
        found: dict[Setting, None] = {}
        for sample in self.samples:
            for key in sample:
                variant, layer, position, name = key.split("|")
                if name == measure and (wanted is None or variant in wanted):
                    found[Setting(variant, int(layer), position)] = None
        return list(found)

    def best(self, measure: str, variants: Iterable[str], layers: Sequence[int] | None = None) -> Setting:
        """The setting of these variants with the highest mean.

        Raises:
            ValueError: if there is none.
        """
        settings = [each for each in self.settings(measure, variants) if layers is None or each.layer in layers]
        if not settings:
            raise ValueError(f"no setting of these variants was measured by {measure}")
        return max(settings, key=lambda each: float(self.values(each, measure).mean()))
