"""How much of a summary a model reads off its context: the accuracy of names, colours and values.

python -m captum_ultra.experiments.recall --documents 1000 --seed 0
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch

from captum_ultra.data.facts import Document, Facts
from captum_ultra.models.loader import load_model

__all__ = ["recall"]


@torch.no_grad()
def recall(model: Any, tokenizer: Any, documents: Iterable[Document]) -> dict[str, tuple[float, int]]:
    """The share of the words of a claim that are the most likely ones after all that precedes them.

    Args:
        model: a causal language model of transformers, in eval mode.
        tokenizer: its tokenizer, which keeps the words of the language whole.
        documents: of :mod:`captum_ultra.data.facts`.

    Returns:
        For "subject", "colour", "copied" and "derived" (values): the share, and of how many.

    Raises:
        ValueError: if the tokenizer splits a word of a claim.

    Example:
        >>> from captum_ultra.models.llama import facts_llama, facts_tokenizer
        >>> sorted(recall(facts_llama(), facts_tokenizer(), Facts(8)))
        ['colour', 'copied', 'derived', 'subject']
    """
    right, count = Counter[str](), Counter[str]()
    for document in documents:
        batch = tokenizer(document.text, return_offsets_mapping=True, return_tensors="pt")
        ids, offsets = batch["input_ids"], [tuple(pair) for pair in batch["offset_mapping"][0].tolist()]
        predicted = model(ids, use_cache=False).logits[0].argmax(-1)
        for claim in document.claims:
            for span in claim.content:
                place = offsets.index((document.summary_start + span.start, document.summary_start + span.end))
                name = claim.form if span.role == "value" else span.role
                count[name] += 1
                right[name] += int(predicted[place - 1] == ids[0, place])
    return {name: (right[name] / count[name], count[name]) for name in sorted(count)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="facts-llama", help="a name for load_model")
    args = parser.parse_args()
    loaded = load_model(args.model)
    for name, (share, count) in recall(loaded.model, loaded.tokenizer, Facts(args.documents, args.seed)).items():
        print(f"{name}: {share:.4f} of {count}")


if __name__ == "__main__":
    main()
