"""The models, one file a kind."""

from __future__ import annotations

from functools import cache

from tools.families.case import Case


@cache
def all_cases() -> dict[str, Case]:
    """Every case by its name."""
    from tools.families.zoo import selfmade, sounds, texts, timm_models, towers, vision

    found: dict[str, Case] = {}
    for kind in (texts, sounds, vision, towers, timm_models, selfmade):
        for case in kind.cases():
            assert case.name not in found, case.name
            found[case.name] = case
    return found
