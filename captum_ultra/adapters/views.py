"""The views of one model, one for each kind of input, and what was found out about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn

from captum_ultra.adapters.layout import TokenLayout
from captum_ultra.adapters.probe import Findings, layout_only, probe, say_what_is_left_out
from captum_ultra.adapters.resolve import Blocks, check_model, resolve
from captum_ultra.adapters.view import TransformerView, split_arguments
from captum_ultra.relevance import explaining

__all__ = ["ModelViews"]


class ModelViews:
    """Finds the view of a model for an input, and probes the model once for each kind of input.

    What was found is kept by model and kind of input, for all explainers of the model, until the model changes: a
    module put in another's place, or weights that were written to.

    Args:
        model: any module.
        blocks: as in :func:`captum_ultra.adapters.resolve`.
        probe: whether the model is probed, see :func:`captum_ultra.adapters.probe.probe`; where it is not, of images
            the layout of the tokens is read.

    Raises:
        TypeError: if ``model`` is not a module.
        UnsupportedModelError: for wrappers that hide the attention (compiled, DataParallel).

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> views = ModelViews(VisionTransformer(ViTConfig(dim=16, depth=2, heads=2)))
        >>> views(torch.rand(1, 3, 64, 64)).findings.layout
        TokenLayout(tokens=256, prefix=0, grid=(16, 16))
    """

    def __init__(self, model: nn.Module, blocks: Blocks | None = None, *, probe: bool = True) -> None:
        check_model(model)
        self.model = model
        self._blocks, self._probe = blocks, probe

    def __call__(self, inputs: Tensor, extra: Any = None) -> TransformerView:
        """The view for this kind of input, with what was found out about it.

        Args:
            inputs: the input that will be explained.
            extra: Captum's ``additional_forward_args``.

        Raises:
            UnsupportedModelError: if the model cannot be explained on such inputs.
        """
        return self.probed(self.resolved(inputs, extra), inputs, extra)

    def resolved(self, inputs: Tensor, extra: Any = None) -> TransformerView:
        """The view alone, by which arguments can be checked; runs the model where its blocks must be discovered."""
        with explaining(self.model, gradients=False):  # several threads may ask for the first time
            kept, kind = _kept(self.model), _kind_of_call(inputs, extra)
            blocks = self._blocks if self._blocks is not None else kept.discovered.get(kind)
            view = resolve(self.model, inputs, extra, blocks)
            if view.discovered:
                kept.discovered[kind] = view.blocks
        return view

    def probed(self, view: TransformerView, inputs: Tensor, extra: Any = None) -> TransformerView:
        """The view with what was found out about it, for which the model runs the first time.

        And again, where an input shows more than the one that was looked at: several samples, or twice as many tokens.
        """
        chosen = self._blocks is not None
        with explaining(self.model, gradients=False):
            kind, additions = _kind_of_call(inputs, extra), _additions(self.model)
            kept, key = _kept(self.model), (kind, tuple(map(id, view.blocks)), additions)
            found = kept.findings.get(key)
            if found is None or (self._probe and not _covers(found, inputs)):
                if self._probe:
                    found = probe(view, self.model, inputs, extra, chosen=chosen)
                else:
                    found = layout_only(view, inputs, extra)
                if found.finite:
                    kept.findings[key] = found
            elif found.outside and not chosen:  # the same blocks, named by someone else
                say_what_is_left_out(view, self.model, found.outside, chosen)
            elif found.layout and not _is_certain(found.layout, extra):
                found = replace(found, layout=layout_only(view, inputs, extra).layout)
        return replace(view, findings=found)


def _covers(found: Findings, inputs: Tensor) -> bool:
    """Whether what was found out holds for an input."""
    longer = inputs.dim() < 4 and inputs.dim() > 1 and inputs.shape[1] >= 2 * found.tokens
    return found.probed and not longer and (len(inputs) == 1 or found.samples > 1)


def _is_certain(layout: TokenLayout, extra: Any) -> bool:
    """Whether a layout is that of every picture of its size: it may follow the contents, or a mask that was given."""
    args, kwargs = split_arguments(extra)
    return (
        layout.grid is not None
        and layout.order is None
        and not any(isinstance(each, Tensor) for each in (*args, *kwargs.values()))
    )


class _Kept:
    """What was found out about a model as it was then."""

    def __init__(self, model: nn.Module) -> None:
        self.discovered: dict[Any, Sequence[nn.Module]] = {}
        self.findings: dict[Any, Findings] = {}
        self._modules = [ref(module) for module in model.modules()]
        self._state = _state(model)

    def holds(self, model: nn.Module) -> bool:
        """Whether the model still has the modules and the weights that it had."""
        modules = list(model.modules())
        same = len(modules) == len(self._modules) and all(
            was() is module for was, module in zip(self._modules, modules, strict=True)
        )
        return same and self._state == _state(model)


_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def _kept(model: nn.Module) -> _Kept:
    found = _KEPT.get(model)
    if found is None or not found.holds(model):
        found = _KEPT[model] = _Kept(model)
    return found


def _state(model: nn.Module) -> Any:
    """What changes with the weights, their precision and place, and the kernel that a library was told to use."""
    weights = tuple(
        (id(each), 0 if each.is_inference() else each._version, each.dtype, each.device) for each in model.parameters()
    )
    buffers = tuple((id(each), 0 if each.is_inference() else each._version) for each in model.buffers())
    return hash((weights, buffers)), getattr(getattr(model, "config", None), "_attn_implementation", None)


def _additions(model: nn.Module) -> Any:
    """The code that was added to modules, and may come and go: hooks of others, and a forward of their own."""
    found = []
    for place, module in enumerate(model.modules()):
        hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values(), vars(module).get("forward"))
        found += [
            (place, getattr(each, "__code__", type(each)))
            for each in hooks
            if each is not None and not str(getattr(each, "__module__", "")).startswith("captum_ultra")
        ]
    return tuple(found)


def _kind_of_call(inputs: Tensor, extra: Any) -> Any:
    args, kwargs = split_arguments(extra)
    return _kind(inputs), tuple(map(_kind, args)), tuple((name, _kind(each)) for name, each in kwargs.items())


def _kind(value: Any) -> Any:
    """What a run may depend on, beside numbers: of pictures the size, of sequences not the length."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.dtype, value.item()
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape[1:]) if value.dim() == 4 else value.dim()
    return value if isinstance(value, bool | int | float | str | None) else type(value)
