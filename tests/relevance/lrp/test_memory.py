"""Relevance of fused attention is propagated without n x n numbers for all heads."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from captum_ultra import LRP, ConservativeLRP, PartialLRP, TransformerAttribution
from captum_ultra.relevance import tiles
from tests.builders import timm_models
from tests.builders.case import HEADS, stir

BATCH, TOKENS = 2, 197
ALL_HEADS = BATCH * HEADS * TOKENS**2 * 4


class LargestTensor(TorchDispatchMode):
    """The largest storage that any operation within puts out, in bytes; backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor):
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return result


def largest_tensor(method: Any, fused: bool) -> int:
    model = stir(timm_models.build("vit_small_patch16_224", img_size=112, patch_size=8, depth=2)).eval()
    for block in model.blocks:
        block.attn.fused_attn = fused
    images = torch.randn(BATCH, 3, 112, 112)
    # A tile of 4,096 numbers in place of a megabyte: the arrays of a small model then differ as those of a large one.
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=2**12), LargestTensor() as largest:
        method(model).attribute(images, target=1)
    return largest.bytes


@pytest.mark.parametrize("method", [LRP, PartialLRP, TransformerAttribution, ConservativeLRP])
def test_no_map_of_all_heads_is_made(method: Any) -> None:
    assert largest_tensor(method, fused=True) <= ALL_HEADS // 4


def test_the_measure_sees_a_map_where_there_is_one() -> None:
    assert largest_tensor(LRP, fused=False) >= ALL_HEADS
