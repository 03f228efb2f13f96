"""What every test needs: an importable torchvision, one thread, and the same numbers on every run."""

from __future__ import annotations

import pytest
import torch

from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

# Before the first test imports timm, open_clip or transformers.
ensure_torchvision_imports()


# The models are so small that a second thread never helps; on a shared machine, threads that wait
# for each other made them fifty times slower. Two workers (-n 2) use a second core better.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
