"""What every test needs: an importable torchvision, one thread, and the same numbers on every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

# Before the first test imports timm, open_clip or transformers.
ensure_torchvision_imports()


# The models are so small that a second thread never helps; on a shared machine, threads that wait
# for each other made them fifty times slower. Two workers (-n 2) use a second core better.
torch.set_num_threads(1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file with a picture of noise, alone in its folder."""
    path = tmp_path / "in" / "picture.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
