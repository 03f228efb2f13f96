"""ULTra: explanation maps of latent tokens, behind Captum's interface."""

from __future__ import annotations

import warnings
from typing import Any

from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_ultra.adapters import Blocks, ModelViews, TokenLayout
from captum_ultra.attr.inputs import checked_inputs
from captum_ultra.attr.maps import check_map_options, finish_rows
from captum_ultra.attr.post_norm import warn_if_constant
from captum_ultra.attr.run import Run, half_precision_explained, run_traced
from captum_ultra.attr.scores import Score, as_score
from captum_ultra.attr.targets import Targets, Token, layer_number, parse_targets
from captum_ultra.relevance import Course, gradient_weighted, relevance_rows

__all__ = ["LatentTokenAttribution"]


class LatentTokenAttribution(GradientAttribution):
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

    def __init__(self, model: nn.Module, blocks: Blocks | None = None) -> None:
        self._views = ModelViews(model, blocks)
        GradientAttribution.__init__(self, model)
        self.model = model

    def has_convergence_delta(self) -> bool:
        """False: relevance is not a decomposition of the model's output."""
        return False

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], token: Token = 0, layer: int | str | nn.Module = -1, *,
        target: Any = None, score: Score = "sum", normalize: bool = True, self_token: str = "max",
        output: str = "input", interpolation: str = "bicubic", additional_forward_args: Any = None,
        internal_batch_size: int | None = None, show_progress: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
        """Explain latent tokens.

        Args:
            inputs: images [B, C, H, W] (float, normalised as the model expects), token ids [B, N],
                or embeddings [B, N, d]; a 1-tuple gives a 1-tuple.
            token: which latent tokens: an index (0 is the first token the model sees, CLS where
                there is one; negative from the end), a list of indices, a (row, col) patch,
                ``"all"`` tokens, or ``"patches"`` (without CLS, registers, distillation tokens).
            layer: number of blocks passed, 0 (the embedding) to L, negative from the end, or a
                block, or its name: after that block.
            target: per-sample tokens [B], one for each example (Captum's wrappers expand it);
                takes the place of ``token``.
            score: "sum" (f_s), "energy" (f_e), weights [d] or [n, d] (f_w), or a callable of the
                latents [B, n, d] -> [B, n]; see :func:`captum_ultra.attr.scores.as_score`.
            normalize: divide every latent by its norm, taken as a constant, before scoring.
            self_token: what stands at the target's own position, which the residual connection
                fills with a one: "max" of the other entries, "keep", or "zero".
            output: "input" (maps as large as the image; for sequences the row), "tokens" (the row
                over all tokens, prefix included), "patches" (without the prefix), or "channels"
                (the image's exact shape: the map shared equally between the channels).
            interpolation: how maps are enlarged: "bicubic" (as the authors do; undershoots beside sharp
                peaks, so prefer "bilinear" where maps are ranked or thresholded), "bilinear", "nearest".
            additional_forward_args: further arguments of the model, as in Captum; for
                transformers models an attention mask [B, N], or a dict of keyword arguments.
            internal_batch_size: targets pulled back at once; from a memory budget when None. 1
                avoids vectorised gradients, which custom operations may lack.
            show_progress: show a progress bar over the targets.

        Returns:
            For one token a sample: [B, 1, H, W] ("input", images), [B, N] ("tokens", and "input"
            for sequences), [B, P] ("patches"), [B, C, H, W] ("channels"). For several tokens a T
            axis: [B, T, H, W], [B, T, N], [B, T, P]. At least float32, contiguous.

        Raises:
            ValueError, TypeError: for arguments; before the blocks run.
            UnsupportedModelError: for models that cannot be explained faithfully.

        Example:
            >>> import torch
            >>> from torch import nn
            >>> layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
            >>> model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            >>> x = torch.randn(2, 5, 16)
            >>> LatentTokenAttribution(model).attribute(x, token="all", score="energy").shape
            torch.Size([2, 5, 5])
        """
        tensor = checked_inputs(inputs, self.model)
        targets = parse_targets(token, target)
        function = as_score(score, normalize)
        check_map_options(self_token, output, interpolation, tensor, targets.single)
        if internal_batch_size is not None and internal_batch_size < 1:
            raise ValueError(f"internal_batch_size must be at least 1 or None, got {internal_batch_size}")
        run = self._run(tensor, layer, targets, additional_forward_args)
        (number,) = run.layers
        warn_if_constant(run.trace.latents[number], function, number)
        rows = relevance_rows(
            run.trace, number, function, run.indices, chunk=internal_batch_size, progress=show_progress
        )
        maps = finish_rows(rows, run.indices, run.layout, tensor, self_token, output, interpolation, targets.single)
        if not maps.any():
            warnings.warn(
                f"the map is zero: at layer {number} the explained token holds nothing beside itself, as at the "
                "embedding, for the first token of a causal model, or for padding; "
                'self_token="keep" shows its own entry',
                UserWarning,
                stacklevel=3,
            )
        return (maps,) if isinstance(inputs, tuple) else maps

    def score(
        self, inputs: Tensor, token: Token = 0, layer: int | str | nn.Module = -1, *, target: Any = None,
        score: Score = "sum", normalize: bool = True, additional_forward_args: Any = None,
    ) -> Tensor:  # fmt: skip
        """The explained scalar itself: [B] for one token a sample, [B, T] for several.

        The forward function to hand to Captum's metrics and perturbation methods, which compare a
        change of the input with a change of what was explained. Arguments as in :meth:`attribute`.
        """
        tensor = checked_inputs(inputs, self.model)
        targets = parse_targets(token, target)
        function = as_score(score, normalize)
        run = self._run(tensor, layer, targets, additional_forward_args)
        (number,) = run.layers
        scores = function(run.trace.latents[number]).detach().gather(1, run.indices)
        return scores[:, 0] if targets.single else scores

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
        return self._run(tensor, 0, parse_targets(0, None), additional_forward_args).layout

    def _run(self, inputs: Tensor, layer: int | str | nn.Module, targets: Targets, extra: Any) -> Run:
        with half_precision_explained(self.model):
            view = self._views(inputs, extra)
            number = layer_number(layer, self.model, view.blocks)
            return run_traced(view, inputs, extra, self._course(number), targets)

    def _course(self, layer: int) -> Course:
        """What is followed up to a layer; methods with another rule derive from this class."""
        return Course(gradient_weighted, [layer])
