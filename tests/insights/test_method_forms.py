"""Forms: what a user may write for the arguments of a method, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

import captum_ultra
from captum_ultra.attr.methods import METHODS
from captum_ultra.insights.method_forms import Choice, MethodForm, Number, TokenText, method_forms, parse_token


@pytest.mark.parametrize(
    ("written", "token"),
    [("0", 0), ("-1", -1), (" 17 ", 17), (17, 17), (17.0, 17), ("4 7", (4, 7)), ("4,7", (4, 7)), ((4, 7), (4, 7))],
)
def test_tokens(written: Any, token: Any) -> None:
    assert parse_token(written) == token == parse_token(parse_token(written))


@pytest.mark.parametrize("written", ["", "a", "1 2 3", "1.5", None, True, [], {}, "9" * 400, "nan", "inf", ("a", 1)])
def test_what_is_no_token(written: Any) -> None:
    with pytest.raises(ValueError, match="an index such as 17"):
        parse_token(written)


@pytest.mark.parametrize("given", ["x", None, True, 1.5, float("nan"), float("inf"), [1], "1e400", "0" * 30, 4, -1])
def test_what_is_no_number_in_range(given: Any) -> None:
    with pytest.raises(ValueError, match=r"whole number|out of range"):
        Number(1, low=0, high=3).parse(given)


def test_arguments_are_checked_and_completed() -> None:
    form = MethodForm(
        "M", object, "token", {"token": TokenText(), "layer": Number(-1), "score": Choice("a", ("a", "b"))}
    )
    assert form.parse({"layer": "2"}) == {"token": 0, "layer": 2, "score": "a"}
    assert form.parse(form.parse({"token": "1 2"})) == {"token": (1, 2), "layer": -1, "score": "a"}
    for given, message in (
        ({"score": "c"}, "score: 'c' is unknown; possible: a, b"),
        ({"layer": "x"}, "layer: a whole number is needed, got 'x'"),
        ({"model": 1}, "M has no argument 'model'; possible: token, layer, score"),
    ):
        with pytest.raises(ValueError, match=message):
            form.parse(given)


def test_every_default_is_one_that_the_form_takes() -> None:
    for form in method_forms().values():
        assert form.parse({name: each.value for name, each in form.parameters.items()}) == form.parse({})
        assert form.explains in ("token", "class")


def test_every_method_explains_a_class_and_a_token() -> None:
    forms = method_forms()
    assert next(iter(forms)) == "LatentTokenAttribution"
    for name in METHODS.values():
        token = forms["LatentTokenAttribution" if name == "GenericAttention" else f"{name} (token)"]
        assert (forms[name].explains, token.explains) == ("class", "token")
        assert list(token.parameters)[:2] == ["token", "layer"]
        assert ("score" in token.parameters) == getattr(captum_ultra, name).needs_class
    assert forms["AttentionRollout"].parameters == {"start_layer": Number(0)}
    assert forms["TokenTM"].parameters["class_score"].value == "probability"
    assert "class_score" not in forms["LRP"].parameters, "it shares out the logit"
