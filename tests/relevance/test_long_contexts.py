"""No array of an explanation holds n x n numbers for all heads, whatever mask a model brings."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from captum_ultra import LatentTokenAttribution
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
from captum_ultra.relevance import tiles
from tests.builders.case import stir

BATCH, HEADS, TOKENS = 2, 4, 192


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


def llama(attention: str = "sdpa") -> Any:
    ensure_torchvision_imports()
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=HEADS,
        num_key_value_heads=2, max_position_embeddings=TOKENS, attn_implementation=attention,
    )  # fmt: skip
    return stir(LlamaModel(config)).eval()


def mask_of(kind: str) -> Tensor | None:
    if kind == "none":
        return None
    mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
    mask[1, slice(0, 50) if kind == "left" else slice(-50, None)] = 0
    return mask


def largest_tensor(attention: str, kind: str) -> int:
    ids = torch.randint(3, 50, (BATCH, TOKENS))
    lta = LatentTokenAttribution(llama(attention))
    # A tile of 4,096 numbers in place of a megabyte: the arrays of a small model then differ as those of a large one.
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=2**12), LargestTensor() as largest:
        lta.attribute(ids, token=[-2, -1], additional_forward_args=mask_of(kind))
    return largest.bytes


ALL_HEADS = BATCH * HEADS * TOKENS**2 * 4


@pytest.mark.parametrize("kind", ["none", "left", "right"])
def test_no_map_of_all_heads_is_made(kind: str) -> None:
    # Without a mask everything is linear in the tokens. With one, transformers makes a mask of B x n x n numbers
    # (in the kernel as float32), which all heads share.
    allowed = ALL_HEADS // 4 if kind == "none" else ALL_HEADS // HEADS
    assert largest_tensor("sdpa", kind) <= allowed


def test_the_measure_sees_a_map_where_there_is_one() -> None:
    assert largest_tensor("eager", "none") >= ALL_HEADS


def test_right_padding_of_a_causal_model_needs_no_mask() -> None:
    """What the padding holds does not matter either: no token looks to its right."""
    lta, mask = LatentTokenAttribution(llama()), mask_of("right")
    assert mask is not None
    ids = torch.randint(3, 50, (BATCH, TOKENS))
    targets = torch.tensor([TOKENS - 1, TOKENS - 51])
    masked = lta.attribute(ids, target=targets, additional_forward_args=mask)
    other = torch.where(mask.bool(), ids, 3)
    for unmasked in (lta.attribute(ids, target=targets), lta.attribute(other, target=targets)):
        torch.testing.assert_close(unmasked, masked, rtol=1e-5, atol=1e-6)
        assert (unmasked[mask == 0] == 0).all()
