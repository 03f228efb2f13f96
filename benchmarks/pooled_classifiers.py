"""Do class maps of pooled classifiers find the evidence? A table that anyone can make again in half an hour.

    python -m benchmarks.pooled_classifiers                           # train what is not there, then the table
    python -m benchmarks.pooled_classifiers --only EVA-02 --scenes 50
    python -m benchmarks.pooled_classifiers --folder runs/pooled      # where weights are kept: a second call is quick

Five classifiers that read their class off pooled patches, as the families of timm and transformers build them but
small (4 blocks, 96 channels, 8 x 8 patches), learn the class of object scenes for a few minutes each. The object is all
the evidence there is, so that its mask says where a class map should lie: ROC-AUC over the pixels of held-out scenes,
mean and 95 % interval over scenes. The second number is the correlation of the maps of two classes, the predicted one
and the next: at 1 a map knows no class. The last column counts calls of 25 scenes in which the package warns that
little or nothing is left in a map.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm, trange

from captum_ultra.attr.methods import METHODS, find_methods, method_class
from captum_ultra.data.object_scenes import WEAVES, ObjectScenes
from captum_ultra.experiments.auc import roc_auc
from captum_ultra.experiments.markdown import markdown_table
from captum_ultra.intervals import bootstrap
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

SIZE, PATCH, WIDTH, DEPTH, HEADS = 64, 8, 96, 4, 3
TRAINING, BATCH = 20_000, 25
LEAVING_OUT = ("gae", "token_tm", "transformer_attribution")
ASKED = "conservative_lrp,residual_lrp,gae,token_tm,transformer_attribution,rollout"


def timm_model(name: str, **more: Any) -> nn.Module:
    """A model of timm by its name, made small."""
    ensure_torchvision_imports()
    import timm

    sizes = {"patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    model: nn.Module = timm.create_model(name, img_size=SIZE, num_classes=len(WEAVES), **sizes | more)
    return model


def dinov2() -> nn.Module:
    """DINOv2 of transformers: CLS and the mean of the patches, side by side, are read by one linear layer."""
    ensure_torchvision_imports()
    from transformers import Dinov2Config, Dinov2ForImageClassification

    return Dinov2ForImageClassification(
        Dinov2Config(
            image_size=SIZE, patch_size=PATCH, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
            layerscale_value=0.1, num_labels=len(WEAVES),
        )
    )  # fmt: skip


def naflexvit() -> nn.Module:
    """NaFlexViT with average pooling and four registers."""
    ensure_torchvision_imports()
    from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg

    config = NaFlexVitCfg(
        patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, init_values=0.1, global_pool="avg",
        reg_tokens=4, fc_norm=True, pos_embed_grid_size=(SIZE // PATCH, SIZE // PATCH),
    )  # fmt: skip
    return NaFlexVit(config, num_classes=len(WEAVES))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "EVA-02": partial(timm_model, "eva02_tiny_patch14_224", ref_feat_shape=(SIZE // PATCH, SIZE // PATCH)),
    "PE-core": partial(
        timm_model, "vit_pe_core_tiny_patch16_384", ref_feat_shape=(SIZE // PATCH, SIZE // PATCH), attn_pool_num_heads=3
    ),
    "so150m, attention pooling": partial(timm_model, "vit_so150m_patch16_reg4_map_256"),
    "NaFlexViT": naflexvit,
    "DINOv2": dinov2,
}  # fmt: skip


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Class scores of images [B, 3, H, W] in 0..1."""
    found = model(normalised(images))
    return getattr(found, "logits", found)


def normalised(images: Tensor) -> Tensor:
    return 4 * images - 2


def render(length: int, seed: int, split: str) -> tuple[Tensor, Tensor]:
    """Images [N, 3, H, W], uint8, and their classes [N]."""
    scenes = ObjectScenes(length, seed, SIZE, split=split)
    found = [scenes[index] for index in trange(length, desc=f"scenes, {split}", mininterval=5)]
    images = torch.stack([(255 * scene.image).round().to(torch.uint8) for scene in found])
    return images, torch.tensor([scene.label for scene in found])


