"""The compiled kernel says what torch says, and where it cannot be built, torch does its work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import cpp_extension

from captum_ultra import LatentTokenAttribution
from captum_ultra.models.vit import VisionTransformer, ViTConfig
from captum_ultra.relevance import gradient_weighted, kernel, rollout, tiles

BUILT = kernel.status().startswith("the compiled kernel")
needs_kernel = pytest.mark.skipif(not BUILT, reason=f"no kernel here: {kernel.status()}")


@pytest.fixture
def anew() -> Iterator[None]:
    """The kernel as if nobody had asked for it yet, before and after."""
    kernel._tile.cache_clear()
    with mock.patch.object(cpp_extension, "JIT_EXTENSION_VERSIONER", type(cpp_extension.JIT_EXTENSION_VERSIONER)()):
        yield
    kernel._tile.cache_clear()


@needs_kernel
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**16), m=st.integers(1, 40), targets=st.integers(1, 5), n=st.integers(1, 70),
    wanted=st.booleans(), threads=st.integers(1, 5),
)  # fmt: skip
def test_a_tile(seed: int, m: int, targets: int, n: int, wanted: bool, threads: int) -> None:
    torch.manual_seed(seed)
    gradient, probabilities = torch.randn(1, m, targets, n), torch.rand(1, m, n).softmax(-1)
    above, added = torch.randn(1, targets, m + 3)[..., 2:-1], torch.randn(1, targets, n + 4)[..., :n]
    exact = gradient.double()
    of_rule = tiles._one_pass(exact, probabilities.double(), above.double(), gradient_weighted, None, wanted)
    assert of_rule is not None
    expected = added.double() + of_rule
    with mock.patch.object(torch, "get_num_threads", lambda: threads):
        kernel.one_pass(gradient, probabilities, above, added, wanted)
    torch.testing.assert_close(added.double(), expected, rtol=1e-5, atol=1e-5)
    if wanted:
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-5)


@needs_kernel
def test_what_is_not_a_number_stays_so_and_results_repeat() -> None:
    gradient = torch.randn(1, 9, 2, 30)
    gradient[0, 4, 1, 7] = torch.nan
    probabilities, above = torch.rand(1, 9, 30), torch.rand(1, 2, 9)
    found = []
    for _ in range(5):
        added = torch.zeros(1, 2, 30)
        kernel.one_pass(gradient.clone(), probabilities, above, added, True)
        found.append(added)
    assert found[0][0, 1, 7].isnan() and found[0].isnan().sum() == 1
    assert all(torch.equal(each.nan_to_num(), found[0].nan_to_num()) for each in found)


@needs_kernel
def test_an_explanation_of_a_long_input() -> None:
    model, image = (
        VisionTransformer(ViTConfig(dim=24, depth=3, heads=2, image_size=96)).eval(),
        torch.rand(1, 3, 96, 96),
    )
    options: dict[str, Any] = {"token": [1, 300, 575], "layer": 3, "output": "tokens"}
    with mock.patch.object(kernel, "one_pass", wraps=kernel.one_pass) as used:
        found = LatentTokenAttribution(model).attribute(image, **options)
    exact = LatentTokenAttribution(model.double()).attribute(image.double(), **options)
    assert used.called and found.shape[-1] == 576
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5 * exact.max().item())


def test_what_it_is_not_for() -> None:
    assert not kernel.suits(torch.zeros(1), gradient_weighted, kernel.LONG - 1)
    assert not kernel.suits(torch.zeros(1), rollout, 4096)
    assert not kernel.suits(torch.zeros(1).double(), gradient_weighted, 4096)
    assert not kernel.suits(torch.zeros(1), None, 4096)


@pytest.mark.parametrize("trouble", ["no compiler", "a compiler that fails", "no ninja", "a read-only cache"])
def test_where_it_cannot_be_built_torch_is_used(trouble: str, anew: None, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    if trouble == "a read-only cache":
        (tmp_path / "file").touch()
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "file"))
    elif trouble == "no ninja":
        monkeypatch.setattr(cpp_extension, "is_ninja_available", lambda: False)
    else:
        monkeypatch.setenv("CXX", "/nowhere/c++" if trouble == "no compiler" else "/bin/false")
    assert kernel.status().startswith("torch (the compiled kernel cannot be built: ")
    assert not kernel.suits(torch.zeros(1), gradient_weighted, 4096)


def test_it_can_be_switched_off(anew: None, monkeypatch: Any) -> None:
    monkeypatch.setenv("CAPTUM_ULTRA_KERNEL", "0")
    assert kernel.status() == "torch (switched off by CAPTUM_ULTRA_KERNEL=0)"


@needs_kernel
def test_the_lock_of_a_build_that_was_killed_is_removed(anew: None, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    folder = Path(cpp_extension._get_build_directory("captum_ultra_kernel", verbose=False))
    (folder / "lock").touch()
    monkeypatch.setattr(kernel, "_STALE", -1)
    assert kernel.status().startswith("the compiled kernel")


def test_importing_the_package_builds_nothing() -> None:
    code = (
        "import sys, captum_ultra, captum_ultra.relevance.kernel; sys.exit('torch.utils.cpp_extension' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
