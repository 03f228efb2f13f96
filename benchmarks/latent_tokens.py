"""How long one explained token takes, beside the model's own forward pass and the usual loop.

    python -m benchmarks.latent_tokens            # the speed table
    python -m benchmarks.latent_tokens --memory   # peak memory against the number of tokens
    python -m benchmarks.latent_tokens --profile  # where the time of an explained token goes

Everything that is compared runs in turn in one process, several rounds, and is reported as the
median of the ratios of a round: machines differ and are noisy, ratios hold. Peak memory is read in
a fresh process for each entry, above what it holds once the model is built.
"""

from __future__ import annotations

import argparse
import multiprocessing
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

from captum_ultra import LatentTokenAttribution
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

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


CASES = [
    Case("timm ViT-S/16, 224", partial(vit, "vit_small_patch16_224", 224), 197, 384),
    Case("timm ViT-B/16, 224", partial(vit, "vit_base_patch16_224", 224), 197, 768),
    Case("timm ViT-S/16, 448", partial(vit, "vit_small_patch16_224", 448), 785, 384),
    Case("Llama-shaped (8 blocks of 512), 1,024 tokens", partial(llama, 512, 8, 1024), 1024, 512, causal=True),
]


def operations_limit(blocks: nn.ModuleList, case: Case) -> float:
    """Multiplications of an activation-only backward pass over those of a forward pass.

    Linear layers cost the same in both; attention has two products forward and four backward.
    """
    linear = 2 * case.tokens * sum(p.numel() for p in blocks[0].parameters() if p.dim() == 2)
    product = 2 * case.tokens**2 * case.dim / (2 if case.causal else 1)
    return (linear + 4 * product) / (linear + 2 * product)


def usual_loop(model: nn.Module, inputs: Tensor, blocks: nn.ModuleList, tokens: range) -> float:
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
        scalar(recording.latents[-1], token, "sum", normalize=True).backward(retain_graph=True)
        maps = [recording.by_head(each.detach()) for each in recording.maps]
        explanation_matrix(maps, [recording.by_head(each.grad) for each in recording.maps])
    model.zero_grad()
    return (stored - start) / TARGETS + (time.perf_counter() - stored) / len(tokens)


def careful_loop(model: nn.Module, inputs: Tensor, blocks: nn.ModuleList, tokens: range) -> float:
    """The same without gradients of weights and with the row alone: the best of a loop over stored maps."""
    from tests.reference.recording import record
    from tests.reference.ultra import explain

    start = time.perf_counter()
    recording = record(lambda: model(inputs), model, list(blocks))
    stored = time.perf_counter()
    for token in tokens:
        explain(recording, token, len(blocks))
    return (stored - start) / TARGETS + (time.perf_counter() - stored) / len(tokens)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(case: Case, rounds: int, loop_targets: int) -> dict[str, float]:
    model, make, blocks = case.build()
    one, batch = make(1), make(BATCH)
    lta = LatentTokenAttribution(model)
    targets = list(range(case.tokens - TARGETS, case.tokens))

    def forward() -> None:
        with torch.no_grad():
            model(batch)

    forward()
    lta.attribute(one, token=targets[:2], output="tokens")
    found: dict[str, list[float]] = {"seconds": [], "ratio": [], "usual": [], "careful": []}
    for _ in range(rounds):
        image = seconds(forward) / BATCH
        ours = seconds(lambda: lta.attribute(one, token=targets, output="tokens")) / TARGETS
        found["seconds"].append(ours)
        found["ratio"].append(ours / image)
        found["usual"].append(usual_loop(model, one, blocks, range(loop_targets)) / image)
        found["careful"].append(careful_loop(model, one, blocks, range(loop_targets)) / image)
    return {"limit": operations_limit(blocks, case)} | {name: statistics.median(each) for name, each in found.items()}


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
        usual_loop(model, inputs, blocks, range(targets))
    else:
        with torch.no_grad():
            model(inputs)


def _resident_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def speed_table(cases: list[Case], rounds: int, loop_targets: int) -> None:
    print("| model | ms a token | forward passes: ours | limit | usual loop | careful loop | peak MB: ours | loop |")
    print("|---|---|---|---|---|---|---|---|")
    for case in cases:
        found = measure(case, rounds, loop_targets)
        ours = peak_megabytes(case.build, "ours", TARGETS)
        loop = peak_megabytes(case.build, "loop", 1)  # it explains one token after the other
        print(
            f"| {case.name} | {1e3 * found['seconds']:.0f} | {found['ratio']:.2f} | {found['limit']:.2f} "
            f"| {found['usual']:.2f} | {found['careful']:.2f} | {ours:.0f} | {loop:.0f} |",
            flush=True,
        )


def profile_table(cases: list[Case], targets: int = 8) -> None:
    """Shares of the time of ``targets`` explained tokens by operation, the pull-back of attention apart."""
    for case in cases:
        model, make, _ = case.build()
        inputs, tokens = make(1), list(range(case.tokens - targets, case.tokens))
        lta = LatentTokenAttribution(model)
        lta.attribute(inputs, token=tokens, output="tokens")
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            lta.attribute(inputs, token=tokens, output="tokens")
        events = profile.key_averages()
        whole = sum(event.self_cpu_time_total for event in events)
        attention = sum(event.cpu_time_total for event in events if event.key == "_RelevanceAttentionBackward")
        print(f"{case.name}: attention's pull-back {attention / whole:.0%} of the time; all operations:")
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
    parser.add_argument("--only", default="", help="part of the name of the cases to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop-targets", type=int, default=4, help="tokens of the usual loop in a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds, {TARGETS} targets\n")
    cases = [case for case in CASES if options.only in case.name]
    if options.memory:
        memory_table([1024, 2048, 4096, 8192], dim=128, layers=2)
    elif options.profile:
        profile_table(cases)
    else:
        speed_table(cases, options.rounds, options.loop_targets)


if __name__ == "__main__":
    main()
