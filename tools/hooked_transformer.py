"""HookedTransformer of TransformerLens 2 and 3 against an explicit loop over its own patterns; run by hand.

TransformerLens 4 no longer has the class, so this runs in an environment of its own:

    python -m venv other
    other/bin/pip install torch "transformer-lens<3" captum==0.9.0     # and again with "transformer-lens>=3,<4"
    other/bin/pip install --no-deps -e .
    other/bin/python tools/hooked_transformer.py

Random weights from a configuration, no download. Compared are ``LatentTokenAttribution(model)`` and
``relevance_hooks`` in a plain run, and ``relevance_hooks`` in runs that other hooks change, with the product of
contribution maps from the stored patterns and their gradients. Prints the largest difference and exits with 1 if one
exceeds a part in 100,000 of the largest entry.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
import transformer_lens
from torch import Tensor

from captum_ultra import LatentTokenAttribution
from captum_ultra.integrations import relevance_hooks

TOLERANCE = 1e-5
DEPTH, TOKENS, TARGET = 3, 12, 9

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "GPT-2-like": {"act_fn": "gelu", "normalization_type": "LN", "positional_embedding_type": "standard"},
    "Llama-like, grouped queries": {
        "act_fn": "silu", "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
        "rotary_dim": 8, "final_rms": True, "n_key_value_heads": 2,
    },
    "per-head results": {"act_fn": "relu", "normalization_type": "LNPre", "use_attn_result": True},
}  # fmt: skip


def hooked_transformer(options: dict[str, Any]) -> Any:
    config = transformer_lens.HookedTransformerConfig(
        n_layers=DEPTH, d_model=32, d_head=8, n_heads=4, d_mlp=64, n_ctx=16, d_vocab=50, seed=0, device="cpu", **options
    )
    model = transformer_lens.HookedTransformer(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # far from the initial values, under which attention is almost uniform
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def zero_head(pattern: Tensor, hook: Any) -> None:
    pattern[:, 1] = 0


def uniform_head(pattern: Tensor, hook: Any) -> Tensor:
    pattern[:, 2] = torch.ones_like(pattern[:, 2]).tril() / pattern.shape[-1]
    return pattern


def patch_token(residual: Tensor, hook: Any) -> Tensor:
    residual[:, 4] = torch.linspace(-1, 1, residual.shape[-1])
    return residual


INTERVENTIONS: dict[str, list[tuple[str, Callable[..., Tensor | None]]]] = {
    "plain run": [],
    "a head's pattern zeroed in place": [("blocks.1.attn.hook_pattern", zero_head)],
    "a head's pattern made uniform": [("blocks.2.attn.hook_pattern", uniform_head)],
    "z doubled, a residual patched": [("blocks.0.attn.hook_z", lambda z, hook: 2 * z),
                                      ("blocks.1.hook_resid_post", patch_token)],
}  # fmt: skip


def explicit_loop(model: Any, ids: Tensor, interventions: list[Any]) -> Tensor:
    """e_i C^(L) ... C^(1) of the last layer for f_s, from the patterns that the run uses and their gradients."""
    patterns: list[Tensor] = []
    streams: list[Tensor] = []

    def keep(pattern: Tensor, hook: Any) -> Tensor:
        patterns.append(pattern)
        return pattern.clone()

    maps = [f"blocks.{block}.attn.hook_pattern" for block in range(DEPTH)]
    hooks = [(name, lambda pattern, hook: pattern.clone()) for name in maps]
    hooks += [*interventions, *((name, keep) for name in maps)]
    hooks += [(f"blocks.{DEPTH - 1}.hook_resid_post", lambda stream, hook: streams.append(stream))]
    model.run_with_hooks(ids, fwd_hooks=hooks)
    latent = streams[0][:, TARGET]
    gradients = torch.autograd.grad((latent / latent.detach().norm(dim=-1, keepdim=True)).sum(), patterns)
    row = torch.zeros(len(ids), 1, TOKENS)
    row[..., TARGET] = 1
    for pattern, gradient in zip(reversed(patterns), reversed(gradients), strict=True):
        row = row + row @ (pattern.detach() * gradient).relu().mean(1)
    row[..., TARGET] = 0
    return row[:, 0]


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest one, as a part of the largest entry."""
    return ((found - expected).abs().max() / expected.max()).item()


def main() -> int:
    print(f"transformer-lens {version('transformer-lens')}, torch {torch.__version__}")
    ids = torch.randint(0, 50, (2, TOKENS), generator=torch.Generator().manual_seed(1))
    largest = 0.0
    for name, options in CONFIGURATIONS.items():
        model = hooked_transformer(options)
        for what, interventions in INTERVENTIONS.items():
            expected = explicit_loop(model, ids, interventions)
            relevance = relevance_hooks(model)
            found = {}
            for place, hooks in {
                "last": [*interventions, *relevance.fwd_hooks], "first": [*relevance.fwd_hooks, *interventions]
            }.items():  # fmt: skip
                relevance.clear()
                model.run_with_hooks(ids, fwd_hooks=hooks)
                found[f"relevance_hooks {place} in the list"] = relevance.rows(TARGET, self_token="zero")
            if not interventions:
                lta = LatentTokenAttribution(model)
                found["LatentTokenAttribution"] = lta.attribute(ids, token=TARGET, self_token="zero")
            for method, rows in found.items():
                apart = difference(rows, expected)
                largest = max(largest, apart)
                print(f"{name}; {what}; {method}: {apart:.1e}")
    print(f"largest difference {largest:.1e} of the largest entry; allowed {TOLERANCE:.0e}")
    return int(not largest <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
