"""Train the small Llama that ships with the package: documents of facts, and summaries that state some of them.

    python training/facts_llama.py --output captum_ultra/models/weights/facts_llama

The model reads a context, "TL;DR:" and a summary, and predicts every next token. What the summary says of
its facts (names, colours, values) counts most. The model is never told where the context states it: the
evidence of :mod:`captum_ultra.data.facts` plays no part here. The first steps are on documents of four
facts without idle sentences. The heads of the first block start as ones that look one to four tokens back.

A checkpoint is kept beside the output, as ``*.checkpoint.pt``; ``--resume`` goes on from it. What is
saved is a folder of transformers' format, in half precision, with the arguments, the time taken, the
machine and the accuracy in the metadata of the safetensors file.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from tqdm import tqdm

from captum_ultra.data.facts import SEPARATOR, write_document
from captum_ultra.data.facts_language import COLOURS, GROUPS, NAMES, words
from captum_ultra.experiments.recall import recall
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

# Every fact is asked for, so that a context teaches much.
EASY: dict[str, Any] = {"facts": (4, 4), "claims": (4, 4), "fillers": (0, 0)}
FULL: dict[str, Any] = {"facts": (5, 8), "claims": (5, 5)}
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    ensure_torchvision_imports()  # transformers' classes import it when they are first named
    tokenizer = build_tokenizer(args.positions)
    model = transformers.LlamaForCausalLM(configuration(args, tokenizer)).train()
    look_back_at_first(model)
    optimisers = build_optimisers(model, args)
    step, seconds = 0, 0.0
    checkpoint = args.output.with_suffix(".checkpoint.pt")
    if args.resume:
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        step, seconds = state["step"], state["seconds"]

    counts = loss_weights(tokenizer, args)
    progress = tqdm(range(step, args.steps), initial=step, total=args.steps, mininterval=5)
    mark = time.perf_counter()
    for step in progress:
        for optimiser, rate in zip(optimisers, (args.lr, args.matrix_lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * schedule(step, args.steps, args.warmup)
        ids, weights = encode(tokenizer, draw(args, step), counts, args.context_weight)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1], use_cache=False).logits
        losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            options = EASY if step < args.easy else FULL
            model.eval()
            found = recall(model, tokenizer, (write_document(100, index, **options) for index in range(50)))
            scores = {name: round(share, 4) for name, (share, _) in found.items()}
            model.train()
            now = time.perf_counter()
            seconds, mark = seconds + now - mark, now
            progress.write(f"{step + 1} {seconds:.0f} s loss {loss.item():.4f} {scores}")
            states = [optimiser.state_dict() for optimiser in optimisers]
            state = {"model": model.state_dict(), "optimisers": states, "step": step + 1, "seconds": seconds}
            torch.save(state, checkpoint)
            save(model, tokenizer, args, step + 1, seconds, scores)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/facts_llama"), help="a folder")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside the output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--easy", type=int, default=600, help="first steps, on documents of 4 facts")
    parser.add_argument("--context-weight", type=float, default=0.1, help="of the loss of a context's word")
    parser.add_argument("--frame-weight", type=float, default=0.1, help="of a summary's common words")
    parser.add_argument("--lr", type=float, default=3e-3, help="of AdamW, for the embedding and the norms")
    parser.add_argument("--matrix-lr", type=float, default=5e-3, help="of Muon, for the matrices of the blocks")
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--weight-decay", type=float, default=0.01, help="of the matrices of the blocks")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--mlp", type=int, default=352, help="width of the gated MLP")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--positions", type=int, default=256)
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    return args


def build_tokenizer(positions: int) -> transformers.PreTrainedTokenizerFast:
    """One token a word, one a full stop, one for "TL;DR:"; <s> in front, and no </s> behind."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, SEPARATOR.strip(), *words()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    # What matches is kept and the rest, white space, is dropped.
    pattern = Regex(rf"{SEPARATOR.strip()}|\w+|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )


def configuration(
    args: argparse.Namespace, tokenizer: transformers.PreTrainedTokenizerFast
) -> transformers.LlamaConfig:
    return transformers.LlamaConfig(
        attn_implementation="eager",  # on a CPU, the fused attention's backward takes longer than all the rest
        vocab_size=len(tokenizer),
        hidden_size=args.dim,
        intermediate_size=args.mlp,
        num_hidden_layers=args.depth,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        max_position_embeddings=args.positions,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},  # contexts of a hundred words
        initializer_range=0.05,  # with the usual 0.02, attention of so few dimensions starts too flat to learn
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


@torch.no_grad()
def look_back_at_first(model: transformers.LlamaForCausalLM, pairs: int = 6, peak: float = 6.0) -> None:
    """Start the four heads of the first block as ones that look one, two, three and four tokens back.

    Which words stand together is the first step of every recall, and takes longest to be found by chance: rotary
    positions tell near from far only along a direction that all queries and all keys share. So all embeddings get
    a common part, and the first block maps it to queries and keys that agree best at a given distance. Everything
    may change in training, and the values that are looked at start at random.

    Args:
        model: untrained.
        pairs: of rotary dimensions that take part, the fastest first.
        peak: the logit of attention at a head's distance.
    """
    attention, embedding = model.model.layers[0].self_attn, model.model.embed_tokens.weight
    common = F.normalize(torch.randn(embedding.shape[1]), dim=0)
    embedding += embedding.norm(dim=1).mean() * common
    # RMSNorm leaves about half of the squared length to the common part.
    scale = math.sqrt(peak * math.sqrt(attention.head_dim) / (embedding.shape[1] / 2) / pairs)
    angle = model.model.rotary_emb.inv_freq[:pairs]
    half = attention.head_dim // 2
    heads = attention.q_proj.weight.unflatten(0, (-1, attention.head_dim))
    for distance, head in enumerate(heads, start=1):
        head[:pairs] += scale * (distance * angle).cos()[:, None] * common
        head[half : half + pairs] -= scale * (distance * angle).sin()[:, None] * common
    attention.k_proj.weight.unflatten(0, (-1, attention.head_dim))[:, :pairs] += scale * common


def draw(args: argparse.Namespace, step: int) -> list[str]:
    """The texts of a step, no step's like another's."""
    options, first = EASY if step < args.easy else FULL, step * args.batch
    indices = range(first, first + args.batch)
    return [f"{write_document(args.seed, index, split='train', **options).text}</s>" for index in indices]


def loss_weights(tokenizer: transformers.PreTrainedTokenizerFast, args: argparse.Namespace) -> Tensor:
    """How much it counts that a token of a summary is predicted: [vocabulary]."""
    members = {member for kind in GROUPS.values() for group in kind.values() for member in group}
    content = [*NAMES, *COLOURS, *members, *(group for kind in GROUPS.values() for group in kind)]
    counts = torch.full((len(tokenizer),), args.frame_weight)
    counts[tokenizer.convert_tokens_to_ids(content)] = 1.0
    return counts


def encode(
    tokenizer: transformers.PreTrainedTokenizerFast, texts: list[str], counts: Tensor, context_weight: float
) -> tuple[Tensor, Tensor]:
    """Token ids [B, T], padded on the right, and the weight [B, T] of the loss of predicting each."""
    ids = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    separator = ids == tokenizer.convert_tokens_to_ids(SEPARATOR.strip())
    summary = (separator.cumsum(1) > 0) & ~separator
    return ids, torch.where(summary, counts[ids], context_weight) * (ids != tokenizer.pad_token_id)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, constant, and a linear way down to zero over the last 30 %."""
    return min((step + 1) / warmup, 1.0, (steps - step) / (0.3 * steps))


def build_optimisers(model: transformers.LlamaForCausalLM, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """AdamW for the embedding and the norms, Muon for the matrices of the blocks: it learns recall in fewer steps."""
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.dim() == 2 and ".layers." in name)]
    return [
        torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        torch.optim.Muon(matrices, lr=args.matrix_lr, weight_decay=args.weight_decay, adjust_lr_fn="match_rms_adamw"),
    ]


def save(
    model: transformers.LlamaForCausalLM,
    tokenizer: transformers.PreTrainedTokenizerFast,
    args: argparse.Namespace,
    steps: int,
    seconds: float,
    scores: dict[str, float],
) -> None:
    """Write the folder: the model's configuration and weights, the tokenizer."""
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    training = arguments | {"steps_done": steps, "minutes": round(seconds / 60, 1), "accuracy": scores}
    training |= {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    tokenizer.save_pretrained(args.output)
    path = args.output / "tokenizer_config.json"
    # The name that every version of transformers knows.
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2))
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(args.output)
    # Tied: the output projection is the embedding, and is stored once.
    weights = {name: t.half().contiguous() for name, t in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, args.output / "model.safetensors", {"format": "pt", "training": json.dumps(training)})


if __name__ == "__main__":
    main()
