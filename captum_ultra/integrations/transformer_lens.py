"""Relevance of latent tokens in a run that the caller starts and changes with hooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout, check_model
from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.attr.inputs import check_batch_size
from captum_ultra.attr.methods import find_method
from captum_ultra.attr.presentation import Presentation
from captum_ultra.attr.questions import LatentQuestion
from captum_ultra.attr.runs import Attended, Run
from captum_ultra.attr.scores import Score, as_score
from captum_ultra.attr.targets import Layers, Token, layer_numbers, parse_targets
from captum_ultra.integrations.lens_run import HookedRun, depth_of
from captum_ultra.relevance.lrp import Linearisation, LinearRules

__all__ = ["RelevanceHooks", "relevance_hooks"]


class RelevanceHooks:
    """Hooks for ``run_with_hooks`` of TransformerLens, and the explanations of the run that they followed.

    The rows are those of :class:`captum_ultra.LatentTokenAttribution`, or of another method, for the model as other
    hooks of the same run have changed it: they are made of the attention patterns that the changed model uses and of
    their gradients. The order in the list of hooks does not matter.

    One run is kept, for as many rows as are asked for, until :meth:`clear` or the end of the object.
    Parameters that need gradients cost memory during such a run: ``model.requires_grad_(False)`` avoids it.

    Args:
        model: a TransformerBridge, a HookedTransformer, or another HookedRootModule with their hook points.
        layer: number of blocks passed, 0 to L, negative from the end, a block or its name; or a list of several.
            Layer l is the residual that block l receives (``blocks.{l}.hook_resid_pre``), or the
            last block leaves.
        method: a name of :data:`captum_ultra.attr.methods.METHODS`, of a method that is made of attention patterns; or
            "conservative" or "residual", which give operations a backward pass of their own: the model then runs
            ``with relevance:``, and gradients to below its first block are cut.
        choices: of the method, such as ``start_layer`` or ``gamma``.

    Raises:
        ValueError: if there is no such layer or method, or the method needs more than hooks see.
        TypeError: if ``model`` is not a module.
        UnsupportedModelError: if the model lacks the hook points, is compiled or quantised.

    Example:
        See :func:`relevance_hooks`, which makes one.
    """

    def __init__(self, model: nn.Module, layer: Layers = -1, method: str = "ultra", **choices: Any) -> None:
        check_model(model)
        blocks = [model.get_submodule(f"blocks.{block}") for block in range(depth_of(model))]
        self.layers = tuple(layer_numbers(layer, model, blocks)[0])
        self.method = find_method(method)(model)
        self._choices = self.method.checked(choices)
        needs = [need for each in self.layers if each for need in self.method.needs(each, self._choices)]
        kinds = {need.kind for need in needs}
        linear = [kind for kind in kinds if isinstance(kind, LinearRules)]
        if kinds - {Attended(), *linear}:
            raise ValueError(
                f"method={method!r}: {type(self.method).__name__} looks at operations that hooks do not show: use "
                f"{type(self.method).__name__}(model).attribute(tokens, token=..., layer=...), or ultra, rollout, "
                "raw_attention, grad_cam, attcat, legrad, conservative or residual here"
            )
        layers = sorted({*self.layers, *(layer for need in needs for layer in need.layers)})
        make = partial(Linearisation, model, linear[0]) if linear else None
        self._depth, self._run = len(blocks), HookedRun(model, layers, make)

    def __enter__(self) -> RelevanceHooks:
        self._run.open()
        return self

    def __exit__(self, *error: Any) -> None:
        self._run.close(*error)

    @property
    def fwd_hooks(self) -> list[tuple[str, Callable[..., Tensor | None]]]:
        """Pairs (name of a hook point, hook), for the ``fwd_hooks`` of ``run_with_hooks`` or ``hooks``."""
        return self._run.fwd_hooks

    def clear(self) -> None:
        """Forget the run and free its graph; the hooks can then follow another one."""
        self._run.clear()

    def rows(
        self, token: Token = 0, layer: int | None = None, *, target: Any = None, score: Score = DEFAULT_SCORE,
        normalize: bool = True, self_token: str = "max", internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:  # fmt: skip
        """Relevance of every input token for latent tokens of the run.

        Args:
            token: which latent tokens: an index (negative from the end), a list of indices, or ``"all"``.
            layer: one of the layers followed; may be left out if there is one only.
            target: per-sample tokens, [B] or [B, T], in place of ``token``.
            score: "energy", "sum", weights [d] or [n, d], or a callable of the latents [B, n, d] -> [B, n].
            normalize: divide every latent by its norm, taken as a constant, before scoring.
            self_token: what stands at the target's own position: "max" of the other entries, "keep", "zero".
            internal_batch_size: targets pulled back at once; from a memory budget when None.
            show_progress: show a progress bar over the targets.

        Returns:
            [B, N] for one token a sample, [B, T, N] for several; at least float32, without a graph.

        Raises:
            ValueError, TypeError: for arguments, or if no run has been followed to that layer.
            UnsupportedModelError: if gradients do not reach an attention that no hook of the caller's cut off.
        """
        question = LatentQuestion(
            parse_targets(token, target), as_score(score, normalize), internal_batch_size, show_progress
        )
        presentation = Presentation(self_token, "tokens")
        check_batch_size(internal_batch_size)
        number = self._followed(layer)
        trace = self._run.finish()
        latents = trace.latents[number]
        layout = TokenLayout(latents.shape[1])
        question.check(layout, latents)
        run = Run(trace, None, None)
        # As much of the runs of a model as methods of attention patterns look at.
        padding = torch.zeros(latents.shape[:2], dtype=torch.bool)
        runs: Any = SimpleNamespace(of=lambda kind: run, layout=layout, inputs=latents, extra=None, padding=padding)
        rows = self.method.rows_of(Asked(runs, question, number, self._choices))
        return presentation.finish(rows, question.own(), layout, latents, question.single)

    def cache(self, token: Token = 0, **options: Any) -> dict[str, Tensor]:
        """The rows of every layer followed, under names that fit an ``ActivationCache``.

        Args:
            token: as in :meth:`rows`.
            options: the other arguments of :meth:`rows` beside ``layer``.

        Returns:
            ``blocks.{l - 1}.hook_relevance`` for layer l, beside that block's ``hook_resid_post``, so that
            ``ActivationCache(cache, model)["relevance", l - 1]`` finds it; ``hook_relevance`` for layer 0.
        """
        return {_hook_name(layer): self.rows(token, layer, **options) for layer in self.layers}

    def _followed(self, layer: int | None) -> int:
        if layer is None and len(self.layers) > 1:
            raise ValueError(f"several layers are followed: say which, layer=... of {list(self.layers)}")
        number = self.layers[0] if layer is None else layer + (self._depth + 1 if layer < 0 else 0)
        if number not in self.layers:
            raise ValueError(f"layer={layer} was not followed; relevance_hooks(model, layer={list(self.layers)})")
        return number


def relevance_hooks(model: nn.Module, layer: Layers = -1, method: str = "ultra", **choices: Any) -> RelevanceHooks:
    """Hooks that follow relevance through a run of the caller's; see :class:`RelevanceHooks`.

    Args:
        model: a TransformerBridge, a HookedTransformer, or another HookedRootModule with their hook points.
        layer: number of blocks passed, 0 to L, negative from the end, a block or its name; or a list of several.
        method: a name of :data:`captum_ultra.attr.methods.METHODS`, "ultra", "conservative" or "residual"; the last two
            need the run ``with relevance:``.
        choices: of the method, such as ``start_layer`` or ``gamma``.

    Raises:
        ValueError: if there is no such layer or method.
        UnsupportedModelError: if the model lacks the hook points.

    Example:
        >>> from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
        >>> _ = ensure_torchvision_imports()  # only where torchvision does not load beside a CPU build of torch
        >>> import torch
        >>> from transformer_lens.config import TransformerBridgeConfig
        >>> from transformer_lens.model_bridge import TransformerBridge
        >>> model = TransformerBridge.boot_native(
        ...     TransformerBridgeConfig(d_model=16, d_head=8, n_heads=2, n_layers=2, n_ctx=8, d_vocab=10, d_mlp=32,
        ...                             act_fn="gelu", architecture="TransformerLensNative", seed=0))
        >>> relevance = relevance_hooks(model, layer=2)
        >>> _ = model.run_with_hooks(torch.tensor([[1, 2, 3, 4]]), fwd_hooks=relevance.fwd_hooks)
        >>> relevance.rows(token=-1).shape
        torch.Size([1, 4])
    """
    return RelevanceHooks(model, layer, method, **choices)


def _hook_name(layer: int) -> str:
    return f"blocks.{layer - 1}.hook_relevance" if layer else "hook_relevance"
