"""ULTra_W: one direction a token position, learned so that a region's tokens stay as they are.

Training is in :mod:`captum_ultra.segmentation.ultra_w_training`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from captum_ultra.io import written_whole

__all__ = ["UltraW"]

_KIND = "captum_ultra UltraW"


@dataclass(frozen=True, eq=False)
class UltraW:
    """Score weights for the tokens of one layer: f_w(z_i) = <t_i, w_i>, with ||w_i|| = 1.

    A callable of latents, so that ``score=`` of every attribution and segmentation accepts it.

    Attributes:
        weights: [n, d], one row of unit norm a token; rows of tokens before the patches are where they started.
        layer: the number of blocks passed by the latents that they were trained on.
        losses: eq. 13 by step: the mean over the images of a batch, before that step.
        settings: how they were trained, in plain numbers and strings.

    Raises:
        ValueError: if ``weights`` is no matrix.

    Example:
        >>> import torch
        >>> score = UltraW(torch.eye(3, 4), layer=2)
        >>> score(torch.ones(1, 3, 4))
        tensor([[1., 1., 1.]])
    """

    weights: Tensor
    layer: int
    losses: tuple[float, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weights.dim() != 2 or not self.weights.is_floating_point():
            raise ValueError(f"weights must be floating point [n, d], got {list(self.weights.shape)}")

    def __call__(self, latents: Tensor) -> Tensor:
        """Scores [B, n] of latents [B, n, d].

        Raises:
            ValueError: if these are not as many tokens, or not as wide, as in training.
        """
        if latents.shape[-2:] != self.weights.shape:
            raise ValueError(
                f"score: ULTra_W was trained on {self.weights.shape[0]} tokens with {self.weights.shape[1]} channels "
                f"at layer {self.layer}, and cannot score latents {list(latents.shape)}: use images of the size it was "
                "trained on, and the same model"
            )
        return (latents * self.weights.to(latents)).sum(-1)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file: the weights, and everything else as JSON in its metadata.

        Args:
            path: the file; its folder is made when missing.

        Raises:
            OSError: if it cannot be written; nothing is left behind.
        """
        about = {"layer": self.layer, "losses": self.losses, "settings": self.settings}
        metadata = {"kind": _KIND, "ultra_w": json.dumps(about)}
        with written_whole(Path(path)) as unfinished:
            save_file({"weights": self.weights.detach().cpu().contiguous()}, str(unfinished), metadata)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> UltraW:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged, or something else.
        """
        tensors, metadata = read_safetensors(Path(path), _KIND)
        about = json.loads(metadata["ultra_w"])
        return cls(tensors["weights"], about["layer"], tuple(about["losses"]), about["settings"])


def read_safetensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file of the given kind, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from error
    if metadata.get("kind") != kind:
        raise ValueError(f"{path} holds {metadata.get('kind', 'something else')!r}, not {kind!r}")
    return tensors, metadata
