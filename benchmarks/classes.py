"""How long an explanation takes, and how much memory, beside generic attention explainability (GAE).

    python -m benchmarks.classes                              # every method, ViT-S/16 and ViT-B/16 at 224
    python -m benchmarks.classes --only token_tm --rounds 5  # one method beside GAE
    python -m benchmarks.classes --no-memory                  # times alone
    python -m benchmarks.classes --tokens 32                  # latent tokens of the last layer, time a token

One map of one image, or maps of several latent tokens. "all, shared runs" explains a class by all the methods from one
run of each kind, as `compare` does; "all, one by one" is the sum of the rows above it. All methods and the model's own
forward pass run in turn in one process, several rounds; a ratio is the median over rounds of the ratio within a round.
Seconds are those of the processor, which other work on the machine lengthens little; on one thread, the default, they
are seconds of the clock as well. Peak memory is read in a fresh process for each method, above what it holds once the
model is built.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.latent_tokens import CASES, Case, in_own_process, peak_above_now
from benchmarks.segmentation import seconds
from captum_ultra.attr.attribution import attribute_all
from captum_ultra.attr.methods import METHODS, find_methods, method_class

UNIT = "gae"
FORWARD = "forward pass"
VITS = [case for case in CASES if case.name.endswith("/16, 224")]


TOGETHER, APART = "all, shared runs", "all, one by one"


def jobs(model: nn.Module, inputs: Tensor, methods: Sequence[str], tokens: int = 0) -> dict[str, Callable[[], Any]]:
    """The work of every method, each with an object of its own, and the forward pass."""

    def forward() -> None:
        with torch.no_grad():
            model(inputs)

    explain: dict[str, Any] = {name: method_class(name)(model) for name in methods}
    if tokens:
        asked = {"token": list(range(1, 1 + tokens)), "layer": -1, "output": "tokens"}
        return {FORWARD: forward} | {name: partial(each.attribute, inputs, **asked) for name, each in explain.items()}
    work: dict[str, Any] = {name: partial(each.attribute, inputs, target=1) for name, each in explain.items()}
    together = {TOGETHER: lambda: list(attribute_all(explain, inputs, 1))} if len(methods) > 1 else {}
    return {FORWARD: forward} | work | together


def times(case: Case, methods: Sequence[str], rounds: int, tokens: int) -> dict[str, list[float]]:
    """Seconds of every round, by job; the order turns from round to round, so that none always follows the same one."""
    model, make, _ = case.build()
    work = jobs(model, make(1), methods, tokens)
    for each in work.values():
        each()
    found: dict[str, list[float]] = {name: [] for name in work}
    order = list(work)
    for _ in tqdm(range(rounds), desc=case.name):
        for name in order:
            found[name].append(seconds(work[name]))
        order = order[1:] + order[:1]
    if tokens:
        return {name: each if name == FORWARD else [taken / tokens for taken in each] for name, each in found.items()}
    if TOGETHER in found:
        found[APART] = [sum(each) for each in zip(*(found[name] for name in methods), strict=True)]
    return found


def peak_megabytes(case: Case, name: str) -> float:
    """Peak memory of one map above the built model, in a process of its own."""
    return in_own_process(_peak, case.build, name)


def _peak(build: Callable[[], Any], name: str) -> float:
    torch.manual_seed(0)
    model, make, _ = build()
    work = jobs(model, make(1), [] if name == FORWARD else [name])
    return peak_above_now(work[name])


def ratio(found: dict[str, list[float]], name: str, unit: str) -> float:
    """Median over rounds of the ratio of a job's time to another's in the same round."""
    return statistics.median(ours / theirs for ours, theirs in zip(found[name], found[unit], strict=True))


def print_table(case: Case, found: dict[str, list[float]], memory: bool) -> None:
    print(f"\n{case.name}\n")
    columns = ["method", "CPU ms", "times GAE", "forward passes", *(["peak MB", "times GAE"] if memory else [])]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    unit = peak_megabytes(case, UNIT) if memory else 0.0
    for name in found:
        row = [f"{1e3 * statistics.median(found[name]):.0f}"]
        row += [f"{ratio(found, name, other):.2f}" for other in (UNIT, FORWARD)]
        if memory:
            known = name == FORWARD or name in METHODS
            peak = unit if name == UNIT else peak_megabytes(case, name) if known else float("nan")
            row += [f"{peak:.0f}", f"{peak / unit:.2f}"] if known else ["", ""]
        print(f"| {METHODS.get(name, name)} | {' | '.join(row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="all", help="names of methods with commas between them; GAE runs beside them")
    parser.add_argument("--model", default="", help="part of the name of the models to measure")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=0, help="explain so many latent tokens in place of a class")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    methods = list(dict.fromkeys([UNIT, *find_methods(options.only)]))
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    for case in VITS:
        if options.model in case.name:
            found = times(case, methods, options.rounds, options.tokens)
            print_table(case, found, not options.no_memory and not options.tokens)


if __name__ == "__main__":
    main()
