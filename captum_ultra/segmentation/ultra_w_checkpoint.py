"""The state of a training of ULTra_W, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from captum_ultra.io import written_whole
from captum_ultra.segmentation.ultra_w import read_safetensors

__all__ = ["Checkpoint", "Progress"]

_KIND = "captum_ultra UltraW training"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Progress:
    """theta [n, d], the optimiser that moves it, and the losses so far."""

    def __init__(self, theta: Tensor, learning_rate: float) -> None:
        self.theta = theta.requires_grad_()
        self.optimizer = torch.optim.Adam([self.theta], lr=learning_rate)
        self.losses: list[float] = []

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.losses)

    def step(self, loss: Callable[..., Tensor], *arguments: Any) -> float:
        """Take one step down ``loss(theta, *arguments)``; what it was before is returned and kept."""
        with torch.enable_grad():
            value = loss(self.theta, *arguments)
            self.optimizer.zero_grad()
            value.backward()
        self.optimizer.step()
        self.losses.append(float(value.detach()))
        return self.losses[-1]


class Checkpoint:
    """A file that holds the progress of one training, and refuses that of another.

    Args:
        path: the file.
        about: what makes the training what it is, in plain numbers and strings.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.about = path, json.loads(json.dumps(about))

    def write(self, progress: Progress) -> None:
        """Replace the file by the state of now, as a whole."""
        state = progress.optimizer.state[progress.theta]
        tensors = {"theta": progress.theta.detach(), **{name: state[name].detach() for name in _MOMENTS}}
        metadata = {"kind": _KIND, "about": json.dumps(self.about), "losses": json.dumps(progress.losses)}
        with written_whole(self.path) as unfinished:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, str(unfinished), metadata)

    def resume(self, progress: Progress) -> None:
        """Go on from the file; a new training stays as it is where there is none.

        Raises:
            ValueError: if the file is damaged, or was written by a training with other settings; names them.
        """
        if not self.path.exists():
            return
        tensors, metadata = read_safetensors(self.path, _KIND)
        before = json.loads(metadata["about"])
        differing = [name for name in {**before, **self.about} if before.get(name) != self.about.get(name)]
        if differing or tensors["theta"].shape != progress.theta.shape:
            changes = ", ".join(f"{name}: {before.get(name)!r} -> {self.about.get(name)!r}" for name in differing)
            raise ValueError(
                f"{self.path} belongs to another training ({changes or 'weights of another shape'}); delete it to "
                "start anew, or give another file"
            )
        progress.losses = json.loads(metadata["losses"])
        with torch.no_grad():
            progress.theta.copy_(tensors["theta"])
        state = progress.optimizer.state_dict()
        state["state"] = {0: {name: tensors[name] for name in _MOMENTS}}
        progress.optimizer.load_state_dict(state)
