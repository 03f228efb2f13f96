"""What a run tells about a model and a kind of input before the first explanation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters.layout import TokenLayout, read_layout
from captum_ultra.adapters.streams import stream_after
from captum_ultra.adapters.view import TransformerView
from captum_ultra.errors import UnsupportedModelError, warn_caller
from captum_ultra.relevance import explaining
from captum_ultra.relevance.probe import InputLeaf, OutsideAttention, examine
from captum_ultra.relevance.probe.reach import Rows, gradients_to

__all__ = ["Findings", "check_stream", "container_name", "layout_only", "probe", "say_what_is_left_out"]


@dataclass(frozen=True)
class Findings:
    """What is known of a model and a kind of input.

    Attributes:
        layout: of an image's tokens; None where the input is a sequence, whose length may change.
        outside: attention that no block holds, between the input and what the model returns.
        adds_tokens: whether there are more tokens than ids: virtual ones of prompt tuning, an appended CLS.
        probed: whether the blocks were checked, or the layout alone was read.
        finite: whether the latents were; nothing is found out with others.
        tokens: number of tokens that were looked at.
        samples: number of samples that were looked at.
    """

    layout: TokenLayout | None = None
    outside: tuple[OutsideAttention, ...] = ()
    adds_tokens: bool = False
    probed: bool = True
    finite: bool = True
    tokens: int = 0
    samples: int = 0


def probe(view: TransformerView, model: nn.Module, inputs: Tensor, extra: Any, *, chosen: bool) -> Findings:
    """Run the model, check its chain of blocks, and read where its tokens look.

    Costs about one explained token. Attention that is left out is refused, or warned of where the caller named the
    blocks.

    Args:
        view: of the model.
        model: that was asked for the explanation, in which modules have their names.
        inputs: of the model.
        extra: Captum's ``additional_forward_args``.
        chosen: whether the caller named the blocks.

    Raises:
        UnsupportedModelError: names what the model does that no explanation would show, and what to do.
    """
    states = _random_states(inputs.device)
    layouts: list[TokenLayout] = []
    started: list[Tensor] = []
    leaf = InputLeaf(inputs)

    def start(stream: Tensor) -> None:
        # Gradients that are switched off say nothing of where the stream comes from.
        known = leaf.found and leaf.leaf is None and torch.is_grad_enabled()
        check_stream(view, inputs, stream, stream.requires_grad if known else None)
        started.append(stream.detach().clone())
        if leaf.leaf is not None and _is_image(inputs):
            layouts.append(read_layout(stream, leaf.leaf))
        else:
            _warn_of_mixed_tokens(view, stream, leaf.made)

    with leaf:
        examined = examine(
            lambda: view.call(view.model, leaf.inputs, extra), view.model, view.blocks, batch_first=view.batch_first,
            to_the_end=_is_image(inputs) or not view.stop_early, made=() if _is_image(inputs) else leaf.made,
            on_start=start,
        )  # fmt: skip
    drew = states != _random_states(inputs.device)
    _check_repeats(view, inputs, extra, started[0], 0)
    if drew:
        _check_repeats(view, inputs, extra, examined.latents, len(view.blocks))
    adds = _more_than_ids(inputs, started[0])
    if adds:
        warn_caller(
            f"{view.name} makes {started[0].shape[1]} tokens of {inputs.shape[1]} ids; tokens are counted, and rows "
            "hold relevance, as the model sees them"
        )
    outside = tuple(dict.fromkeys(examined.outside))
    say_what_is_left_out(view, model, outside, chosen)
    layout = layouts[0] if layouts else None
    return Findings(layout, outside, adds, True, examined.finite, started[0].shape[1], len(started[0]))


def layout_only(view: TransformerView, inputs: Tensor, extra: Any) -> Findings:
    """Read where the tokens look, by a run up to the first block, and check nothing."""
    if not _is_image(inputs):
        return Findings(probed=False)
    leaf = InputLeaf(inputs)
    assert leaf.leaf is not None
    with explaining(view.model):
        stream = stream_after(view, 0, leaf.inputs, extra)
        check_stream(view, inputs, stream)
        return Findings(read_layout(stream, leaf.leaf), probed=False)


def _warn_of_mixed_tokens(view: TransformerView, stream: Tensor, made: Sequence[Tensor]) -> None:
    """Warn where tokens that enter the first block [B, n, d] hold more than their own input."""
    rows = Rows(stream.shape[1], 0)
    leaves = [each for each in made if each.shape[:2] == stream.shape[:2]]
    found = gradients_to(leaves, stream, rows.cotangent(stream, 1)) if leaves else []
    if any(each is not None and rows.reach_others(each, 1) for each in found):
        warn_caller(
            f"{view.name} mixes its tokens before the first block (a convolution, a recurrent layer): relevance is "
            "that of the tokens that enter it, which hold something of their neighbours"
        )


def check_stream(view: TransformerView, inputs: Tensor, stream: Tensor, depends: bool | None = None) -> None:
    """Raise where the stream [B, n, d] that enters the first block is not one of these inputs.

    Args:
        view: of the model.
        inputs: of the model.
        stream: that enters the first block.
        depends: whether it is made of the inputs, where that is known: then it may hold more tokens than there are ids.

    Raises:
        UnsupportedModelError: says what it is.
    """
    if (view.batch_first or _is_image(inputs)) and stream.shape[0] != inputs.shape[0]:
        reason = (
            "it packs its samples into one sequence: explain one sample at a time"
            if stream.shape[0] == 1
            else "it holds several sequences a sample: it attends within patches or windows, so that most tokens never "
            "meet; explain a model with global attention"
            if stream.shape[0] % inputs.shape[0] == 0 and stream.shape[1] != inputs.shape[0]
            else "tokens may come first only where nn.MultiheadAttention(batch_first=False) says so: wrap the blocks "
            "so that the batch comes first"
        )
        raise UnsupportedModelError(
            f"{view.name} carries a stream of shape {list(stream.shape)} for a batch of {inputs.shape[0]}; {reason}"
        )
    if _more_than_ids(inputs, stream) and depends is False:
        raise UnsupportedModelError(
            f"{view.name}: what enters the blocks that were found does not depend on the input; they belong to another "
            "part of the model (another tower?): name the blocks that the input goes through, blocks=[...]"
        )
    if _more_than_ids(inputs, stream) and not depends:
        raise UnsupportedModelError(
            f"{view.name}: the blocks found carry {stream.shape[1]} tokens for {inputs.shape[1]} ids, and whether "
            "these are the ids' could not be seen: name the right blocks, blocks=[...], or give embeddings "
            "[B, N, d] as inputs"
        )


def _more_than_ids(inputs: Tensor, stream: Tensor) -> bool:
    return not inputs.is_floating_point() and inputs.dim() == 2 and stream.shape[1] != inputs.shape[1]


def container_name(model: nn.Module, blocks: Sequence[nn.Module]) -> str | list[str]:
    """What to give as ``blocks=`` for these blocks: the name of the module that holds just them, or their names."""
    names = {module: name for name, module in model.named_modules()}
    for module, name in names.items():
        if name and list(module.children()) == list(blocks):
            return name
    return [names[block] for block in blocks]


def _check_repeats(view: TransformerView, inputs: Tensor, extra: Any, before: Tensor, layer: int) -> None:
    """Raise unless a second run gives the same latents [B, n, d] at a layer."""
    with explaining(view.model, gradients=False):
        again = stream_after(view, layer, inputs, extra)
    same = again.shape == before.shape and torch.allclose(
        again.float(), before.float(), rtol=1e-2 if before.dtype.itemsize < 4 else 1e-4, atol=1e-4, equal_nan=True
    )
    if not same:
        place = "the tokens that enter its first block" if layer == 0 else "its latents"
        raise UnsupportedModelError(
            f"{view.name} is not deterministic: two runs on the same input differ in {place} (patches drawn at random, "
            "dropout in evaluation mode?), so that no explanation is one of the run that is looked at. Switch the "
            "randomness off, or wrap the model in a module whose forward calls torch.manual_seed first"
        )


def say_what_is_left_out(
    view: TransformerView, model: nn.Module, outside: Sequence[OutsideAttention], chosen: bool
) -> None:
    """Warn of attention that no block holds; refuse, where the caller did not name the blocks.

    Raises:
        UnsupportedModelError: names the attention, and what to give as ``blocks=``.
    """
    if not outside:
        return
    parts = []
    for where, words in (("before", "before the first of them"), ("behind", "behind the last of them")):
        names = list(dict.fromkeys(each.module for each in outside if each.where == where))
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            parts.append(f"{len(names)} run {words} ({shown})")
    message = (
        f"{view.name}: the {len(view.blocks)} blocks that are followed do not hold all attention between the input and "
        f"what the model returns: {'; '.join(parts)}"
    )
    if chosen:
        warn_caller(f"{message}. Relevance is that of the tokens which enter the first of the blocks that were named")
        return
    raise UnsupportedModelError(
        f"{message}. Name the part that you mean, from the tokens that enter it on: "
        f"blocks={container_name(model, view.blocks)!r}"
    )


def _is_image(inputs: Tensor) -> bool:
    return inputs.dim() == 4 and inputs.is_floating_point()


def _random_states(device: torch.device) -> list[Any]:
    """The states of the generators that a model may draw from."""
    states = [torch.get_rng_state().tolist(), random.getstate()]
    return [*states, torch.cuda.get_rng_state(device).tolist()] if device.type == "cuda" else states
