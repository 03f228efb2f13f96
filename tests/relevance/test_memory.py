"""No array of an explanation holds n x n numbers for all heads, and nothing outlives an explanation."""

from __future__ import annotations

import gc
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from captum_ultra import (
    LRP,
    ConservativeLRP,
    LatentTokenAttribution,
    PartialLRP,
    ResidualLRP,
    TokenTM,
    TransformerAttribution,
)
from captum_ultra.relevance import tiles
from tests.attr.models import small_classifier
from tests.builders import timm_models
from tests.builders.case import HEADS, stir
from tests.builders.transformers_models import build

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
            if isinstance(each, Tensor) and self.counts(each):
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return result

    def counts(self, tensor: Tensor) -> bool:
        return True


def largest_tensor(method: Any, inputs: Tensor, **options: Any) -> int:
    # A tile of 4,096 numbers in place of a megabyte: the arrays of a small model then differ as those of a large one.
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=2**12), LargestTensor() as largest:
        method.attribute(inputs, **options)
    return largest.bytes


def llama() -> Any:
    return stir(build(
        "Llama", "Model", "sdpa", vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=2, max_position_embeddings=TOKENS,
    )).eval()  # fmt: skip


def vit(fused: bool = True) -> Any:
    model: Any = stir(timm_models.build("vit_small_patch16_224", img_size=112, patch_size=8, depth=2)).eval()
    for block in model.blocks:
        block.attn.fused_attn = fused
    return model


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_latent_tokens_of_a_language_model(padding: str) -> None:
    mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
    mask[1, slice(0, 50) if padding == "left" else slice(-50, None)] = 0
    ids = torch.randint(3, 50, (BATCH, TOKENS))
    extra = None if padding == "none" else mask
    found = largest_tensor(LatentTokenAttribution(llama()), ids, token=[-2, -1], additional_forward_args=extra)
    # Without a mask everything is linear in the tokens. With one, transformers makes a mask of B x n x n numbers
    # (in the kernel as float32), which all heads share.
    assert found <= (ALL_HEADS // 4 if extra is None else ALL_HEADS // HEADS)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (LRP, {}), (PartialLRP, {}), (TransformerAttribution, {}), (ConservativeLRP, {}),
        (ResidualLRP, {"attention": "halves", "gates": "halves"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("of", [{"target": 1}, {"token": 1, "layer": 2}], ids=["class", "latents"])
def test_methods_of_images(method: Any, options: dict[str, Any], of: dict[str, Any]) -> None:
    assert largest_tensor(method(vit()), torch.randn(BATCH, 3, 112, 112), **of, **options) <= ALL_HEADS // 4


def test_the_measure_sees_a_map_where_there_is_one() -> None:
    assert largest_tensor(LRP(vit(fused=False)), torch.randn(BATCH, 3, 112, 112), target=1) >= ALL_HEADS


class LargestOfTokens(LargestTensor):
    """The same for the tensors that hold all of a prime number of tokens."""

    def counts(self, tensor: Tensor) -> bool:
        return 17 in tensor.shape


def test_token_tm_builds_no_tensor_of_all_heads_and_channels() -> None:
    model = small_classifier(dim=64, heads=16, mlp_ratio=1.0)
    with LargestOfTokens() as seen:
        TokenTM(model).attribute(torch.randn(1, 3, 16, 16), target=0)
    assert seen.bytes < 16 * 17 * 64 / 2 * 4


@pytest.mark.parametrize("method", [LRP, PartialLRP, TransformerAttribution, ResidualLRP])
def test_no_graph_outlives_its_explanation(method: Any) -> None:
    explain = method(small_classifier())

    def nodes() -> int:
        gc.collect()
        kinds = {"_CarryBackward", "_FactoredBackward", "_ConstantAttentionBackward", "_RelevanceAttentionBackward"}
        return sum(type(each).__name__ in kinds for each in gc.get_objects())

    before = nodes()
    maps = explain.attribute(torch.rand(1, 3, 16, 16), target=1)
    assert nodes() == before and maps.shape == (1, 1, 16, 16)
