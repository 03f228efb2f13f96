"""Hugging Face transformers: where each family keeps its blocks, and how its forward is called."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView, split_arguments
from captum_ultra.errors import UnsupportedModelError

__all__ = ["call", "tower", "view"]

# Tried in this order below the base model; families name the same thing differently.
_BLOCK_PATHS = ("layers", "h", "encoder.layers", "encoder.layer", "layer", "model.layer", "model.layers",
                "decoder.layers", "transformer.layer", "encoder.block", "block", "blocks")  # fmt: skip


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of a transformers model; of a two-tower model, of the tower that the input belongs to.

    None if no known path leads to blocks (then discovery tries).
    """
    config = getattr(model, "config", None)
    if config is None:
        return None
    name = f"transformers {type(model).__name__}"
    _refuse(name, model, config, blocks)
    part = tower(model, inputs)
    found = blocks if blocks is not None else _blocks(part)
    if found is None:
        return None
    return TransformerView(name, part, list(found), call)


def _refuse(name: str, model: nn.Module, config: Any, blocks: Sequence[nn.Module] | None) -> None:
    if getattr(config, "is_encoder_decoder", False) and blocks is None and _has_both_halves(model):
        raise UnsupportedModelError(
            f"{name} is an encoder-decoder whose decoder blocks run cross-attention beside self-attention; "
            "explain its encoder: LatentTokenAttribution(model.get_encoder())"
        )
    kernel = getattr(config, "_attn_implementation", None)
    if kernel not in (None, "sdpa", "eager"):
        raise UnsupportedModelError(
            f'{name} uses attn_implementation="{kernel}", a kernel that hides its attention; call '
            'model.set_attn_implementation("sdpa") (or "eager") first'
        )


def _has_both_halves(model: nn.Module) -> bool:
    """An encoder taken out of an encoder-decoder keeps the configuration of the whole."""
    wholes = (model, getattr(model, str(getattr(model, "base_model_prefix", "")) or "model", None))
    return any(
        all(isinstance(getattr(whole, half, None), nn.Module) for half in ("encoder", "decoder")) for whole in wholes
    )


def tower(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The vision or text tower of a two-tower model; any other model itself."""
    towers = [getattr(model, name, None) for name in ("vision_model", "text_model")]
    if all(isinstance(tower, nn.Module) for tower in towers):
        return towers[0] if inputs.is_floating_point() and inputs.dim() == 4 else towers[1]  # type: ignore[return-value]
    return model


def _blocks(tower: nn.Module) -> nn.ModuleList | None:
    """The first known path that leads to a list of blocks, from the model or from its base model."""
    bases = [tower, getattr(tower, str(getattr(tower, "base_model_prefix", "")) or "model", None)]
    bases += [getattr(base, name, None) for base in bases[:] for name in ("vision_model", "text_model", "model")]
    for base in (base for base in bases if isinstance(base, nn.Module)):
        modules = dict(base.named_modules())
        for path in _BLOCK_PATHS:
            found = modules.get(path)
            if isinstance(found, nn.ModuleList) and len(found):
                return found
    return None


def call(model: nn.Module, inputs: Tensor, extra: Any) -> Any:
    """Call by keyword: ids, embeddings or pixels; a mask of the ids' shape comes first in ``extra``.

    transformers order their positional arguments differently from class to class, so that a mask
    passed by position would end up as a cache. Caches are switched off: nothing is generated.

    Raises:
        ValueError: for arguments that the model does not take, or that it lacks.
    """
    args, kwargs = split_arguments(extra)
    accepted = _parameters(model)
    if args and isinstance(args[0], Tensor) and args[0].shape == inputs.shape[:2] and "attention_mask" in accepted:
        kwargs["attention_mask"], args = args[0], args[1:]
    if args:
        raise ValueError(
            f"additional_forward_args: {type(model).__name__} takes an attention mask of shape "
            f"{list(inputs.shape[:2])} by position; pass everything else by name in a dict "
            f"(possible: {', '.join(accepted)})"
        )
    if "use_cache" in accepted:
        kwargs.setdefault("use_cache", False)
    kwargs[_input_name(accepted, inputs)] = inputs
    missing = [name for name, each in accepted.items() if each.default is each.empty and name not in kwargs]
    if missing:
        raise ValueError(
            f"{type(model).__name__} needs {', '.join(missing)} beside its input: give them by name, "
            f"additional_forward_args={{{missing[0]!r}: ...}}, or explain the part of the model that "
            "reads this input alone"
        )
    return model(**kwargs)


def _parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """The named parameters of a model's forward; of a wrapper that hands on all it gets, of what it wraps."""
    named = {
        name: each
        for name, each in inspect.signature(model.forward).parameters.items()
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    base = getattr(model, "get_base_model", None)  # adapters of peft
    return _parameters(base()) if not named and callable(base) else named


def _input_name(accepted: Mapping[str, Any], inputs: Tensor) -> str:
    if inputs.is_floating_point() and inputs.dim() == 3 and "inputs_embeds" in accepted:
        return "inputs_embeds"
    if inputs.is_floating_point() and "pixel_values" in accepted:
        return "pixel_values"
    return "input_ids" if "input_ids" in accepted and not inputs.is_floating_point() else next(iter(accepted))
