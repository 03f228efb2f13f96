"""The methods that an interactive view offers, and the arguments that it lets a user choose."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from captum_ultra.attr.latent_token import LatentTokenAttribution

__all__ = ["Choice", "MethodForm", "Number", "Parameter", "TokenText", "method_forms", "parse_token"]


@dataclass(frozen=True)
class Number:
    """An integer that a user chooses.

    Attributes:
        value: the default.
        low: the smallest that is possible, None without a limit.
        high: the largest, None without a limit.
    """

    value: int
    low: int | None = None
    high: int | None = None

    def parse(self, given: Any) -> int:
        """The integer.

        Raises:
            ValueError: for anything else, and beyond the limits.
        """
        if isinstance(given, bool) or not isinstance(given, int | float | str) or len(str(given)) > 20:
            raise ValueError(f"a whole number is needed, got {given!r}")
        try:
            number = float(given)
        except ValueError:
            raise ValueError(f"a whole number is needed, got {given!r}") from None
        if not number.is_integer():
            raise ValueError(f"a whole number is needed, got {given!r}")
        if (self.low is not None and number < self.low) or (self.high is not None and number > self.high):
            raise ValueError(f"{int(number)} is out of range ({self.low} to {self.high})")
        return int(number)


@dataclass(frozen=True)
class Choice:
    """One of several words.

    Attributes:
        value: the default.
        options: all of them.
    """

    value: str
    options: tuple[str, ...]

    def parse(self, given: Any) -> str:
        """The word.

        Raises:
            ValueError: for another one.
        """
        if given not in self.options:
            raise ValueError(f"{given!r} is unknown; possible: {', '.join(self.options)}")
        return str(given)


@dataclass(frozen=True)
class TokenText:
    """A latent token as a user writes it; see :func:`parse_token`.

    Attributes:
        value: the default.
    """

    value: str = "0"

    def parse(self, given: Any) -> int | tuple[int, int]:
        """An index or a (row, col) patch."""
        return parse_token(given)


Parameter = Number | Choice | TokenText


@dataclass(frozen=True)
class MethodForm:
    """A method with the arguments that can be chosen.

    Attributes:
        name: what it is called: the name of its class.
        create: from a model to the method.
        explains: "token" if a latent token is explained, "class" if a class is.
        parameters: names of keyword arguments of ``attribute``, and what they may be.
        fixed: keyword arguments that a view always gives.
    """

    name: str
    create: Callable[[Any], Any]
    explains: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def parse(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments of ``attribute``: what was given, checked, and defaults for the rest.

        Raises:
            ValueError: for an argument that does not exist or is out of range; it is named.
        """
        unknown = [name for name in given if name not in self.parameters]
        if unknown:
            raise ValueError(
                f"{self.name} has no argument {unknown[0]!r}; possible: {', '.join(self.parameters) or 'none'}"
            )
        return {name: self._parsed(name, given.get(name, each.value)) for name, each in self.parameters.items()}

    def _parsed(self, name: str, given: Any) -> Any:
        try:
            return self.parameters[name].parse(given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def parse_token(given: Any) -> int | tuple[int, int]:
    """A token from what a user writes: one number is an index, two are a patch's row and column.

    What is parsed already comes back as it is.

    Raises:
        ValueError: for anything else.

    Example:
        >>> parse_token("17"), parse_token("4, 7"), parse_token((4, 7))
        (17, (4, 7), (4, 7))
    """
    parts = given.replace(",", " ").split() if isinstance(given, str) else given
    parts = list(parts) if isinstance(parts, tuple | list) else [parts]
    try:
        numbers = [Number(0).parse(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError(f"an index such as 17, or a patch's row and column such as 4 7, is needed, got {given!r}")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def method_forms() -> dict[str, MethodForm]:
    """All methods of the family by name: latent tokens first, then the explanations of a class.

    Example:
        >>> next(iter(method_forms()))
        'LatentTokenAttribution'
    """
    from captum_ultra.attr.methods import METHODS, method_class

    # Bilinear: bicubic enlargement falls below zero beside peaks, which a view of absolute values shows as relevance.
    latent = MethodForm(
        "LatentTokenAttribution", LatentTokenAttribution, "token",
        {"token": TokenText("0"), "layer": Number(-1), "score": Choice("sum", ("sum", "energy"))},
        {"interpolation": "bilinear"},
    )  # fmt: skip
    return {latent.name: latent} | {form.name: form for form in map(_class_form, map(method_class, METHODS))}


def _class_form(method: type) -> MethodForm:
    """The form of an explanation of a class: which block it starts from, and which scalar is explained."""
    from captum_ultra.attr.questions import CLASS_SCORES

    parameters: dict[str, Parameter] = {}
    start = inspect.signature(method.attribute).parameters.get("start_layer")  # type: ignore[attr-defined]
    if start is not None:
        # Where the method chooses by the depth of the model, it is 1 for all but models of one block.
        parameters["start_layer"] = Number(1 if start.default is None else start.default)
    if method.needs_class:  # type: ignore[attr-defined]
        parameters["class_score"] = Choice(method.default_score, CLASS_SCORES)  # type: ignore[attr-defined]
    return MethodForm(method.__name__, method, "class", parameters)
