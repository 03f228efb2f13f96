"""The methods that an interactive view offers, and the arguments that it lets a user choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from captum_ultra.attr.attribution import DEFAULT_SCORE, TokenAttribution
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.methods import METHODS, method_class
from captum_ultra.attr.methods.generic_attention import GenericAttention

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
    """

    name: str
    create: Callable[[Any], Any]
    explains: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

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
    """All methods of the family by name: those of latent tokens first, then the explanations of a class.

    Example:
        >>> list(method_forms())[:3]
        ['LatentTokenAttribution', 'RawAttention (token)', 'AttentionRollout (token)']
    """
    methods = [method_class(name) for name in METHODS]
    forms = [
        _token_form("LatentTokenAttribution", LatentTokenAttribution),
        # Of a latent token GAE is ULTra, which is there already.
        *(_token_form(f"{each.__name__} (token)", each) for each in methods if each is not GenericAttention),
        *map(_class_form, methods),
    ]
    return {form.name: form for form in forms}


def _token_form(name: str, method: type[TokenAttribution]) -> MethodForm:
    """The form of an explanation of a latent token: which one, after which block, and by which scalar."""
    parameters: dict[str, Parameter] = {"token": TokenText("0"), "layer": Number(-1)}
    if method.needs_class:
        parameters["score"] = Choice(DEFAULT_SCORE, ("sum", "energy"))
    return MethodForm(name, method, "token", parameters)


def _class_form(method: type[TokenAttribution]) -> MethodForm:
    """The form of an explanation of a class: which block it starts from, and which scalar is explained."""
    parameters: dict[str, Parameter] = {}
    choices = method.choices()
    if hasattr(choices, "start_layer"):
        # Where the method chooses by the depth of the model, it is 1 for all but models of one block.
        parameters["start_layer"] = Number(1 if choices.start_layer is None else choices.start_layer)
    if method.needs_class and len(method.class_scores) > 1:
        parameters["class_score"] = Choice(method.default_class_score, method.class_scores)
    return MethodForm(method.__name__, method, "class", parameters)
