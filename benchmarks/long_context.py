"""Peak memory of explaining a summary at the end of a long context, beside stored attention maps.

    python -m benchmarks.long_context                    # 1k, 2k, 4k and 8k tokens
    python -m benchmarks.long_context --dtype bfloat16
    python -m benchmarks.long_context --padded           # what the mask of a padded batch costs, and how to do without

A Llama-shaped model with grouped queries and random weights; the last 16 tokens are the summary and the targets.
Beside it, one target in the usual way: eager attention with ``output_attentions=True`` and the gradient of every
map. Each number comes from a process of its own and is the peak of resident memory above the built model and its
input; a job that asks for more than the limit is stopped there and printed as "over".
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.latent_tokens import in_own_process, llama, peak_above_now, seconds
from captum_ultra import LatentTokenAttribution

SUMMARY = 16
DIM, LAYERS = 512, 4
SEED = 0

Job = Callable[[Any, Tensor], Any]


def forward(model: Any, ids: Tensor) -> None:
    with torch.no_grad():
        model(ids)


def ours(model: Any, ids: Tensor, extra: Any = None) -> None:
    summary = list(range(ids.shape[1] - SUMMARY, ids.shape[1]))
    LatentTokenAttribution(model).attribute(ids, token=summary, output="tokens", additional_forward_args=extra)


def stored_maps(model: Any, ids: Tensor) -> None:
    """Relevance of the last token alone, from the maps that transformers returns and their gradients."""
    model.set_attn_implementation("eager")
    outputs = model(ids, output_attentions=True)
    gradients = torch.autograd.grad(outputs.last_hidden_state[:, -1].sum(), outputs.attentions)
    row = torch.nn.functional.one_hot(torch.tensor([ids.shape[1] - 1]), ids.shape[1]).float()[:, None]
    with torch.no_grad():
        for probabilities, gradient in zip(reversed(outputs.attentions), reversed(gradients), strict=True):
            row = row + row @ (probabilities * gradient).clamp_(min=0).mean(1).float()


def padding_as_mask(model: Any, ids: Tensor) -> None:
    """Two texts, the second shorter, as a tokenizer pads them: with an attention mask."""
    mask = torch.ones(2, ids.shape[1], dtype=torch.long)
    mask[1, -ids.shape[1] // 4 :] = 0
    ours(model, ids.expand(2, -1), mask)


def padding_unmasked(model: Any, ids: Tensor) -> None:
    """The same without the mask: no token of a causal model sees the padding to its right anyway."""
    ours(model, ids.expand(2, -1))


def measure(
    job: Job, tokens: int, dtype: torch.dtype, limit_gigabytes: int, threads: int
) -> tuple[float, float] | None:
    """(peak megabytes, seconds) of a job; None if it asks for more than the limit. Runs in its own process."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    model, make, _ = llama(DIM, LAYERS, tokens)
    model, ids = model.to(dtype), make(1)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_gigabytes * 2**30,) * 2)
    spent: list[float] = []
    try:
        peak = peak_above_now(lambda: spent.append(seconds(lambda: job(model, ids))))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        return None
    return peak, spent[0]


def table(columns: dict[str, Job], lengths: list[int], dtype: torch.dtype, limit: int, threads: int) -> None:
    """One row a length; in brackets the growth against the row above."""
    print(f"| tokens | {' | '.join(columns)} | seconds: {' | '.join(columns)} |")
    print("|---|" + "---|" * (2 * len(columns)))
    before: dict[str, float | None] = {}
    for tokens in lengths:
        peaks, times = [], []
        for name, job in columns.items():
            found = in_own_process(partial(measure, job, tokens, dtype, limit, threads))
            last, before[name] = before.get(name), found and found[0]
            growth = f" (x {found[0] / last:.1f})" if found and last else ""
            peaks.append(f"{found[0]:,.0f}{growth}" if found else f"over {limit} GB")
            times.append(f"{found[1]:.1f}" if found else "")
        print(f"| {tokens:,} | {' | '.join(peaks)} | {' | '.join(times)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--padded", action="store_true", help="a batch of two texts of different lengths")
    parser.add_argument("--limit", type=int, default=16, help="gigabytes that one job may ask for")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, {options.dtype}, {LAYERS} blocks of {DIM}, {DIM // 64} heads ({DIM // 128} of "
        f"keys and values), {SUMMARY} summary tokens, seed {SEED}, {options.threads} threads; MB above the model\n"
    )
    columns: dict[str, Job] = {"forward pass": forward, "ours": ours, "stored maps, 1 target": stored_maps}
    if options.padded:
        columns = {"with a mask": padding_as_mask, "without": padding_unmasked}
    table(columns, options.lengths, getattr(torch, options.dtype), options.limit, options.threads)


if __name__ == "__main__":
    main()
