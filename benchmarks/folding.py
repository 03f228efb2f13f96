"""Whether an MLP's Jacobian, made once for every token, is cheaper than the MLP's backward pass for every target.

    python -m benchmarks.folding

For one token the backward pass of an MLP four times as wide as the stream costs 16 d^2 multiplications a target; its
Jacobian [d, d] costs 8 d^3 once and 2 d^2 a target. All targets must then stand at the same block at once: the memory
is that of their gradients, here of 1,370 tokens. Sizes of ViT-S; float32; everything in turn in one process, medians.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks.latent_tokens import seconds

DIM, TOKENS, ROUNDS = 384, 64, 5


def main() -> None:
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {TOKENS} tokens of {DIM} channels\n")
    print("| targets at once | backward pass, ms | Jacobian made | applied | folded over plain | MB of gradients |")
    print("|---|---|---|---|---|---|")
    up, down = torch.randn(4 * DIM, DIM), torch.randn(DIM, 4 * DIM)
    derivative = torch.rand(TOKENS, 4 * DIM)
    for targets in (64, 256, 512, 1369):
        gradient = torch.randn(targets, TOKENS, DIM)
        jacobian = torch.empty(TOKENS, DIM, DIM)

        def plain(gradient: torch.Tensor = gradient) -> None:
            (gradient @ down).mul_(derivative) @ up

        def make(jacobian: torch.Tensor = jacobian) -> None:
            for token in range(TOKENS):
                torch.mm(down * derivative[token], up, out=jacobian[token])

        def use(gradient: torch.Tensor = gradient, jacobian: torch.Tensor = jacobian) -> None:
            torch.bmm(gradient.transpose(0, 1), jacobian)

        times = {work: statistics.median(seconds(work) for _ in range(ROUNDS)) for work in (plain, make, use)}
        of_plain, of_make, of_use = (1e3 * each for each in times.values())
        megabytes = targets * 1370 * DIM * 4 / 2**20
        print(
            f"| {targets} | {of_plain:.0f} | {of_make:.0f} | {of_use:.0f} | {(of_make + of_use) / of_plain:.2f} "
            f"| {megabytes:.0f} |"
        )


if __name__ == "__main__":
    main()
