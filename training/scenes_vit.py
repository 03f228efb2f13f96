"""Train the small ViT that ships with the package: denoising of procedural scenes, no masks, no labels.

    python training/scenes_vit.py --output captum_ultra/models/weights/scenes_vit.safetensors

The model sees scenes under Gaussian noise whose standard deviation is drawn for every image,
uniform in 0..3 on normalised pixels, and predicts the clean scenes. One noisy patch says little about
itself; the way to a good estimate leads through the other patches of the same region, and those
are the ones the latent tokens then hold.

A checkpoint is kept beside the output, as ``*.checkpoint.pt``; ``--resume`` goes on from it. The
weights saved are an exponential moving average, in half precision, with the configuration, the
arguments, the time taken and the machine in the metadata of the file.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm, trange

from captum_ultra.data import Scenes
from captum_ultra.models.vit import VisionTransformer, ViTConfig


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    config = ViTConfig(dim=args.dim, depth=args.depth, heads=args.heads, mlp_ratio=args.mlp_ratio)
    model = VisionTransformer(config).train()
    average = copy.deepcopy(model).requires_grad_(False)
    optimiser = torch.optim.AdamW(parameter_groups(model, args.weight_decay), lr=args.lr, betas=(0.9, 0.98), fused=True)
    step, seconds = 0, 0.0
    checkpoint = args.output.with_suffix(".checkpoint.pt")
    if args.resume:
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = state["step"], state["seconds"]
    bank = render_bank(args.scenes, args.seed, config.image_size)
    # Seeded by the step as well, so that a resumed run does not see its first images again.
    generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)

    progress = tqdm(range(step, args.steps), initial=step, total=args.steps, mininterval=5)
    running, mark = math.nan, time.perf_counter()
    for step in progress:
        for group in optimiser.param_groups:
            group["lr"] = args.lr * schedule(step, args.steps, args.warmup)
        clean = model.preprocess(draw(bank, args.batch, generator))
        noisy = clean + noise_like(clean, args.noise, generator)
        with torch.autocast("cpu", torch.bfloat16):
            estimate = model(noisy)
        loss = (estimate.float() - clean).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        follow(average, model, min(args.ema, (step + 1) / (step + 10)))
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{running:.4f}")
        if (step + 1) % 200 == 0 or step + 1 == args.steps:
            now = time.perf_counter()
            seconds, mark = seconds + now - mark, now
            state = {"model": model, "average": average, "optimiser": optimiser}
            saved: dict[str, Any] = {name: part.state_dict() for name, part in state.items()}
            torch.save(saved | {"step": step + 1, "seconds": seconds}, checkpoint)
            save(average, args, step + 1, seconds, running)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/scenes_vit.safetensors"))
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside the output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--scenes", type=int, default=12_000, help="rendered once, then flipped and recoloured")
    parser.add_argument("--noise", type=float, default=3.0, help="largest standard deviation, normalised pixels")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--warmup", type=int, default=150, help="steps")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--ema", type=float, default=0.995)
    parser.add_argument("--dim", type=int, default=ViTConfig.dim)
    parser.add_argument("--depth", type=int, default=ViTConfig.depth)
    parser.add_argument("--heads", type=int, default=ViTConfig.heads)
    parser.add_argument("--mlp-ratio", type=float, default=ViTConfig.mlp_ratio)
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    return args


def render_bank(length: int, seed: int, size: int) -> Tensor:
    """Training scenes [length, 3, H, W], uint8: images only, their masks are never looked at."""
    scenes = Scenes(length, seed, size, split="train")
    bank = torch.empty(length, 3, size, size, dtype=torch.uint8)
    for index in trange(length, desc="scenes", mininterval=5):
        bank[index] = (255 * scenes[index].image).round().to(torch.uint8)
    return bank


def draw(bank: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Images [count, 3, H, W] in [0, 1] from the bank, turned, flipped, negated, channels shuffled."""
    chosen = torch.randint(len(bank), (count,), generator=generator)
    images = bank[chosen].float() / 255
    coins = torch.rand(4, count, generator=generator) < 0.5
    for coin, change in zip(
        coins,
        (lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.transpose(2, 3), lambda x: 1 - x),
        strict=True,
    ):
        images = torch.where(coin.view(-1, 1, 1, 1), change(images), images)
    return images[:, torch.randperm(3, generator=generator)]


def noise_like(images: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise, its standard deviation uniform in 0..largest for every image."""
    deviation = largest * torch.rand(len(images), 1, 1, 1, generator=generator)
    return deviation * torch.randn(images.shape, generator=generator)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 1 % of the learning rate."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def parameter_groups(model: VisionTransformer, decay: float) -> list[dict[str, Any]]:
    """Weight decay for the matrices of the blocks and the embedding; none for biases, norms and positions."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.dim() > 1 and not name.endswith(("pos_embed", "cls_token"))]
    others = [p for name, p in named if p.dim() <= 1 or name.endswith(("pos_embed", "cls_token"))]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def follow(average: VisionTransformer, model: VisionTransformer, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def save(model: VisionTransformer, args: argparse.Namespace, steps: int, seconds: float, loss: float) -> None:
    training = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    training |= {"steps_done": steps, "minutes": round(seconds / 60, 1), "loss": round(loss, 4)}
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    metadata = {"config": json.dumps(asdict(model.config)), "training": json.dumps(training | machine)}
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, args.output, metadata)


if __name__ == "__main__":
    main()
