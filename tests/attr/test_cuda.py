"""The same code on an accelerator gives the same maps."""

from __future__ import annotations

import pytest
import torch

from captum_ultra import LatentTokenAttribution
from tests.attr.models import images, vit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("chunk", [None, 1, 5])
def test_equals_the_cpu(chunk: int | None) -> None:
    x = images()
    expected = LatentTokenAttribution(vit()).attribute(x, token="patches")
    found = LatentTokenAttribution(vit().cuda()).attribute(x.cuda(), token="patches", internal_batch_size=chunk)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    x = images()
    exact = LatentTokenAttribution(vit()).attribute(x, token="all", output="tokens", self_token="zero")
    half = LatentTokenAttribution(vit().to("cuda", dtype)).attribute(
        x.to("cuda", dtype), token="all", output="tokens", self_token="zero"
    )
    assert (half.cpu() - exact).norm() < 0.1 * exact.norm()
