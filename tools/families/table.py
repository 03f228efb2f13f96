"""The lines as Markdown, and what is to be looked at as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from tools.families.judge import Line

PACKAGES = ("torch", "transformers", "timm", "open_clip_torch", "torchvision", "peft", "captum")
ORDER = ("WRONG", "error", "exact", "refused", "not built")


def summary(lines: Sequence[Line]) -> str:
    """Counts, and every line that is wrong, an error, or not what was expected."""
    counts = Counter(line.verdict for line in lines)
    text = [", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])]
    for line in lines:
        differs = line.expected and line.verdict not in (line.expected, "not built")
        if differs or line.verdict in ("WRONG", "error"):
            expected = f" (expected: {line.expected})" if differs else ""
            text.append(f"{line.verdict}{expected}: {line.group}: {line.name}: {_number(line)} {line.message}")
    return "\n".join(text)


def page(lines: Sequence[Line]) -> str:
    """The page of the documentation."""
    counts = Counter(line.verdict for line in lines)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])
    parts = [_HEAD.format(date=date.today().isoformat(), versions=_versions(), counts=told, number=len(lines))]
    for group in dict.fromkeys(line.group for line in lines):
        of_group = _merged([line for line in lines if line.group == group])
        parts.append(
            f"\n## {group[0].upper()}{group[1:]}\n\n| family | verdict | difference | message |\n|---|---|---|---|"
        )
        parts += [f"| {line.name} | {line.verdict} | {_number(line)} | {_cell(line.message)} |" for line in of_group]
    return "\n".join(parts) + "\n"


def _merged(lines: Sequence[Line]) -> list[Line]:
    """Variants of a model, "name, variant", on one line where they say the same."""
    found: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        found.setdefault((line.name.removesuffix(", eager"), line.verdict, line.message), []).append(line)
    merged = []
    for same in found.values():
        differences = [line.difference for line in same if line.difference is not None]
        first = same[0]
        name = first.name if len(same) == 1 else f"{first.name} (and eager)"
        merged.append(Line(name, first.group, first.verdict, max(differences, default=None), first.message))
    return merged


def _number(line: Line) -> str:
    return "" if line.difference is None else f"{line.difference:.0e}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _versions() -> str:
    return ", ".join(map(_version, PACKAGES))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


_HEAD = """# Families

Every family of models that the libraries offer, small and with random weights, tried by

    python -m tools.families -o docs/families.md

on {date} with {versions}. Of {number} models: {counts}.

- **exact**: accepted, and rows equal those of an explicit loop over stored attention maps, one backward pass a token;
  tokens meet nowhere but in the attention that is followed; patches stand where the layout says; padding on either
  side changes nothing. *difference* is the largest, relative to the row's largest entry. Models run in float64, those
  that cannot in float32; many compute their softmax in float32 in either case.
- **refused**: with the sentence that says why.
- **WRONG**: accepted, and not so.
- **error**: neither.
- **not built**: the small configuration is not one of this family; the library was not asked."""
