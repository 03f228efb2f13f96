"""The scalar of a latent token that is explained: f_s, f_e, f_w, or a user's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Score", "as_score", "name_of_score"]

Score = str | Tensor | Callable[[Tensor], Tensor]


def as_score(score: Score, normalize: bool = True) -> Callable[[Tensor], Tensor]:
    """A function from latents [B, n, d] to one scalar a token [B, n].

    With z the latent token and t = z / ||z|| (the norm taken as a constant) if ``normalize``,
    else t = z (ULTra, arXiv 2411.12589, section 3):

    - ``"sum"``: f_s = <t, 1>.
    - ``"energy"``: f_e = <t, t>. The authors' notebooks take ||t||_2 instead; for normalised
      tokens its gradient is half of this one.
    - a vector [d] or matrix [n, d]: f_w = <t, w_i>, the same or an own direction for each token.
    - a callable: receives t [B, n, d] (at least float32) and returns scores [B, n].

    Raises:
        ValueError: for an unknown name, or (when called) shapes that do not fit.
        TypeError: for anything else.

    Example:
        >>> import torch
        >>> as_score("sum", normalize=False)(torch.ones(1, 2, 3))
        tensor([[3., 3.]])
    """
    if isinstance(score, str):
        if score not in _NAMED:
            raise ValueError(
                f"score={score!r} is unknown; possible: 'sum', 'energy', a vector [d], a matrix [n, d], "
                "or a callable of the latents [B, n, d] -> [B, n]"
            )
        function = _NAMED[score]
    elif isinstance(score, Tensor):
        if score.dim() not in (1, 2) or not score.is_floating_point():
            raise ValueError(
                f"score: a tensor must be a floating-point vector [d] or matrix [n, d], got "
                f"{score.dtype} of shape {list(score.shape)}"
            )
        function = _along(score)
    elif callable(score):
        function = score
    else:
        raise TypeError(f"score must be a name, a tensor or a callable, got {type(score).__name__}")

    def scores(latents: Tensor) -> Tensor:
        t = latents.to(torch.promote_types(latents.dtype, torch.float32))
        if normalize:
            t = t / t.norm(dim=-1, keepdim=True).detach()
        return _checked(function(t), latents)

    return scores


def _along(direction: Tensor) -> Callable[[Tensor], Tensor]:
    def f_w(t: Tensor) -> Tensor:
        expected = tuple(t.shape[-direction.dim() :])
        if tuple(direction.shape) != expected:
            raise ValueError(
                f"score: weights {list(direction.shape)} do not fit latents of {t.shape[1]} tokens "
                f"with {t.shape[2]} channels; give a vector [{t.shape[2]}] or a matrix "
                f"[{t.shape[1]}, {t.shape[2]}]"
            )
        return (t * direction.detach().to(t)).sum(-1)

    return f_w


def _checked(scores: Tensor, latents: Tensor) -> Tensor:
    if not isinstance(scores, Tensor) or scores.shape != latents.shape[:2]:
        got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"score: the callable must return one scalar a token, [B, n] = {list(latents.shape[:2])}; got {got}"
        )
    if torch.is_grad_enabled() and latents.requires_grad and not scores.requires_grad:
        raise ValueError(
            "score: the callable's result does not depend on the latents (is it detached?), so there is "
            "nothing to explain"
        )
    return scores


_NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda t: t.sum(-1),
    "energy": lambda t: (t * t).sum(-1),
}


def name_of_score(score: Score) -> str:
    """What a result says about its score: its name, the kind of a tensor, or the name of a function.

    Example:
        >>> name_of_score("energy"), name_of_score(torch.ones(4)), name_of_score(torch.sum)
        ('energy', 'weights [4]', 'sum')
    """
    if isinstance(score, str):
        return score
    if isinstance(score, Tensor):
        return f"weights {list(score.shape)}"
    return getattr(score, "__name__", type(score).__name__)
