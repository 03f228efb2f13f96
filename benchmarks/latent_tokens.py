"""How long one explained token takes, beside the model's own forward pass and the usual loop.

    python -m benchmarks.latent_tokens              # the speed table
    python -m benchmarks.latent_tokens --targets    # how the price of a token depends on how many there are
    python -m benchmarks.latent_tokens --precision  # less exact products, and how far they change the order of a map
    python -m benchmarks.latent_tokens --memory     # peak memory against the number of tokens
    python -m benchmarks.latent_tokens --profile    # where the time of an explained token goes

Everything that is compared runs in turn in one process, several rounds, and is reported as the
median of the ratios of a round: machines differ and are noisy, ratios hold. Peak memory is read in
a fresh process for each entry, above what it holds once the model is built.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra import ConservativeLRP, LatentTokenAttribution
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
from captum_ultra.relevance import kernel

TARGETS = 32
BATCH = 4


@dataclass(frozen=True)
class Case:
    """A model of a library, built with random weights, and the input it is measured on."""

    name: str
    build: Callable[[], tuple[nn.Module, Callable[[int], Tensor], Any]]
    tokens: int
    dim: int
    causal: bool = False


def vit(name: str, size: int) -> Any:
    ensure_torchvision_imports()
    import timm

    model = timm.create_model(name, pretrained=False, img_size=size).eval()
    return model, lambda batch: torch.randn(batch, 3, size, size), model.blocks


def llama(dim: int, layers: int, tokens: int) -> Any:
    ensure_torchvision_imports()
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=1000, hidden_size=dim, intermediate_size=8 * dim // 3 // 16 * 16, num_hidden_layers=layers,
        num_attention_heads=dim // 64, num_key_value_heads=dim // 128 or 1, max_position_embeddings=tokens,
        use_cache=False,
    )  # fmt: skip
    model = LlamaModel(config).eval()
    return model, lambda batch: torch.randint(0, 1000, (batch, tokens)), model.layers


GRID = Case("timm ViT-S/14, 37 x 37", partial(vit, "vit_small_patch14_dinov2", 518), 1370, 384)
CASES = [
    Case("timm ViT-S/16, 224", partial(vit, "vit_small_patch16_224", 224), 197, 384),
    Case("timm ViT-B/16, 224", partial(vit, "vit_base_patch16_224", 224), 197, 768),
    Case("timm ViT-S/16, 448", partial(vit, "vit_small_patch16_224", 448), 785, 384),
    Case("Llama-shaped (8 blocks of 512), 1,024 tokens", partial(llama, 512, 8, 1024), 1024, 512, causal=True),
]


def operations_limit(blocks: nn.ModuleList, case: Case, layer: int, conservative: bool) -> float:
    """Multiplications that one more token needs, explained after so many blocks, over those of a forward pass.

    Of gradients of activations alone: linear layers cost what they cost forward, attention twice as much. Of the block
    that the token leaves only the projections of keys and values are its own (the rest is one pass for all tokens), of
    the first block nothing below its attention is needed. With attention as a constant, queries and keys need nothing.
    """
    weights = {name: p.numel() for name, p in blocks[0].named_parameters() if p.dim() == 2}
    inputs = sum(count for name, count in weights.items() if re.search(r"qkv|q_proj|k_proj|v_proj", name))
    values = sum(
        count / (3 if "qkv" in name else 1) for name, count in weights.items() if re.search("qkv|v_proj", name)
    )
    linear, product = 2 * case.tokens * sum(weights.values()), 2 * case.tokens**2 * case.dim / (2 if case.causal else 1)
    inputs, values = 2 * case.tokens * inputs, 2 * case.tokens * values
    forward = len(blocks) * (linear + 2 * product)
    if conservative:
        return ((layer - 1) * (linear - inputs + values + product) + values) / forward
    return ((layer - 2) * (linear + 4 * product) + inputs + linear - inputs + product) / forward


def usual_loop(model: nn.Module, inputs: Tensor, blocks: nn.ModuleList, tokens: range, layer: int) -> float:
    """Seconds a token of the way in which such methods are usually written.

    Every attention map of an explicit softmax is stored with its gradient; one ``backward()`` a token,
    with the model's parameters as they come, and the product of the contribution maps. The run that
    stores the maps is shared out over as many targets as ours.
    """
    from tests.reference.recording import record
    from tests.reference.ultra import explanation_matrix, scalar

    start = time.perf_counter()
    recording = record(lambda: model(inputs), model, list(blocks))
    for probabilities in recording.maps:
        probabilities.retain_grad()
    stored = time.perf_counter()
    for token in tokens:
        model.zero_grad()
        for probabilities in recording.maps:
            probabilities.grad = None
        scalar(recording.latents[layer], token, "sum", normalize=True).backward(retain_graph=True)
        maps = [recording.by_head(each.detach()) for each in recording.maps[:layer]]
        explanation_matrix(maps, [recording.by_head(each.grad) for each in recording.maps[:layer]])
    model.zero_grad()
    return (stored - start) / TARGETS + (time.perf_counter() - stored) / len(tokens)


def careful_loop(model: nn.Module, inputs: Tensor, blocks: nn.ModuleList, tokens: range, layer: int) -> float:
    """The same without gradients of weights and with the row alone: the best of a loop over stored maps."""
    from tests.reference.recording import record
    from tests.reference.ultra import explain

    start = time.perf_counter()
    recording = record(lambda: model(inputs), model, list(blocks))
    stored = time.perf_counter()
    for token in tokens:
        explain(recording, token, layer)
    return (stored - start) / TARGETS + (time.perf_counter() - stored) / len(tokens)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(case: Case, layer: int | None, conservative: bool, rounds: int, loop_targets: int) -> dict[str, float]:
    """Medians over rounds in which everything takes turns: seconds and forward passes a token."""
    model, make, blocks = case.build()
    one, batch = make(1), make(BATCH)
    method = ConservativeLRP(model) if conservative else LatentTokenAttribution(model)
    layer = len(blocks) if layer is None else layer
    targets = list(range(case.tokens - TARGETS, case.tokens))

    def ours() -> None:
        method.attribute(one, token=targets, layer=layer, output="tokens")

    found: dict[str, list[float]] = {"seconds": [], "ratio": [], "usual": [], "careful": []}
    for number in range(1 + rounds):  # the first one warms up
        image = seconds(partial(forward, model, batch)) / BATCH
        taken = seconds(ours) / TARGETS
        loops = {"usual": usual_loop, "careful": careful_loop} if loop_targets and not conservative and number else {}
        of_round = {"seconds": taken, "ratio": taken / image}
        for name, loop in loops.items():
            of_round[name] = loop(model, one, blocks, range(loop_targets), layer) / image
        for name, each in of_round.items():
            found[name] += [each] if number else []
    limit = operations_limit(blocks, case, layer, conservative)
    medians = {name: statistics.median(each) for name, each in found.items() if each}
    return {"limit": limit, "distance": medians["ratio"] / limit - 1} | medians


def forward(model: nn.Module, inputs: Tensor) -> None:
    with torch.no_grad():
        model(inputs)


def peak_megabytes(build: Callable[[], Any], what: str, targets: int) -> float:
    """Peak memory of one job ("forward", "ours", "loop") above the built model, in a process of its own."""
    return in_own_process(_peak, build, partial(_job, what, targets))


def in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a function in a fresh process, so that what one job leaves in memory stays out of the next."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def _peak(build: Callable[[], Any], job: Callable[[Any, Tensor, Any], Any]) -> float:
    model, make, blocks = build()
    inputs = make(1)
    return peak_above_now(lambda: job(model, inputs, blocks))


def peak_above_now(work: Callable[[], Any]) -> float:
    """Peak resident megabytes of this process while it works, above what it holds before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is held now
    before = _resident_peak()
    work()
    return (_resident_peak() - before) / 2**20