def train(model: nn.Module, bank: tuple[Tensor, Tensor], steps: int, seed: int, batch: int = 32) -> None:
    """Cross-entropy on scenes that are turned and flipped; no mask is ever looked at."""
    images, labels = bank
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.1)
    progress = trange(steps, mininterval=10)
    for step in progress:
        chosen = torch.randint(len(labels), (batch,), generator=generator)
        turns, flip = torch.randint(4, (1,), generator=generator).item(), torch.rand(1, generator=generator) < 0.5
        x = torch.rot90(images[chosen].float() / 255, int(turns), (2, 3))
        loss = F.cross_entropy(logits_of(model, x.flip(3) if flip else x), labels[chosen], label_smoothing=0.02)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")


def trained(name: str, folder: Path, steps: int, seed: int) -> nn.Module:
    """The model of a name, from its file in the folder, or trained now and written there."""
    file = folder / f"{name.split(',')[0]}-{steps}-{seed}.pt"
    torch.manual_seed(seed)
    model = MODELS[name]()
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
        return model.eval()
    start = time.perf_counter()
    train(model.train(), render(TRAINING, seed, "train"), steps, seed)
    model.eval()
    tqdm.write(f"{name}: {steps} steps in {(time.perf_counter() - start) / 60:.1f} minutes")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), file)
    return model


def measure(
    model: nn.Module, scenes: ObjectScenes, methods: Mapping[str, tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    """By row of the table: ROC-AUC [N], correlation of two classes' maps [N], and warnings; and who is right [N]."""
    found: dict[str, Any] = {row: ([], [], []) for row in methods}
    right = []
    for first in trange(0, len(scenes), BATCH, mininterval=10):
        part = [scenes[index] for index in range(first, min(first + BATCH, len(scenes)))]
        images, masks = torch.stack([each.image for each in part]), torch.stack([each.mask for each in part])
        with torch.no_grad():
            answers = logits_of(model, images).argmax(1)
        right.append(answers == torch.tensor([each.label for each in part]))
        targets = torch.stack([answers, (answers + 1) % len(WEAVES)], 1)
        for row, (name, choices) in methods.items():
            areas, alike, told = found[row]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                maps = method_class(name)(model).attribute(normalised(images), target=targets, **choices)
            told.append(any("is left in" in str(each.message) for each in caught))
            areas.append(roc_auc(maps[:, 0].flatten(1), masks.flatten(1)))
            centred = maps.flatten(2).double() - maps.flatten(2).double().mean(-1, keepdim=True)
            alike.append(F.cosine_similarity(centred[:, 0], centred[:, 1], dim=-1))
    return {"right": torch.cat(right).double()} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the name of the models to measure")
    parser.add_argument("--methods", default=ASKED, help="names of methods with commas between them")
    parser.add_argument("--kept", action="store_true", help='add rows with self_token="keep"')
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/pooled_classifiers"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = find_methods(options.methods)
    methods: dict[str, tuple[str, dict[str, Any]]] = {METHODS[name]: (name, {}) for name in names}
    if options.kept:
        for name in (each for each in LEAVING_OUT if each in names):
            methods[f"{METHODS[name]}, own entries kept"] = (name, {"self_token": "keep"})
    table = []
    for name in (each for each in MODELS if options.only in each):
        model = trained(name, options.folder, options.steps, options.seed)
        found = measure(model, ObjectScenes(options.scenes, options.seed, SIZE), methods)
        right = found.pop("right").mean()
        for row, (areas, alike, told) in found.items():
            said = f"{sum(told)} of {len(told)} calls" if any(told) else ""
            table.append(
                [f"{name} ({right:.3f} right)", row, str(bootstrap(torch.cat(areas))),
                 f"{torch.cat(alike).mean():.2f}", said]
            )  # fmt: skip
    header = ["model", "method", "ROC-AUC", "two classes", "little left"]
    print(markdown_table(header, table), flush=True)


if __name__ == "__main__":
    main()
