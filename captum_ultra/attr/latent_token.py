"""ULTra: explanation maps of latent tokens, behind Captum's interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor, nn

from captum_ultra.adapters import Blocks, TokenLayout
from captum_ultra.adapters.streams import stream_after
from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.attr.inputs import checked_inputs
from captum_ultra.attr.methods.generic_attention import GenericAttention
from captum_ultra.attr.runs import layout_of
from captum_ultra.attr.scores import Score, as_score
from captum_ultra.attr.targets import Layer, Layers, Token, layer_number, parse_targets
from captum_ultra.errors import warn_caller
from captum_ultra.relevance import explaining

__all__ = ["LatentTokenAttribution"]


class LatentTokenAttribution(GenericAttention):
    """Which input tokens made a latent token what it is (ULTra, arXiv 2411.12589).

    For token i after l blocks with the scalar f of its latent, every block passed contributes
    ``C = I + mean_h relu(df/dA_h * A_h)``; the explanation is row i of ``C^(l) ... C^(1)``. It is
    computed by one forward pass and one batched backward pass without storing an attention map.

    The model is explained in evaluation mode and left exactly as it was found.

    Args:
        model: a transformer of timm, transformers, open_clip, torchvision or TransformerLens, a
            ``nn.TransformerEncoder``, or any module whose residual blocks run one self-attention
            each. Of a two-tower model (CLIP) the input decides: float images are given to the
            vision tower, integer ids to the text tower.
        blocks: the name of the container of the residual blocks, or the blocks in order; found
            automatically when None.

    Raises:
        TypeError: if ``model`` is not a module.
        UnsupportedModelError: for wrappers that hide the attention (compiled, DataParallel).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_ultra import LatentTokenAttribution
        >>> layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        >>> model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> rows = LatentTokenAttribution(model).attribute(torch.randn(3, 5, 16), token=2, layer=1)
        >>> rows.shape
        torch.Size([3, 5])
    """

    def __init__(self, model: nn.Module, blocks: Blocks | None = None, *, probe: bool = True) -> None:
        super().__init__(model, blocks, probe=probe)

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], token: Token = 0, layer: Layers = -1, *,
        target: Any = None, score: Score = DEFAULT_SCORE, normalize: bool = True, self_token: str = "max",
        output: str = "input", interpolation: str = "bilinear", rescale: bool = False,
        additional_forward_args: Any = None, internal_batch_size: int | None = None, show_progress: bool = False,
    ) -> Any:  # fmt: skip
        """Explain latent tokens.

        Args:
            inputs: images [B, C, H, W], token ids [B, N], or embeddings [B, N, d]; a 1-tuple gives a 1-tuple.
            token: which latent tokens: an index (0 is the first token the model sees, CLS where
                there is one; negative from the last that is no padding), a (row, col) patch, a list of either,
                ``"all"`` tokens, or
                ``"patches"`` (without CLS, registers, distillation tokens).
            layer: number of blocks passed, 0 (the embedding) to L, negative from the end, or a
                block, or its name: after that block. A list explains several layers from one run.
            target: per-sample tokens, one [B] or several [B, T] for each example, in place of ``token``.
            score: "energy" (f_e), "sum" (f_s), weights [d] or [n, d] (f_w), or a callable of the
                latents [B, n, d] -> [B, n]; see :func:`captum_ultra.attr.scores.as_score`.
            normalize: this and all that follow are as in
                :meth:`captum_ultra.attr.attribution.TokenAttribution.attribute`, and so is what is returned and raised.
        """
        return GenericAttention.attribute.__wrapped__(
            self, inputs, target, token=token, layer=layer, score=score, normalize=normalize, self_token=self_token,
            output=output, interpolation=interpolation, rescale=rescale,
            additional_forward_args=additional_forward_args, internal_batch_size=internal_batch_size,
            show_progress=show_progress,
        )  # fmt: skip

    def score(
        self, inputs: Tensor, token: Token = 0, layer: Layer = -1, *, target: Any = None,
        score: Score = DEFAULT_SCORE, normalize: bool = True, additional_forward_args: Any = None,
    ) -> Tensor:  # fmt: skip
        """The explained scalar itself: [B] for one token a sample, [B, T] for several; differentiable.

        Arguments as in :meth:`attribute`. The energy of a normalised latent is 1 whatever the input: what Captum's
        metrics and perturbation methods need is :meth:`scorer`.
        """
        scalar = as_score(score, normalize)
        if score == "energy" and normalize:
            warn_caller(
                "the energy of a normalised latent is 1 for every input; scorer(inputs, ...) gives what changes"
            )
        latents, targets = self._latents(inputs, layer, additional_forward_args), parse_targets(token, target)
        layout = self.token_layout(inputs, additional_forward_args)
        scores = scalar(latents).gather(1, targets.indices(layout, len(latents), latents.device))
        return scores[:, 0] if targets.single else scores

    def scorer(
        self, inputs: Tensor, token: Token = 0, layer: Layer = -1, *, target: Any = None,
        score: Score = DEFAULT_SCORE, normalize: bool = True, additional_forward_args: Any = None,
    ) -> Callable[[Tensor], Tensor]:  # fmt: skip
        """The explained scalar as a function of the input, along the direction that is explained at these inputs.

        The forward function to hand to Captum's metrics and perturbation methods, which compare a change of the input
        with a change of what was explained: of inputs [k B, ...], samples of one input beside each other, to [k B] or
        [k B, T]. Differentiable. Arguments as in :meth:`attribute`.

        Example:
            >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
            >>> lta = LatentTokenAttribution(VisionTransformer(ViTConfig(dim=16, depth=2, heads=2)))
            >>> x = torch.rand(1, 3, 64, 64)
            >>> explained = lta.scorer(x, token=(3, 4), layer=2)
            >>> explained(x).item() > explained(torch.zeros_like(x)).item()
            True
        """
        scalar, targets = as_score(score, normalize), parse_targets(token, target)
        leaf = self._latents(inputs, layer, additional_forward_args).detach().requires_grad_()
        indices = targets.indices(self.token_layout(inputs, additional_forward_args), len(leaf), leaf.device)
        with torch.inference_mode(False), torch.enable_grad():
            (directions,) = torch.autograd.grad(scalar(leaf, linear=True).sum(), leaf)

        def explained(others: Tensor) -> Tensor:
            latents = self._latents(others, layer, additional_forward_args)
            repeats = len(latents) // len(directions)
            scores = (latents * directions.repeat_interleave(repeats, 0)).sum(-1)
            scores = scores.gather(1, indices.repeat_interleave(repeats, 0))
            return scores[:, 0] if targets.single else scores

        return explained

    def token_layout(self, inputs: Tensor, additional_forward_args: Any = None) -> TokenLayout:
        """How the model lays out the tokens of an input: their number, the prefix, the patch grid.

        Runs the model up to its first block.

        Args:
            inputs: as in :meth:`attribute`.
            additional_forward_args: as in :meth:`attribute`.

        Returns:
            A layout with ``tokens``, ``prefix`` and ``grid`` (rows, columns), None for sequences.

        Raises:
            ValueError, TypeError, UnsupportedModelError: as :meth:`attribute` does.

        Example:
            >>> import torch
            >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
            >>> model = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2, cls_token=True))
            >>> LatentTokenAttribution(model).token_layout(torch.zeros(1, 3, 64, 64))
            TokenLayout(tokens=257, prefix=1, grid=(16, 16))
        """
        tensor = checked_inputs(inputs, self.model)
        return layout_of(self._views(tensor, additional_forward_args), tensor, additional_forward_args)

    def _latents(self, inputs: Tensor, layer: Layer, extra: Any) -> Tensor:
        """Latents [B, n, d] with a graph down to the inputs."""
        tensor = checked_inputs(inputs, self.model)
        view = self._views.resolved(tensor, extra)
        with explaining(self.model):
            return stream_after(view, layer_number(layer, self.model, view.blocks), tensor, extra)