def _job(what: str, targets: int, model: Any, inputs: Tensor, blocks: Any) -> None:
    if what == "ours":
        LatentTokenAttribution(model).attribute(inputs, token=list(range(targets)), output="tokens")
    elif what == "loop":
        usual_loop(model, inputs, blocks, range(targets), len(blocks))
    else:
        with torch.no_grad():
            model(inputs)


def _resident_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def speed_table(cases: list[Case], rounds: int, loop_targets: int) -> None:
    print("| model | what | ms a token | forward passes | limit | distance | careful loop | usual loop | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        for what, layer, conservative in (
            ("last layer", None, False),
            ("layer 3", 3, False),
            ("conservative", None, True),
        ):
            found = measure(case, layer, conservative, rounds, loop_targets)
            peak = f"{peak_megabytes(case.build, 'ours', TARGETS):.0f}" if what == "last layer" else ""
            loops = " | ".join(f"{found[name]:.2f}" if name in found else "" for name in ("careful", "usual"))
            print(
                f"| {case.name} | {what} | {1e3 * found['seconds']:.0f} | {found['ratio']:.2f} | {found['limit']:.2f} "
                f"| {found['distance']:+.0%} | {loops} | {peak} |", flush=True,
            )  # fmt: skip


def targets_table(rounds: int) -> None:
    """The price of a token against their number, and against how many go down together."""
    print("| model | tokens explained | at once | ms a token | forward passes a token |")
    print("|---|---|---|---|---|")
    plans = [
        (CASES[0], 1, None), (CASES[0], 2, None), (CASES[0], 8, None), (CASES[0], 32, None), (CASES[0], 196, None),
        (CASES[0], 196, 8), (CASES[0], 196, 64), (GRID, 32, 1), (GRID, 32, None), (GRID, 32, 8),
    ]  # fmt: skip
    for case, count, chunk in plans:
        model, make, _ = case.build()
        one, batch, lta = make(1), make(BATCH), LatentTokenAttribution(model)
        tokens = list(range(case.tokens - count, case.tokens))

        def ours(lta: Any = lta, one: Tensor = one, tokens: list[int] = tokens, chunk: int | None = chunk) -> None:
            lta.attribute(one, token=tokens, output="tokens", internal_batch_size=chunk)

        ours()
        taken, ratios = [], []
        for _ in range(rounds):
            image = seconds(partial(forward, model, batch)) / BATCH
            taken.append(seconds(ours) / count)
            ratios.append(taken[-1] / image)
        print(
            f"| {case.name} | {count} | {chunk or 'chosen'} | {1e3 * statistics.median(taken):.0f} "
            f"| {statistics.median(ratios):.2f} |", flush=True,
        )  # fmt: skip


