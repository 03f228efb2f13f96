"""The results of the randomisation check: verdicts, tables, plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from captum_ultra.experiments.class_faithfulness.maps import LABELS
from captum_ultra.experiments.class_faithfulness.sanity import MEASURES, Sanity, Verdict, verdict
from captum_ultra.experiments.class_faithfulness.tables import listed
from captum_ultra.experiments.markdown import markdown_table
from captum_ultra.intervals import Interval, bootstrap

__all__ = ["SanityNumbers", "plain_sanity", "sanity_numbers", "sanity_table", "stage_table"]

_JUDGED = ("absolute", "signed")


@dataclass(frozen=True)
class SanityNumbers:
    """What was found for one map and one scheme.

    Attributes:
        stages: names, from the head down.
        curves: by measure, the similarity after every stage: mean over scenes with its interval.
        different: by measure, the similarity to maps of other scenes.
        verdict: by the rule.
    """

    stages: tuple[str, ...]
    curves: Mapping[str, tuple[Interval, ...]]
    different: Mapping[str, Interval]
    verdict: Verdict


def sanity_numbers(sanity: Sanity, name: str, scheme: str) -> SanityNumbers:
    """The numbers of one map; draws of one scene are averaged first, as they are no two scenes."""
    curves = {measure: sanity.randomised(name, scheme, measure) for measure in MEASURES}
    different = {measure: sanity.different(name, measure) for measure in MEASURES}
    return SanityNumbers(
        sanity.stages,
        {
            measure: tuple(bootstrap(each) for each in values.mean(1).T.contiguous())
            for measure, values in curves.items()
        },
        {measure: bootstrap(values) for measure, values in different.items()},
        verdict([curves[each] for each in _JUDGED], [different[each] for each in _JUDGED]),
    )


def sanity_table(sanity: Sanity, names: Sequence[str], scheme: str) -> str:
    """One row a map: rank correlation and SSIM with the head and with everything randomised, and the verdict."""
    rows = []
    for name in names:
        found = sanity_numbers(sanity, name, scheme)
        absolute, signed, ssim = (found.curves[measure] for measure in ("absolute", "signed", "ssim"))
        rows.append(
            [
                LABELS[name],
                f"{absolute[0].mean:.2f}",
                _text(absolute[-1]),
                _text(signed[-1]),
                _text(found.different["absolute"]),
                f"{ssim[-1].mean:.2f}; {found.different['ssim'].mean:.2f}",
                found.verdict.text + (", blind to the head" if found.verdict.blind else ""),
            ]
        )
    header = ["map", "head", "everything", "everything, signed", "other scenes", "SSIM: everything; other scenes", ""]
    return markdown_table(header, rows)


def stage_table(sanity: Sanity, names: Sequence[str], scheme: str) -> str:
    """One row a map, one column a stage: the rank correlation of absolute values."""
    rows = [
        [LABELS[name], *(f"{each.mean:.2f}" for each in sanity_numbers(sanity, name, scheme).curves["absolute"])]
        for name in names
    ]
    return markdown_table(["map", *sanity.stages], rows)


def plain_sanity(sanity: Sanity, names: Sequence[str]) -> dict[str, object]:
    """All numbers by scheme and map, as JSON has them."""
    return {scheme: {name: _plain(sanity_numbers(sanity, name, scheme)) for name in names} for scheme in sanity.schemes}


def _plain(found: SanityNumbers) -> dict[str, object]:
    curves = {
        measure: dict(zip(found.stages, map(listed, each), strict=True)) for measure, each in found.curves.items()
    }
    different = {measure: listed(each) for measure, each in found.different.items()}
    return {"verdict": found.verdict.text, "blind to the head": found.verdict.blind, **curves, "different": different}


def _text(interval: Interval) -> str:
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
