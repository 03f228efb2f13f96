"""What a text must keep to before a language model runs on it: its vocabulary, its length, its device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["input_device", "longest_text", "model_name", "vocabulary_size"]

# Configurations name the number of positions differently from family to family.
_SPARE_ROWS = 4  # of position tables that count from two, or keep a row for padding
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


def vocabulary_size(model: nn.Module) -> int | None:
    """Number of token ids that the input embedding has rows for; None where no embedding is known.

    Example:
        >>> vocabulary_size(torch.nn.Linear(2, 2)) is None
        True
    """
    hooked = getattr(getattr(model, "cfg", None), "d_vocab", None)
    if isinstance(hooked, int):
        return hooked
    embedding = _input_embedding(model)
    return None if embedding is None else embedding.num_embeddings


def longest_text(model: nn.Module) -> int | None:
    """Number of tokens that the model has positions for; None where it sets no limit.

    A configured length counts where the model has a table of so many positions. Rotary and relative positions have
    none: such models read on beyond it.

    Example:
        >>> from types import SimpleNamespace
        >>> model = torch.nn.Module()
        >>> model.config = SimpleNamespace(max_position_embeddings=24)
        >>> longest_text(model) is None
        True
        >>> model.positions = torch.nn.Embedding(24, 8)
        >>> longest_text(model)
        24
    """
    configured = {_configured_positions(getattr(model, "cfg", None)), _configured_positions(_text_config(model))}
    limits = [limit for limit in configured if limit is not None and _has_table(model, limit)]
    # RoBERTa counts positions from behind its padding index, so that some rows are never used.
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    return min(limits) if limits else None


def _has_table(model: nn.Module, positions: int) -> bool:
    """Whether the model looks its positions up: in an embedding of so many rows, or a few more, or in a constant."""
    words = _input_embedding(model)
    tables = [each for each in model.modules() if isinstance(each, nn.Embedding) and each is not words]
    if any(0 <= each.num_embeddings - positions <= _SPARE_ROWS for each in tables):
        return True
    constants = [*model.buffers(), *(each for name, each in model.named_parameters() if name.endswith("W_pos"))]
    return any(positions in each.shape for each in constants)


def model_name(model: nn.Module) -> str:
    """The name a model was loaded under, its folder's if it was one, or its class if it has no name.

    Example:
        >>> model_name(torch.nn.Linear(2, 2))
        'Linear'
    """
    names = (
        getattr(getattr(model, "config", None), "name_or_path", ""),
        getattr(getattr(model, "cfg", None), "model_name", ""),
    )
    known = [name for name in names if isinstance(name, str) and name not in ("", "external")]
    if not known:
        return type(model).__name__
    return Path(known[0]).name if known[0].startswith((".", "/", "~")) else known[0]


def input_device(model: nn.Module) -> torch.device:
    """The device that token ids have to be on; the CPU for weights that are fetched while the model runs."""
    embedding = _input_embedding(model)
    parameter = next(model.parameters(), None) if embedding is None else embedding.weight
    return torch.device("cpu") if parameter is None or parameter.is_meta else parameter.device


def _input_embedding(model: nn.Module) -> nn.Embedding | None:
    ask = getattr(model, "get_input_embeddings", None)
    try:
        embedding = ask() if callable(ask) else None
    except NotImplementedError:  # transformers' models of two towers
        return None
    return embedding if isinstance(embedding, nn.Embedding) else None


def _text_config(model: nn.Module) -> Any:
    """The configuration of the model, or of its text part where it has several."""
    config = getattr(model, "config", None)
    ask = getattr(config, "get_text_config", None)
    return ask() if callable(ask) else config


def _configured_positions(config: Any) -> int | None:
    found = (getattr(config, name, None) for name in _POSITIONS)
    return next((number for number in found if isinstance(number, int) and number > 0), None)
