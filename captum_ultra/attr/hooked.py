"""Relevance of latent tokens in a run that the caller starts and changes with hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout, check_model
from captum_ultra.adapters.lens_hooks import HookedRun, depth_of
from captum_ultra.attr.maps import check_map_options, finish_rows
from captum_ultra.attr.post_norm import warn_if_constant
from captum_ultra.attr.scores import Score, as_score
from captum_ultra.attr.targets import Token, layer_number, parse_targets
from captum_ultra.relevance import gradient_weighted, relevance_rows

__all__ = ["RelevanceHooks"]


class RelevanceHooks:
    """Hooks for ``run_with_hooks`` of TransformerLens, and the explanations of the run that they followed.

    The rows are those of :class:`captum_ultra.LatentTokenAttribution` for the model as other hooks of the
    same run have changed it: the C of ULTra (arXiv 2411.12589) are made of the attention patterns that the
    changed model uses and of their gradients. The order in the list of hooks does not matter.

    One run is kept, for as many rows as are asked for, until :meth:`clear` or the end of the object.
    Parameters that need gradients cost memory during such a run: ``model.requires_grad_(False)`` avoids it.

    Args:
        model: a TransformerBridge, a HookedTransformer, or another HookedRootModule with their hook points.
        layer: number of blocks passed, 0 to L, negative from the end, a block or its name; or several
            numbers. Layer l is the residual that block l receives (``blocks.{l}.hook_resid_pre``), or the
            last block leaves.

    Raises:
        ValueError: if there is no such layer.
        TypeError: if ``model`` is not a module.
        UnsupportedModelError: if the model lacks the hook points, is compiled or quantised.

    Example:
        See :func:`captum_ultra.adapters.transformer_lens.relevance_hooks`, which makes one.
    """

    def __init__(self, model: nn.Module, layer: int | str | nn.Module | Sequence[int] = -1) -> None:
        check_model(model)
        blocks = [model.get_submodule(f"blocks.{block}") for block in range(depth_of(model))]
        asked = [layer] if isinstance(layer, int | str | nn.Module) else list(layer)
        if not asked:
            raise ValueError("layer must name at least one layer, got none")
        self.layers = tuple(dict.fromkeys(layer_number(each, model, blocks) for each in asked))
        self._depth = len(blocks)
        self._run = HookedRun(model, self.layers, gradient_weighted)

    @property
    def fwd_hooks(self) -> list[tuple[str, Callable[..., Tensor | None]]]:
        """Pairs (name of a hook point, hook), for the ``fwd_hooks`` of ``run_with_hooks`` or ``hooks``."""
        return self._run.fwd_hooks

    def clear(self) -> None:
        """Forget the run and free its graph; the hooks can then follow another one."""
        self._run.clear()

    def rows(
        self, token: Token = 0, layer: int | None = None, *, target: Any = None, score: Score = "sum",
        normalize: bool = True, self_token: str = "max", internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:  # fmt: skip
        """Relevance of every input token for latent tokens of the run.

        Args:
            token: which latent tokens: an index (negative from the end), a list of indices, or ``"all"``.
            layer: one of the layers followed; may be left out if there is one only.
            target: per-sample tokens [B], in place of ``token``.
            score: "sum", "energy", weights [d] or [n, d], or a callable of the latents [B, n, d] -> [B, n].
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
        targets = parse_targets(token, target)
        function = as_score(score, normalize)
        if internal_batch_size is not None and internal_batch_size < 1:
            raise ValueError(f"internal_batch_size must be at least 1 or None, got {internal_batch_size}")
        number = self._followed(layer)
        trace = self._run.finish()
        latents = trace.latents[number]
        check_map_options(self_token, "tokens", "nearest", latents, targets.single)
        layout = TokenLayout(latents.shape[1])
        indices = targets.indices(layout, len(latents), latents.device)
        if number:
            warn_if_constant(latents, function, number)
        rows = relevance_rows(trace, number, function, indices, chunk=internal_batch_size, progress=show_progress)
        return finish_rows(rows, indices, layout, latents, self_token, "tokens", "nearest", targets.single)

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


def _hook_name(layer: int) -> str:
    return f"blocks.{layer - 1}.hook_relevance" if layer else "hook_relevance"
