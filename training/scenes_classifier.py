"""Train the small classifier that ships with the package: which two hues meet in the scene's object?

    python training/scenes_classifier.py --output captum_ultra/models/weights/scenes_classifier.safetensors

The model sees images and their classes, never a mask. Patch embedding, positions and blocks start from the
shipped denoiser, whose tokens already gather the region they lie in; CLS token and head start anew. Images
are turned, flipped and a little noisy. Some lose patches, replaced by black or by mid-grey, as tests of
explanations do, so that such images are not wholly new to the model.

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
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm, trange

from captum_ultra.data.object_scenes import ObjectScenes
from captum_ultra.models.vit import scenes_vit
from captum_ultra.models.vit_classifier import ViTClassifier


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    model = ViTClassifier().train()
    if not args.from_scratch:
        start_from_denoiser(model)
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
    bank = render_bank(args.scenes, args.seed, model, "train")
    # Another seed than the published check, so that the run is watched on other scenes than it is judged on.
    watched = render_bank(500, args.seed + 1000, model, "held_out")
    # Seeded by the step as well, so that a resumed run does not see its first images again.
    generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)

    progress = tqdm(range(step, args.steps), initial=step, total=args.steps, mininterval=5)
    running, right, mark = math.nan, math.nan, time.perf_counter()
    for step in progress:
        for group in optimiser.param_groups:
            group["lr"] = args.lr * schedule(step, args.steps, args.warmup)
        images, labels = draw(bank, args.batch, generator)
        x = spoil(model.preprocess(turn(images, generator)), args.cut, generator, model.patch_size)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=args.smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        follow(average, model, min(args.ema, (step + 1) / (step + 10)))
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if step % 25 == 0:
            progress.set_postfix(loss=f"{running:.4f}", right=f"{right:.3f}")
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            right = accuracy(average, watched)
            now = time.perf_counter()
            seconds, mark = seconds + now - mark, now
            state = {"model": model, "average": average, "optimiser": optimiser}
            saved: dict[str, Any] = {name: part.state_dict() for name, part in state.items()}
            torch.save(saved | {"step": step + 1, "seconds": seconds}, checkpoint)
            save(average, args, step + 1, seconds, running, right)
            tqdm.write(f"step {step + 1}, {seconds / 60:.1f} minutes, loss {running:.4f}, watched accuracy {right:.3f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/scenes_classifier.safetensors"))
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside the output")
    parser.add_argument("--from-scratch", action="store_true", help="do not start from the shipped denoiser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--scenes", type=int, default=12_000, help="rendered once, then turned and flipped")
    parser.add_argument("--cut", type=float, default=0.3, help="share of the images that lose patches")
    parser.add_argument("--smoothing", type=float, default=0.02, help="of the labels")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=60, help="steps")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--ema", type=float, default=0.99)
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    return args


def start_from_denoiser(model: ViTClassifier) -> None:
    """Copy what the two models share: all but the CLS token and the head."""
    shared = {name: value for name, value in scenes_vit().state_dict().items() if not name.startswith("head.")}
    missing, unexpected = model.load_state_dict(shared, strict=False)
    assert not unexpected and set(missing) == {"cls_token", "head.weight", "head.bias"}, (missing, unexpected)


class Bank(NamedTuple):
    """Images [N, 3, H, W], uint8, and their classes [N]."""

    images: Tensor
    labels: Tensor


def render_bank(length: int, seed: int, model: ViTClassifier, split: str) -> Bank:
    """Scenes and their classes; their masks are never looked at."""
    scenes = ObjectScenes(length, seed, model.image_size, split=split)
    images = torch.empty(length, 3, model.image_size, model.image_size, dtype=torch.uint8)
    labels = torch.empty(length, dtype=torch.long)
    for index in trange(length, desc=f"scenes, {split}", mininterval=5):
        scene = scenes[index]
        images[index], labels[index] = (255 * scene.image).round().to(torch.uint8), scene.label
    return Bank(images, labels)


def draw(bank: Bank, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of images in [0, 1] and their classes."""
    chosen = torch.randint(len(bank.labels), (count,), generator=generator)
    return bank.images[chosen].float() / 255, bank.labels[chosen]


def turn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images [B, 3, H, W] turned by right angles and flipped: the class stays."""
    coins = torch.rand(3, len(images), 1, 1, 1, generator=generator) < 0.5
    for coin, change in zip(
        coins, (lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.transpose(2, 3)), strict=True
    ):
        images = torch.where(coin, change(images), images)
    return images


def spoil(images: Tensor, cut: float, generator: torch.Generator, patch: int) -> Tensor:
    """Normalised images [B, 3, H, W] with a little noise; a share ``cut`` of them loses up to half of its patches.

    Single patches go, or one rectangle; in their place comes black, or mid-grey, which is 0.
    """
    count, side = len(images), images.shape[-1] // patch
    deviation = 0.3 * torch.rand(count, 1, 1, 1, generator=generator)
    images = images + deviation * torch.randn(images.shape, generator=generator)
    share = 0.5 * torch.rand(count, 1, 1, generator=generator)
    single = torch.rand(count, side, side, generator=generator) < share
    corner = torch.rand(2, count, 1, generator=generator) * side * (1 - share[None, :, 0].sqrt())
    inside = (torch.arange(side) >= corner) & (torch.arange(side) < corner + side * share[None, :, 0].sqrt())
    rectangle = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)
    coins = torch.rand(3, count, 1, 1, generator=generator)
    lost = torch.where(coins[0] < 0.5, single, rectangle) & (coins[1] < cut)
    pixels = lost.repeat_interleave(patch, 1).repeat_interleave(patch, 2).unsqueeze(1)
    colour = torch.where(coins[2] < 0.5, -2.0, 0.0).unsqueeze(1)
    return torch.where(pixels, colour, images)


@torch.no_grad()
def accuracy(model: ViTClassifier, scenes: Bank) -> float:
    """The share of scenes whose class has the largest logit."""
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        guesses = [model(model.preprocess(part.float() / 255)).argmax(1) for part in scenes.images.split(50)]
    model.train()
    return float((torch.cat(guesses) == scenes.labels).double().mean())


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 1 % of the learning rate."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def parameter_groups(model: ViTClassifier, decay: float) -> list[dict[str, Any]]:
    """Weight decay for the matrices of the blocks and the embedding; none for biases, norms and positions."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.dim() > 1 and not name.endswith(("pos_embed", "cls_token"))]
    others = [p for name, p in named if p.dim() <= 1 or name.endswith(("pos_embed", "cls_token"))]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def follow(average: ViTClassifier, model: ViTClassifier, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def save(model: ViTClassifier, args: argparse.Namespace, steps: int, seconds: float, loss: float, right: float) -> None:
    training = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    training |= {"steps_done": steps, "minutes": round(seconds / 60, 1), "loss": round(loss, 4)}
    training |= {"watched_accuracy": round(right, 4)}
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    metadata = {"config": json.dumps(asdict(model.config)), "training": json.dumps(training | machine)}
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, args.output, metadata)


if __name__ == "__main__":
    main()
