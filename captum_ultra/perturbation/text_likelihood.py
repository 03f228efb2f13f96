"""How likely a causal language model finds tokens of many versions of a text, within bounded memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from captum_ultra.adapters.text import input_device
from captum_ultra.adapters.transformers import call
from captum_ultra.errors import UnsupportedModelError

__all__ = ["LanguageModel"]

# What one batch may hold when no batch size is given: tokens, for the activations inside a block,
# and logits (256 MiB in float32).
TOKENS_AT_ONCE = 8192
LOGITS_AT_ONCE = 2**26


class LanguageModel:
    """Reads log-probabilities off a model that predicts every token from those before it.

    Versions of a text that are scored together have one length, so that nothing is padded, no mask
    is needed and positions are contiguous: what the model sees is what it would see of each alone.

    Args:
        model: called with ids [B, L]; returns logits [B, L, vocabulary], bare or as ``.logits``.
            Should be in evaluation mode, and called without gradients.
        ids: [N], a text to try the model on; at least two tokens.

    Raises:
        UnsupportedModelError: if it returns no logits, or a token depends on later ones.
    """

    def __init__(self, model: nn.Module, ids: Tensor) -> None:
        self._model = model
        self._device = input_device(model)
        self._keeps_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.vocabulary = self._try_out(ids[:4])

    def log_probabilities(
        self, ids: Tensor, targets: Tensor, batch: int | None = None,
        on_batch: Callable[[int], object] = lambda versions: None,
    ) -> Tensor:  # fmt: skip
        """log p(token at each target position | all tokens before it), natural.

        Equal versions are run once: it is less work, and they get equal numbers to the last bit, so
        that a tie between two orders is a tie.

        Args:
            ids: [V, L], versions of one length.
            targets: [V, T], positions, each at least 1.
            batch: versions run at once; None for as many as fit a fixed number of tokens and logits.
            on_batch: told how many more versions are done.

        Returns:
            float64 [V, T], computed in at least float32.
        """
        length = ids.shape[1]
        different, places_of = torch.cat([ids, targets], dim=1).unique(dim=0, return_inverse=True)
        on_batch(len(ids) - len(different))
        ids, targets = different.split([length, targets.shape[1]], dim=1)
        keep = length - int(targets.min()) + 1  # from the row that predicts the earliest target on
        batch = batch or self._fitting(length, keep if self._keeps_last else length)
        found = []
        for part, places in zip(ids.split(batch), targets.split(batch), strict=True):
            logits = self._logits(part, keep)
            rows = (places - 1 - (length - logits.shape[1])).to(logits.device)
            logits = logits.gather(1, rows[..., None].expand(-1, -1, logits.shape[2]))
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            tokens = part.gather(1, places).to(logits.device)[..., None]
            found.append((logits.gather(2, tokens)[..., 0] - logits.logsumexp(2)).double().cpu())
            on_batch(len(part))
        return torch.cat(found)[places_of]

    def _fitting(self, length: int, rows: int) -> int:
        return max(1, min(TOKENS_AT_ONCE // length, LOGITS_AT_ONCE // (rows * self.vocabulary)))

    def _logits(self, ids: Tensor, keep: int) -> Tensor:
        """[B, keep, vocabulary] of the last positions where the model can, else [B, L, vocabulary]."""
        # By the name of the first parameter where there are no input_ids: this suits every library's modules.
        output = call(self._model, ids.to(self._device), {"logits_to_keep": keep} if self._keeps_last else None)
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        lengths = {keep, ids.shape[1]} if self._keeps_last else {ids.shape[1]}
        if not isinstance(logits, Tensor) or logits.dim() != 3 or logits.shape[1] not in lengths:
            found = f"logits {list(logits.shape)}" if isinstance(logits, Tensor) else "no logits"
            raise UnsupportedModelError(
                f"{type(self._model).__name__} returns {found} for ids {list(ids.shape)}; a causal language model "
                "with its head is needed, whose output is logits [batch, tokens, vocabulary] or has them as .logits "
                "(LlamaForCausalLM, not LlamaModel)"
            )
        return logits

    def _try_out(self, ids: Tensor) -> int:
        """The number of logits; refuses a model that looks ahead, which knows the token it is asked for."""
        last = ids[-1:]
        other = torch.where(last == 0, 1, 0)  # two ids that every vocabulary has
        logits = self._logits(torch.stack([ids, torch.cat([ids[:-1], other])]), len(ids))
        first, changed = logits[:, 0]
        tolerance = 4 * torch.finfo(logits.dtype).eps * first[first.isfinite()].abs().max()
        if not torch.allclose(first, changed, rtol=0, atol=float(tolerance), equal_nan=True):
            raise UnsupportedModelError(
                f"{type(self._model).__name__} is not causal: the logits at the first token change with a later "
                "one, so they already know the tokens that they should predict; give a causal language model"
            )
        return logits.shape[2]
