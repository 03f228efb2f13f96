"""The scalar of a latent token that is explained: f_s, f_e, f_w, or a user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Scalar", "Score", "as_score", "name_of_score"]

Score = str | Tensor | Callable[[Tensor], Tensor]


def as_score(score: Score, normalize: bool = True) -> Scalar:
    """A function from latents [B, n, d] to one scalar a token [B, n].

    With z the latent token and t = z / ||z|| (the norm taken as a constant) if ``normalize``,
    else t = z (ULTra, arXiv 2411.12589, section 3):

    - ``"sum"``: f_s = <t, 1>.
    - ``"energy"``: f_e = <t, t>. The authors' notebooks take ||t||_2 instead; for normalised
      tokens its gradient is half of this one.
    - a vector [d] or matrix [n, d]: f_w = <t, w_i>, the same or an own direction for each token;
      [B, n, d] gives each sample its own.
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
    elif isinstance(score, Tensor):
        if score.dim() not in (1, 2, 3) or not score.is_floating_point():
            raise ValueError(
                f"score: a tensor must be a floating-point vector [d], matrix [n, d] or [B, n, d], got "
                f"{score.dtype} of shape {list(score.shape)}"
            )
    elif not callable(score):
        raise TypeError(f"score must be a name, a tensor or a callable, got {type(score).__name__}")
    return Scalar(score, normalize)


@dataclass(frozen=True, eq=False)
class Scalar:
    """What :func:`as_score` makes: latents [B, n, d] -> scalars [B, n]."""

    score: Score
    normalize: bool = True

    @property
    def by_token(self) -> bool:
        """Whether it is known that each scalar is made of its own token alone."""
        return not callable(self.score)

    def check(self, latents: Tensor) -> None:
        """Raise ``ValueError`` for a direction whose size does not fit latents [B, n, d]."""
        if not isinstance(self.score, Tensor):
            return
        batch, tokens, width = latents.shape
        shape = tuple(self.score.shape)
        if shape != (batch, tokens, width)[-len(shape) :]:
            raise ValueError(
                f"score: weights {list(shape)} do not fit latents of {batch} samples with {tokens} tokens of {width} "
                f"channels; give a vector [{width}], a matrix [{tokens}, {width}], or [{batch}, {tokens}, {width}]"
            )
        if len(shape) == 2 and batch == tokens > 1:
            raise ValueError(
                f"score: weights {list(shape)} for {batch} samples of as many tokens may be one direction a token or "
                "one a sample; give [B, n, d]: weights.expand(B, n, d), or weights[:, None].expand(B, n, d)"
            )

    def __call__(self, latents: Tensor, linear: bool = False) -> Tensor:
        """The scalars; ``linear``: as a linear map of the latents, the energy's direction taken as a constant."""
        self.check(latents)
        t = latents.to(torch.promote_types(latents.dtype, torch.float32))
        if self.normalize:
            t = t / t.norm(dim=-1, keepdim=True).detach()
        if isinstance(self.score, Tensor):
            weights = self.score.detach().to(t)
            return (t * (weights.clone() if weights.is_inference() else weights)).sum(-1)
        if isinstance(self.score, str):
            return _NAMED[self.score](t, t.detach() if linear else t)
        return _checked(self.score(t), latents)


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


_NAMED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda t, direction: t.sum(-1),
    "energy": lambda t, direction: (t * direction).sum(-1),
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
