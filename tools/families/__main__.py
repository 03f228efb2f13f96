"""The command: tries the families, shows what is not as it should be, writes the table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from captum_ultra.io import written_whole
from tools.families.table import page, summary
from tools.families.work import judge_by_name, names_with, prepare


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    names = names_with(options.only)
    if options.list:
        print("\n".join(names))
        return 0
    if not names:
        print(f"no family has {options.only!r} in its name; --list shows all", file=sys.stderr)
        return 2
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), prepare) as pool:
        lines = list(tqdm(pool.map(judge_by_name, names), total=len(names), unit="model", disable=None))
    print(summary(lines))
    if options.output is not None:
        with written_whole(options.output) as unfinished:
            unfinished.write_text(page(lines), encoding="utf-8")
    return int(any(line.verdict in ("WRONG", "error") for line in lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.families", description=__doc__)
    parser.add_argument("--only", metavar="NAME", default="", help="families with this in their name or heading")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the table as Markdown")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
