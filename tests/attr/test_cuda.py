"""The same code on an accelerator gives the same maps."""

from __future__ import annotations

import pytest
import torch

from captum_ultra import LatentTokenAttribution
from captum_ultra.attr.methods import METHODS, method_class
from tests.attr.models import images, small_classifier, vit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_equals_the_cpu() -> None:
    x, options = images().double(), {"token": "patches", "output": "patches", "internal_batch_size": 5}
    for name in METHODS:
        expected = method_class(name)(small_classifier().double()).attribute(x, **options)
        found = method_class(name)(small_classifier().double().cuda()).attribute(x.cuda(), **options)
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-8 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    x = images()
    exact = LatentTokenAttribution(vit()).attribute(x, token="all", output="tokens", self_token="zero")
    half = LatentTokenAttribution(vit().to("cuda", dtype)).attribute(
        x.to("cuda", dtype), token="all", output="tokens", self_token="zero"
    )
    assert (half.cpu() - exact).norm() < 0.1 * exact.norm()
