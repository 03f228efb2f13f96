"""What the first look at a model costs, beside an explained token: ``python -m benchmarks.probe``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from captum_ultra import LatentTokenAttribution
from captum_ultra.adapters import ModelViews
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

ROUNDS = 3


def seconds(call: Callable[[], Any]) -> float:
    """Processor time, the median of a few rounds."""
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def models() -> list[tuple[str, torch.nn.Module, torch.Tensor]]:
    """A plain ViT, a hybrid with a deep stem, and a small Llama; random weights."""
    ensure_torchvision_imports()
    import timm
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaForCausalLM(
        LlamaConfig(hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
                    num_key_value_heads=4, vocab_size=8000)
    )  # fmt: skip
    images = torch.randn(1, 3, 224, 224)
    return [
        ("ViT-S/16", timm.create_model("vit_small_patch16_224"), images),
        ("R26 + ViT-S/32", timm.create_model("vit_small_r26_s32_224"), images),
        ("Llama, 8 blocks of 512, 512 tokens", llama, torch.randint(0, 8000, (1, 512))),
    ]


def main() -> None:
    torch.manual_seed(0)
    for name, model, inputs in models():
        model.eval()
        with torch.no_grad():
            forward = seconds(lambda: model(inputs))  # noqa: B023
        explain = LatentTokenAttribution(model, probe=False)
        token = seconds(lambda: explain.attribute(inputs, token=5, output="tokens"))  # noqa: B023

        def look() -> None:
            with torch.no_grad():
                next(model.parameters()).add_(0)  # noqa: B023  # what was found is forgotten
            ModelViews(model)(inputs)  # noqa: B023

        print(f"{name}: forward pass {1000 * forward:.0f} ms; in forward passes, a first explained token "
              f"{token / forward:.1f}, the probe {seconds(look) / forward:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
