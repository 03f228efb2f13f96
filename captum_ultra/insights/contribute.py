"""Token contributions of a text file with a model loaded by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.attr.contribution.result import Contribution
from captum_ultra.attr.contribution.token_contribution import TokenContribution
from captum_ultra.insights.figures import check_suffix
from captum_ultra.io import written_whole
from captum_ultra.models.loader import LoadedModel

__all__ = ["check_output", "contribution_of", "read_text", "save_contribution"]


def contribution_of(
    loaded: LoadedModel, context: str, summary: str, *, separator: str, layer: int, method: str | None = None,
    score: str = DEFAULT_SCORE, position: str = "prediction",
) -> Contribution:  # fmt: skip
    """What the tokens of a context contributed to its summary; see :meth:`TokenContribution.attribute`.

    Args:
        loaded: a model that reads text.
        context: the text.
        summary: what rests on it.
        separator: stands between them.
        layer: number of blocks passed, negative from the end.
        method: as in :class:`captum_ultra.TokenContribution`.
        score: "sum" or "energy".
        position: "token" or "prediction".

    Raises:
        ValueError: for a model without a tokenizer, and as `TokenContribution` does.

    Example:
        >>> from torch import nn
        >>> contribution_of(LoadedModel(nn.Identity(), "eyes"), "a", "b", separator="", layer=-1)
        Traceback (most recent call last):
        ...
        ValueError: 'eyes' has no tokenizer, it does not read text; ...
    """
    if loaded.tokenizer is None:
        raise ValueError(
            f"{loaded.name!r} has no tokenizer, it does not read text; name a language model, such as facts-llama or "
            "hf:gpt2"
        )
    explain = TokenContribution(loaded.model, loaded.tokenizer, method=method)
    found = explain.attribute(context, summary, separator=separator, layer=layer, score=score, position=position)
    assert isinstance(found, Contribution)
    return found


def read_text(path: Path) -> str:
    """The text of a file, without the line break at its end.

    Raises:
        ValueError: if the file cannot be read, is not UTF-8, or holds nothing but blanks.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # without the mark that some editors begin with
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start} cannot be read; save it in UTF-8") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if not text.strip():
        raise ValueError(f"{path} is empty: there is no context to explain")
    return text.removesuffix("\n")


def save_contribution(found: Contribution, path: Path) -> None:
    """Write a page, the numbers, or a figure, by suffix; see `check_output`."""
    _WRITERS.get(path.suffix.lower(), Contribution.save_png)(found, path)


def check_output(path: Path) -> None:
    """Raise for a suffix that `save_contribution` cannot write.

    Raises:
        ValueError: lists what is possible.

    Example:
        >>> check_output(Path("map.doc"))
        Traceback (most recent call last):
        ...
        ValueError: cannot write 'map.doc': ... .html, .json, .safetensors
    """
    if path.suffix.lower() in _WRITERS:
        return
    try:
        check_suffix(path)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}, and beside figures {', '.join(_WRITERS)}") from error


def _save_json(found: Contribution, path: Path) -> Path:
    with written_whole(path) as unfinished:
        unfinished.write_text(found.to_json(), encoding="utf-8")
    return path


_WRITERS: dict[str, Callable[[Contribution, Path], Path]] = {
    ".html": Contribution.save_html,
    ".json": _save_json,
    ".safetensors": Contribution.save,
}
