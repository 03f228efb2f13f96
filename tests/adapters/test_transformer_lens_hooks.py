"""relevance_hooks: the explanation of a run is that of the model as the other hooks of the run change it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from captum_ultra import LatentTokenAttribution, UnsupportedModelError
from captum_ultra.attr.methods import find_method
from captum_ultra.integrations import relevance_hooks
from tests.adapters.hooked_model import hooked
from tests.adapters.test_transformer_lens import bridge_of
from tests.attr.test_models_as_found import assert_same, state_of, state_of_torch
from tests.builders import case_named
from tests.reference.ultra import explain, explanation_row, replace_self_entry, scalar

DEPTH, TOKENS, TARGET = 3, 9, 7
ultra_hooks = partial(relevance_hooks, method="ultra")
MODELS = ["hooked", "LlamaForCausalLM-sdpa", "GPT2LMHeadModel-sdpa", "Qwen3ForCausalLM-sdpa"]


def model_named(name: str) -> tuple[Any, Tensor]:
    if name == "hooked":
        return hooked(), torch.randint(3, 50, (2, TOKENS), generator=torch.Generator().manual_seed(1))
    case = case_named(f"hf-{name}")
    return bridge_of(case.model()), case.inputs()


def noise(like: Tensor, seed: int = 5) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)


# What people do to a model: each a function of the activation, as the hook would write it.


def zero_head_in_place(x: Tensor, hook: Any) -> Tensor:
    x[:, 1] = 0
    return x


def zero_head_silently(x: Tensor, hook: Any) -> None:
    x[:, 1] = 0


def zero_head_of_vectors(x: Tensor, hook: Any) -> Tensor:
    x[:, :, 1] = 0
    return x


def uniform_head(x: Tensor, hook: Any) -> Tensor:
    x[:, 2] = torch.ones_like(x[:, 2]).tril() / x.shape[-1]
    return x


def frozen_pattern(x: Tensor, hook: Any) -> Tensor:
    return noise(x).masked_fill(x == 0, -torch.inf).softmax(-1)


def patch_one_token(x: Tensor, hook: Any) -> Tensor:
    x[:, 3] = noise(x[:, 3])
    return x


INTERVENTIONS: dict[str, tuple[str, Callable[[Tensor, Any], Tensor | None]]] = {
    "nothing": ("blocks.1.hook_resid_mid", lambda x, hook: None),
    "scale a head": ("blocks.1.attn.hook_pattern", lambda x, hook: x * torch.tensor([1, 0.3, 1, 2.0])[:, None, None]),
    "zero a head in place": ("blocks.1.attn.hook_pattern", zero_head_in_place),
    "zero a head in place, nothing returned": ("blocks.2.attn.hook_pattern", zero_head_silently),
    "add to a pattern": ("blocks.1.attn.hook_pattern", lambda x, hook: x + 0.1 * (x > 0)),
    "make a head uniform": ("blocks.2.attn.hook_pattern", uniform_head),
    "freeze a pattern": ("blocks.1.attn.hook_pattern", frozen_pattern),
    "edit the scores": ("blocks.1.attn.hook_attn_scores", lambda x, hook: 2 * x),
    "zero a head's z in place": ("blocks.1.attn.hook_z", zero_head_of_vectors),
    "zero a head's values in place": ("blocks.0.attn.hook_v", zero_head_of_vectors),
    "replace the attention's output": ("blocks.1.hook_attn_out", lambda x, hook: torch.zeros_like(x)),
    "replace z": ("blocks.2.attn.hook_z", lambda x, hook: noise(x)),
    "steer": ("blocks.1.hook_resid_pre", lambda x, hook: x + noise(x[:1, :1])),
    "patch a token's residual": ("blocks.1.hook_resid_post", patch_one_token),
    "patch a token's residual before the next block": ("blocks.2.hook_resid_pre", patch_one_token),
    "patch the whole residual": ("blocks.1.hook_resid_pre", lambda x, hook: noise(x)),
    "patch the explained residual": ("blocks.2.hook_resid_post", lambda x, hook: noise(x)),
}


def explicit_loop(
    model: Any, ids: Tensor, interventions: list[Any], token: int = TARGET, layer: int = DEPTH, score: Any = "sum",
    self_token: str = "max",
) -> Tensor:  # fmt: skip
    """The changed model's own patterns, stored with their gradients: one run, one backward pass, a product of matrices.

    An independent statement of the same thing: it stands last in the list by being put there, takes every
    map as a leaf of its own, and knows that what nothing depends on has the gradient zero.
    """
    maps, latents = [], {}

    def keep_map(pattern: Tensor, hook: Any) -> Tensor:
        maps.append(pattern if pattern.requires_grad else pattern.detach().requires_grad_())
        return maps[-1].clone()

    def keep_stream(number: int) -> Callable[..., None]:
        return lambda stream, hook: latents.__setitem__(number, stream)

    patterns = [f"blocks.{block}.attn.hook_pattern" for block in range(layer)]
    hooks: list[Any] = [(name, lambda pattern, hook: pattern.clone()) for name in patterns]
    hooks += [*interventions, *((name, keep_map) for name in patterns)]
    hooks += [(f"blocks.{block}.hook_resid_post", keep_stream(block + 1)) for block in range(DEPTH)]
    hooks += [(f"blocks.{block}.hook_resid_pre", keep_stream(block)) for block in range(DEPTH)]
    model.requires_grad_(True)
    model.run_with_hooks(ids, fwd_hooks=hooks)
    row = torch.zeros(len(ids), TOKENS)
    row[:, token] = 1
    if latents[layer].requires_grad:
        value = scalar(latents[layer], token, score, normalize=True)
        gradients = torch.autograd.grad(value, maps, allow_unused=True)
        full = [torch.zeros_like(m) if g is None else g for m, g in zip(maps, gradients, strict=True)]
        row = explanation_row([each.detach() for each in maps], full, token)
    return replace_self_entry(row, token, self_token)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, expected.max().item()))


ON_BRIDGES = ["make a head uniform", "zero a head in place", "edit the scores", "steer", "patch a token's residual"]
FOLLOWED = [("hooked", what) for what in INTERVENTIONS] + [(name, what) for name in MODELS[1:] for what in ON_BRIDGES]


@pytest.mark.parametrize(("name", "what"), FOLLOWED)
def test_interventions_are_followed_wherever_they_stand_in_the_list(name: str, what: str) -> None:
    model, ids = model_named(name)
    interventions = [INTERVENTIONS[what]]
    expected = explicit_loop(model, ids, interventions, self_token="zero")
    unchanged = explicit_loop(model, ids, [], self_token="zero")
    assert what == "nothing" or not torch.allclose(expected, unchanged, atol=1e-4), "the intervention changes nothing"
    for after in (True, False):
        relevance = ultra_hooks(model.requires_grad_(False), layer=DEPTH)
        ours = relevance.fwd_hooks
        model.run_with_hooks(ids, fwd_hooks=[*interventions, *ours] if after else [*ours, *interventions])
        assert_close(relevance.rows(TARGET, self_token="zero", score="sum"), expected)


@pytest.mark.parametrize("name", MODELS[:2])
def test_permanent_hooks_and_outer_contexts_are_followed_too(name: str) -> None:
    model, ids = model_named(name)
    interventions = [INTERVENTIONS["make a head uniform"], INTERVENTIONS["patch a token's residual"]]
    expected = explicit_loop(model, ids, interventions)
    relevance = ultra_hooks(model)
    with model.hooks(fwd_hooks=relevance.fwd_hooks), model.hooks(fwd_hooks=interventions[:1]):
        model.run_with_hooks(ids, fwd_hooks=interventions[1:])
    assert_close(relevance.rows(TARGET, score="sum"), expected)


@pytest.mark.parametrize("name", MODELS[:2])
def test_two_of_them_in_one_run(name: str) -> None:
    model, ids = model_named(name)
    intervention = INTERVENTIONS["make a head uniform"]
    first, second = ultra_hooks(model), ultra_hooks(model, layer=2)
    model.run_with_hooks(ids, fwd_hooks=[*first.fwd_hooks, intervention, *second.fwd_hooks])
    assert_close(first.rows(TARGET, score="sum"), explicit_loop(model, ids, [intervention]))
    assert_close(second.rows(TARGET, score="sum"), explicit_loop(model, ids, [intervention], layer=2))
    assert first.rows("all").shape == (2, TOKENS, TOKENS)


OTHERS = {"rollout": {"start_layer": 1}, "raw_attention": {}, "grad_cam": {}, "attcat": {}, "legrad": {}, "gae": {}}
LINEAR = {"conservative": {"reading": "absolute"}, "residual": {"gamma": 1.0}}


@pytest.mark.parametrize("method", [*OTHERS, *LINEAR])
def test_other_methods_say_of_an_unchanged_run_what_they_say_of_the_model(method: str) -> None:
    """Of a run with interventions the methods see the same trace that the explicit loop holds."""
    choices: dict[str, Any] = OTHERS.get(method) or LINEAR.get(method, {})
    model, ids = model_named("hooked")
    relevance = relevance_hooks(model, [2, DEPTH], method, **choices)
    with relevance if method in LINEAR else nullcontext():
        model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)
    score = torch.arange(16.0).cos()
    for layer in (2, DEPTH):
        expected = find_method(method)(model).attribute(ids, token="all", layer=layer, score=score, **choices)
        assert expected.abs().max() > 1e-3
        assert_close(relevance.rows("all", layer, score=score), expected)


@pytest.mark.parametrize("method", ["lrp", "token_tm", "partial_lrp", "transformer_attribution"])
def test_methods_that_see_more_than_hooks_do_are_refused(method: str) -> None:
    model, _ = model_named("hooked")
    with pytest.raises(ValueError, match=rf"method='{method}': .* operations that hooks do not show.*attribute\("):
        relevance_hooks(model, method=method)


def test_methods_and_choices_that_do_not_exist() -> None:
    model, _ = model_named("hooked")
    with pytest.raises(ValueError, match="method 'saliency' is unknown"):
        relevance_hooks(model, method="saliency")
    with pytest.raises(TypeError, match="no argument 'gamma'"):
        relevance_hooks(model, method="rollout", gamma=1.0)
    with pytest.raises(ValueError, match="gamma >= 0"):
        relevance_hooks(model, method="residual", gamma=-1.0)


def test_hooks_that_were_registered_past_transformer_lens() -> None:
    model, ids = model_named("hooked")
    expected = explicit_loop(model, ids, [INTERVENTIONS["make a head uniform"]])
    point = model.hook_dict["blocks.2.attn.hook_pattern"]
    relevance = ultra_hooks(model)
    with model.hooks(fwd_hooks=relevance.fwd_hooks):
        handle = point.register_forward_hook(lambda module, args, pattern: uniform_head(pattern, module))
        model(ids)
    assert_close(relevance.rows(TARGET, score="sum"), expected)
    with pytest.raises(UnsupportedModelError, match="relevance_hooks"):
        LatentTokenAttribution(model).attribute(ids, token=TARGET)
    handle.remove()


def test_a_bridge_in_compatibility_mode() -> None:
    """Where a bridge calls a hook once for each name of its hook point."""
    case = case_named("hf-GPT2LMHeadModel-sdpa")
    bridge, ids = bridge_of(case.model()), case.inputs()
    bridge.enable_compatibility_mode(no_processing=True)
    relevance = ultra_hooks(bridge)
    bridge.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)
    assert_close(relevance.rows("all"), LatentTokenAttribution(bridge).attribute(ids, token="all"))


@pytest.mark.parametrize("name", MODELS[1:])
def test_a_bridge_equals_the_transformers_model_within_it(name: str) -> None:
    case = case_named(f"hf-{name}")
    model, ids = case.model(), case.inputs()
    recording = case.record(model, ids)
    bridge = bridge_of(model)
    relevance = ultra_hooks(bridge, layer=[1, DEPTH])
    bridge.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)
    for layer in (1, DEPTH):
        for score in ("sum", "energy"):
            expected = explain(recording, 5, layer, score, self_token="zero")
            assert_close(relevance.rows(5, layer, score=score, self_token="zero"), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"token": "all"}, {"token": [0, -1]}, {"token": -2, "score": "energy"}, {"target": [3, 5]},
        {"token": 4, "normalize": False, "self_token": "keep"}, {"token": "all", "internal_batch_size": 1},
        {"token": 2, "score": torch.arange(16.0)}, {"token": 2, "score": lambda t: t.square().sum(-1)},
    ],
    ids=lambda options: "-".join(options),  # names only: a function's text differs between workers
)  # fmt: skip
def test_rows_mean_what_attribute_means(options: dict[str, Any]) -> None:
    model, ids = model_named("hooked")
    relevance = ultra_hooks(model, layer=[0, 2, -1])
    model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)
    for layer in (0, 2, -1):
        expected = LatentTokenAttribution(model).attribute(ids, layer=layer, output="tokens", **options)
        assert_close(relevance.rows(layer=layer, **options), expected)


@pytest.mark.parametrize("name", MODELS[:2])
def test_latent_token_attribution_follows_a_permanent_hook_that_zeroes(name: str) -> None:
    place = "blocks.1.attn.hook_pattern"
    for edit in (zero_head_in_place, zero_head_silently, lambda x, hook: x * (x > 0.1)):
        model, ids = model_named(name)
        expected = explicit_loop(model, ids, [(place, edit)])
        model.add_hook(place, edit, is_permanent=True)
        assert_close(LatentTokenAttribution(model).attribute(ids, token=TARGET, score="sum"), expected)


@pytest.mark.parametrize("name", MODELS[:2])
def test_latent_token_attribution_refuses_other_edits_of_patterns(name: str) -> None:
    model, ids = model_named(name)
    model(ids)  # the first run of a bridge installs hooks of its own
    for what in ("scale a head", "add to a pattern", "make a head uniform", "freeze a pattern"):
        with model.hooks(fwd_hooks=[INTERVENTIONS[what]]):
            before = state_of(model)
            with pytest.raises(UnsupportedModelError, match="relevance_hooks"):
                LatentTokenAttribution(model).attribute(ids, token=TARGET)
            assert_same(state_of(model), before)


@pytest.mark.parametrize("name", MODELS[:2])
def test_rows_fit_an_activation_cache(name: str) -> None:
    from transformer_lens import ActivationCache

    model, ids = model_named(name)
    relevance = ultra_hooks(model, layer=[0, 1, 3])
    with model.hooks(fwd_hooks=relevance.fwd_hooks):
        _, activations = model.run_with_cache(ids)
    found = relevance.cache(token=[4, 5], self_token="keep")
    assert list(found) == ["hook_relevance", "blocks.0.hook_relevance", "blocks.2.hook_relevance"]
    activations = getattr(activations, "cache_dict", activations)  # a bridge wraps the dict by itself
    cache = ActivationCache({**activations, **found}, model)
    assert torch.equal(cache["relevance", 2], relevance.rows([4, 5], 3, self_token="keep"))
    assert cache["relevance", 2].shape == (2, 2, TOKENS) and cache["resid_post", 2].shape[:2] == (2, TOKENS)


@pytest.mark.parametrize("name", MODELS[:2])
def test_the_run_is_not_changed_and_the_model_left_as_found(name: str) -> None:
    model, ids = model_named(name)
    expected = model(ids)
    model.train(False)
    before, torch_before = state_of(model), state_of_torch()
    relevance = ultra_hooks(model)
    output = model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)
    rows = relevance.rows("all")
    assert torch.equal(output, expected)
    assert not rows.requires_grad and not ids.requires_grad
    assert_same(state_of(model), before)
    assert_same(state_of_torch(), torch_before)


def test_left_as_found_after_an_exception_and_ready_for_the_next_run() -> None:
    model, ids = model_named("LlamaForCausalLM-sdpa")
    model(ids)
    before = state_of(model)

    def explode(x: Tensor, hook: Any) -> None:
        raise KeyError("thrown by a hook")

    relevance = ultra_hooks(model)
    with pytest.raises(KeyError, match="thrown by a hook"):
        model.run_with_hooks(ids, fwd_hooks=[*relevance.fwd_hooks, ("blocks.1.attn.hook_z", explode)])
    assert_same(state_of(model), before)
    with pytest.raises(ValueError, match="ended after 1 blocks"):
        relevance.rows(3)
    model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)
    assert_close(relevance.rows(3), LatentTokenAttribution(model).attribute(ids, token=3))


def test_nothing_outlives_the_hooks() -> None:
    model, ids = model_named("hooked")
    gc.collect()
    gc.disable()
    try:
        relevance = ultra_hooks(model)
        hooks = relevance.fwd_hooks
        model.run_with_hooks(ids, fwd_hooks=hooks)
        rows = relevance.rows(3)
        stream = weakref.ref(relevance._run.finish().latents[DEPTH])
        assert stream() is not None, "rows of other tokens can still be asked for"
        relevance.clear()
        assert stream() is None
        model.run_with_hooks(ids, fwd_hooks=hooks)
        again = weakref.ref(relevance._run.finish().latents[DEPTH])
        assert torch.equal(relevance.rows(3), rows)
        del relevance, hooks
        assert again() is None, "a reference cycle keeps the graph"
    finally:
        gc.enable()


def test_the_run_may_stop_at_the_layer() -> None:
    for name in ("hooked", "LlamaForCausalLM-sdpa"):
        model, ids = model_named(name)
        relevance = ultra_hooks(model, layer=2)
        model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks, stop_at_layer=2)
        assert_close(relevance.rows(4), LatentTokenAttribution(model).attribute(ids, token=4, layer=2))
        relevance.clear()
        model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks, stop_at_layer=1)
        with pytest.raises(ValueError, match="ended after 1 blocks, before layer 2"):
            relevance.rows(4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype) -> None:
    model, ids = model_named("hooked")
    expected = LatentTokenAttribution(model).attribute(ids, token=TARGET, self_token="zero")
    model = model.to(dtype)
    relevance = ultra_hooks(model)
    model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)
    rows = relevance.rows(TARGET, self_token="zero")
    assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-5 if dtype == torch.float64 else 0.15
    torch.testing.assert_close(rows.float(), expected, rtol=0, atol=tolerance * expected.max().item())


# What cannot be followed says so.


@pytest.mark.parametrize("name", ["BertForMaskedLM-sdpa", "BertForMaskedLM-eager", "ViTForImageClassification-sdpa"])
def test_delegated_attention_is_refused(name: str) -> None:
    case = case_named(f"hf-{name}")
    bridge, inputs = bridge_of(case.model()), case.inputs()
    reading = [(f"blocks.{b}.attn.hook_pattern", lambda x, hook: None) for b in range(DEPTH)]
    message = r"hook_pattern of block 0 did not fire.*LatentTokenAttribution"
    for watching in ([], reading):
        with pytest.raises(UnsupportedModelError, match=message):
            bridge.run_with_hooks(inputs, fwd_hooks=[*watching, *ultra_hooks(bridge).fwd_hooks])


@pytest.mark.parametrize("name", MODELS[:2])
def test_a_run_without_gradients_is_refused(name: str) -> None:
    model, ids = model_named(name)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), pytest.raises(ValueError, match="without gradients"):
            model.run_with_hooks(ids, fwd_hooks=ultra_hooks(model).fwd_hooks)


def test_a_second_forward_pass_is_refused() -> None:
    model, ids = model_named("hooked")
    relevance = ultra_hooks(model)
    with model.hooks(fwd_hooks=relevance.fwd_hooks):
        model(ids)
        with pytest.raises(ValueError, match=r"second forward pass.*clear\(\)"):
            model(ids[:, :1])
        relevance.clear()
        model(ids)
    assert relevance.rows(3).shape == (2, TOKENS)


def test_patterns_over_a_cache_are_refused() -> None:
    model, ids = model_named("hooked")
    longer = ("blocks.0.attn.hook_pattern", lambda x, hook: torch.cat([x, x], -1))
    with pytest.raises(UnsupportedModelError, match="without key-value cache"):
        model.run_with_hooks(ids, fwd_hooks=[longer, *ultra_hooks(model).fwd_hooks])


def test_a_run_from_the_middle_and_parts_of_the_hooks_are_refused() -> None:
    model, ids = model_named("LlamaForCausalLM-sdpa")
    relevance = ultra_hooks(model)
    with pytest.raises(ValueError, match="from the first block on"):
        model.run_with_hooks(torch.randn(2, TOKENS, 32), fwd_hooks=relevance.fwd_hooks, start_at_layer=1)
    with pytest.raises(ValueError, match="pass the whole list"):
        model.run_with_hooks(
            ids, fwd_hooks=[(name, lambda x, hook, f=f: f(x, hook)) for name, f in relevance.fwd_hooks]
        )


def test_gradients_switched_off_inside_the_model_are_refused() -> None:
    model, ids = model_named("hooked")
    mlp = model.blocks[1]
    mlp.hook_resid_mid.register_forward_hook(lambda module, args, x: x.detach())  # no hook of the caller's
    relevance = ultra_hooks(model.requires_grad_(False), layer=2)
    with pytest.raises(UnsupportedModelError, match="layer 2 is cut off"):
        model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)


def test_arguments() -> None:
    model, ids = model_named("hooked")
    with pytest.raises(ValueError, match="layer=4 does not exist: with 3 blocks"):
        ultra_hooks(model, layer=4)
    with pytest.raises(ValueError, match="at least one layer"):
        ultra_hooks(model, layer=[])
    with pytest.raises(UnsupportedModelError, match="no hook_dict"):
        ultra_hooks(torch.nn.Linear(2, 2))
    relevance = ultra_hooks(model, layer=[1, 2])
    with pytest.raises(ValueError, match="no run has been followed yet"):
        relevance.rows(3, 1)
    model.run_with_hooks(ids, fwd_hooks=relevance.fwd_hooks)
    with pytest.raises(ValueError, match=r"several layers are followed.*\[1, 2\]"):
        relevance.rows(3)
    with pytest.raises(ValueError, match=r"layer=3 was not followed.*\[1, 2\]"):
        relevance.rows(3, 3)
    with pytest.raises(ValueError, match="token 9 does not exist"):
        relevance.rows(9, 1)
    with pytest.raises(ValueError, match="self_token='all' is unknown"):
        relevance.rows(3, 1, self_token="all")
    assert ultra_hooks(model, layer=model.blocks[1]).layers == ultra_hooks(model, layer="blocks.1").layers == (2,)