def precision_table(cases: list[Case], rounds: int) -> None:
    """Float32 beside matrix products of less precision, and how well the order of the tokens in a map is kept."""
    from scipy.stats import spearmanr

    print("| model | precision | time | rank agreement with float32: mean | least |")
    print("|---|---|---|---|---|")
    for case in cases:
        model, make, _ = case.build()
        one, targets = make(1), list(range(case.tokens - TARGETS, case.tokens))

        def explain(precision: str, model: nn.Module = model, one: Tensor = one, targets: Any = targets) -> Tensor:
            torch.set_float32_matmul_precision("medium" if precision == "medium" else "highest")
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
            given = one.to(dtype) if one.is_floating_point() else one
            try:
                return LatentTokenAttribution(model.to(dtype), probe=False).attribute(
                    given, token=targets, output="tokens", self_token="zero"
                )[0]  # fmt: skip
            finally:
                torch.set_float32_matmul_precision("highest")
                model.float()

        exact, plain = explain("float32"), []
        times: dict[str, list[float]] = {"medium": [], "bfloat16": []}
        for _ in range(rounds):
            plain.append(seconds(lambda: explain("float32")))
            for precision, ratios in times.items():
                ratios.append(seconds(lambda: explain(precision)) / plain[-1])  # noqa: B023
        for precision, ratios in times.items():
            ranks = [spearmanr(a, b).statistic for a, b in zip(exact, explain(precision), strict=True)]
            print(
                f"| {case.name} | {precision} | {statistics.median(ratios):.2f} | {statistics.mean(ranks):.4f} "
                f"| {min(ranks):.4f} |", flush=True,
            )  # fmt: skip


def profile_table(cases: list[Case], targets: int = 8) -> None:
    """Shares of the time of ``targets`` explained tokens by operation."""
    for case in cases:
        model, make, _ = case.build()
        inputs, tokens = make(1), list(range(case.tokens - targets, case.tokens))
        lta = LatentTokenAttribution(model)
        lta.attribute(inputs, token=tokens, output="tokens")
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            lta.attribute(inputs, token=tokens, output="tokens")
        events = profile.key_averages()
        whole = sum(event.self_cpu_time_total for event in events)
        print(f"{case.name}:")
        for event in sorted(events, key=lambda event: -event.self_cpu_time_total)[:10]:
            print(f"    {event.self_cpu_time_total / whole:6.1%}  {event.key}", flush=True)


def memory_table(lengths: list[int], dim: int, layers: int) -> None:
    print(f"One target, a Llama-shaped model of {layers} blocks of {dim}.\n")
    print("| tokens | peak MB: forward | ours | stored maps |")
    print("|---|---|---|---|")
    for tokens in lengths:
        build = partial(llama, dim, layers, tokens)
        peaks = [f"{peak_megabytes(build, what, 1):.0f}" for what in ("forward", "ours", "loop")]
        print(f"| {tokens:,} | {' | '.join(peaks)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="peak memory against the number of tokens")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--targets", action="store_true", help="the price against the number of tokens")
    parser.add_argument("--precision", action="store_true", help="less exact matrix products")
    parser.add_argument("--only", default="", help="part of the name of the cases to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop-targets", type=int, default=4, help="tokens of the usual loop in a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds, {TARGETS} targets; "
        f"tiles of long inputs: {kernel.status()}\n"
    )
    cases = [case for case in CASES if options.only in case.name]
    if options.memory:
        memory_table([1024, 2048, 4096, 8192], dim=128, layers=2)
    elif options.profile:
        profile_table(cases)
    elif options.targets:
        targets_table(options.rounds)
    elif options.precision:
        precision_table(cases, options.rounds)
    else:
        speed_table(cases, options.rounds, options.loop_targets)


if __name__ == "__main__":
    main()
