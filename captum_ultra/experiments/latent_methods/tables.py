"""The tables of the study, in Markdown, out of the numbers that were kept."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from captum_ultra.experiments.latent_methods.cells import Cells, Setting
from captum_ultra.experiments.latent_methods.study import FIXED, SCENES, TEXTS, Kind
from captum_ultra.experiments.latent_methods.texts import POSITIONS
from captum_ultra.experiments.latent_methods.variants import MIXED
from captum_ultra.experiments.markdown import bold, markdown_table
from captum_ultra.intervals import bootstrap

__all__ = [
    "choice_table",
    "difference_table",
    "family_table",
    "fixed_difference_table",
    "fixed_table",
    "layer_table",
    "variant_table",
]

Chosen = Mapping[tuple[str, str], Setting]
Rows = Mapping[str, Mapping[str, Setting]]
_ULTRA, _RESIDUAL = "ULTra_E", "residual, gamma=3, gates=constant, signed"
_RANKED = 4  # of the main variants, those that are no linear maps


def family_table(kind: Kind, cells: Cells, chosen: Chosen, layers: int) -> str:
    """One row a family at its chosen settings, and one a control: mean with its 95 % interval."""
    names = list(dict.fromkeys(family for family, _ in chosen))
    rows = {name: {measure: chosen[name, measure] for measure in kind.measures} for name in names}
    controls = {f"*{name}*": {m: _control(kind, name, m, layers) for m in kind.measures} for name in kind.controls}
    return _table(kind, cells, rows, controls)


def choice_table(kind: Kind, chosen: Chosen) -> str:
    """The settings that were chosen: one row a family, one column a measure."""
    names = dict.fromkeys(family for family, _ in chosen)
    rows = [[name, *(_short(chosen[name, measure], name) for measure in kind.measures)] for name in names]
    return markdown_table(["method", *kind.measures], rows)


def difference_table(kind: Kind, cells: Cells, chosen: Chosen) -> str:
    """What every family has more than ULTra by energy, within samples, both at their chosen settings."""
    names = list(dict.fromkeys(family for family, _ in chosen))
    rows = {name: {measure: chosen[name, measure] for measure in kind.measures} for name in names}
    return _differences(kind, cells, rows, _ULTRA)


def fixed_table(kind: Kind, cells: Cells, layer: int, position: str) -> str:
    """The main variants at one layer and position, by all measures: what a default would give."""
    return _table(kind, cells, _fixed(kind, layer, position), {})


def fixed_difference_table(kind: Kind, cells: Cells, layer: int, position: str) -> str:
    """What they have there more than residual relevance, within samples."""
    return _differences(kind, cells, _fixed(kind, layer, position), _RESIDUAL)


def _fixed(kind: Kind, layer: int, position: str) -> dict[str, dict[str, Setting]]:
    names = dict.fromkeys([*kind.main[:_RANKED], *FIXED, *kind.main[_RANKED:], *MIXED])
    return {name: dict.fromkeys(kind.measures, Setting(name, layer, position)) for name in names}


def layer_table(kind: Kind, cells: Cells, measure: str, layers: int) -> str:
    """The main variants at every layer (and both positions): mean ± standard error.

    In bold the best layer of a row; of removal on scenes, whose distances belong to their layer, the best of a column.
    """
    positions = POSITIONS if kind is TEXTS else ("",)
    columns = [(layer, position) for position in positions for layer in range(1, layers + 1)]
    by_column = kind is SCENES and measure != "region"
    names = (*kind.main, "nearness") if by_column else kind.main
    found = {(name, *each): cells.values(Setting(name, *each), measure) for name in names for each in columns}
    rows = []
    for name in names:
        shown = [f"*{name}*" if name == "nearness" else name]
        for column in columns:
            cell = (name, *column)
            rivals = [(other, *column) for other in kind.main] if by_column else [(name, *each) for each in columns]
            best = max(rivals, key=lambda rival: _mean(found[rival]))
            shown.append(bold(_error(found[cell], kind.digits[measure]), cell == best))
        rows.append(shown)
    places = (f"{layer}, {position}" if position else f"layer {layer}" for layer, position in columns)
    return markdown_table(["method", *places], rows)


def variant_table(kind: Kind, cells: Cells, chosen_on: Cells, layers: int) -> str:
    """Every variant at the layer and position chosen for it: mean ± standard error."""
    rows = []
    for name in [each.name for each in kind.variants]:
        shown = [name]
        for measure in kind.measures:
            last = [layers] if kind is SCENES and measure == "removal" else None
            setting = chosen_on.best(measure, [name], last)
            place = f"{setting.layer}{', ' * bool(setting.position)}{setting.position}"
            values = cells.values(setting, measure)
            shown.append(f"{_error(values, kind.digits[measure])} ({place})" if len(values) else "")
        rows.append(shown)
    return markdown_table(["variant", *kind.measures], rows)


def _differences(kind: Kind, cells: Cells, rows: Rows, reference: str) -> str:
    """Every row minus the reference's, within samples: mean with its 95 % interval."""

    def minus(settings: Mapping[str, Setting], measure: str) -> str:
        pairs = cells.pairs(settings[measure], rows[reference][measure], measure)
        return _interval(pairs, kind.digits[measure], signed=True)

    others = {name: settings for name, settings in rows.items() if name != reference}
    shown = [[name, *(minus(settings, measure) for measure in kind.measures)] for name, settings in others.items()]
    return markdown_table(["method", *kind.measures], shown)


def _table(kind: Kind, cells: Cells, rows: Rows, controls: Rows) -> str:
    """Rows by name: for each measure a setting; the best of each measure in bold, controls left out."""
    best = {
        measure: max(rows, key=lambda name: _mean(cells.values(rows[name][measure], measure)))
        for measure in kind.measures
    }
    shown = []
    for name, settings in {**rows, **controls}.items():
        shown.append([name])
        for measure in kind.measures:
            text = _interval(cells.values(settings[measure], measure), kind.digits[measure])
            shown[-1].append(bold(text, name == best[measure]))
    return markdown_table(["method", *kind.measures], shown)


def _control(kind: Kind, name: str, measure: str, layers: int) -> Setting:
    """Controls have no layer, but what is removed by them changes the latent of one."""
    return Setting(name, layers if kind is SCENES and measure == "removal" else 0)


def _short(setting: Setting, family: str) -> str:
    """A setting without what its row says already."""
    choices = setting.variant.removeprefix(family.removesuffix(", S")).removesuffix(", S").removeprefix(", ")
    parts = [f"layer {setting.layer}", setting.position, choices]
    return ", ".join(part for part in parts if part)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else float("-inf")


def _interval(values: Tensor, digits: int, signed: bool = False) -> str:
    if not len(values):
        return ""
    found, sign = bootstrap(values), "+" if signed else ""
    mean, low, high = (f"{each:{sign}.{digits}f}" for each in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def _error(values: Tensor, digits: int) -> str:
    if not len(values):
        return ""
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
    return f"{float(values.mean()):.{digits}f} ± {error:.{digits}f}"
