"""The explanations of a class written out: every attention map stored with its gradient, matrices multiplied.

Slow and explicit, independent of the package. A recording holds one graph of the whole run: maps A_b
[B, H, n, n], streams z_0 .. z_L [B, n, d]. ``score`` is the explained scalar summed over the samples of the batch
(they do not see each other), ``readout`` lists the tokens where it is read at the last layer, or holds a weight [B, n]
for each (:func:`read_by_gradient`). The papers know classifiers that read one token. Of a class read at many patches
what these keep to themselves is no part of the map (``patches``): a uniform offset that dwarfs everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.reference.recording import Recording

Readout = Sequence[int] | Tensor


def read_by_gradient(recording: Recording, score: Tensor, readout: Sequence[int]) -> Tensor:
    """Each token's part [B, n] of the gradient of a score, by lengths; none but those of the readout have any."""
    (gradient,) = torch.autograd.grad(score, recording.latents[-1], retain_graph=True)
    found = torch.zeros(gradient.shape[:2], dtype=gradient.dtype)
    for sample, of_tokens in enumerate(gradient):
        lengths = [float(token.square().sum().sqrt()) for token in of_tokens]
        assert {token for token, length in enumerate(lengths) if length > 0} == set(readout)
        found[sample] = torch.tensor(lengths, dtype=gradient.dtype) / sum(lengths)
    return found


def readout_row(matrix: Tensor, readout: Readout) -> Tensor:
    """The mean of the readout's rows of [B, n, n], weighted if it has weights: [B, n]."""
    if isinstance(readout, Tensor):
        return torch.stack([weights @ rows for weights, rows in zip(readout, matrix, strict=True)])
    return sum(matrix[:, token] for token in readout) / len(readout)  # type: ignore[return-value]


def without_own(total: Tensor, alone: Tensor, readout: Readout, patches: Sequence[int]) -> Tensor:
    """The row of a product [B, n, n] less, at patches, that of its residual connections alone, if several are read."""
    found, own = readout_row(total, readout), readout_row(alone, readout)
    if isinstance(readout, Tensor) and (readout > 0).sum() > len(readout):
        found[:, list(patches)] = found[:, list(patches)] - own[:, list(patches)]
    return found


def gradients(recording: Recording, score: Tensor) -> list[Tensor]:
    return [recording.by_head(each) for each in torch.autograd.grad(score, recording.maps, retain_graph=True)]


def maps(recording: Recording) -> list[Tensor]:
    return [recording.by_head(each.detach()) for each in recording.maps]


def raw_attention(recording: Recording, readout: Readout) -> Tensor:
    return readout_row(maps(recording)[-1].mean(1), readout)


def rollout(recording: Recording, readout: Readout, start: int = 0) -> Tensor:
    """Rows of A + I are divided by their sums, whatever these are."""
    product = None
    for attention in maps(recording)[start:]:
        matrix = attention.mean(1) + torch.eye(attention.shape[-1], dtype=attention.dtype)
        matrix = matrix / matrix.sum(-1, keepdim=True)
        product = matrix if product is None else matrix @ product
    return readout_row(product, readout)


def generic_attention(
    recording: Recording, score: Tensor, readout: Readout, start: int = 0, patches: Sequence[int] = ()
) -> Tensor:
    """R = I, then R <- R + cam R in every block, as the loop of the paper has it."""
    n = recording.latents[0].shape[1]
    relevance = torch.eye(n, dtype=recording.latents[0].dtype).expand(len(recording.latents[0]), n, n)
    for attention, gradient in list(zip(maps(recording), gradients(recording, score), strict=True))[start:]:
        cam = (gradient * attention).clamp(min=0).mean(1)
        relevance = relevance + cam @ relevance
    return without_own(relevance, torch.eye(n, dtype=relevance.dtype).expand_as(relevance), readout, patches)


def grad_cam(recording: Recording, score: Tensor, readout: Readout, patches: slice) -> Tensor:
    """The mean of the gradient is that over the keys which the row may attend to."""
    attention, gradient = maps(recording)[-1], gradients(recording, score)[-1]
    weighted = []
    for token in range(attention.shape[-1]):
        allowed = attention[:, :, token, patches] > 0
        weight = (gradient[:, :, token, patches] * allowed).sum(-1, keepdim=True) / allowed.sum(-1, keepdim=True)
        weighted.append((attention[:, :, token] * weight).mean(1))
    return readout_row(torch.stack(weighted, 1), readout).clamp(min=0)


def attcat(recording: Recording, score: Tensor) -> Tensor:
    total = torch.zeros(recording.latents[0].shape[:2], dtype=recording.latents[0].dtype)
    for stream, attention in zip(recording.latents[:-1], maps(recording), strict=True):
        (gradient,) = torch.autograd.grad(score, stream, retain_graph=True)
        activation = (gradient * stream.detach()).sum(-1)
        received = attention.mean(dim=(1, 2))
        total = total + activation * received
    return total


def legrad(recording: Recording, score_of_layer: Callable[[Tensor], Tensor]) -> Tensor:
    """``score_of_layer`` reads the class off any stream, by the model's own head."""
    found = []
    for index, attention in enumerate(recording.maps):
        score = score_of_layer(recording.latents[index + 1])
        (gradient,) = torch.autograd.grad(score, attention, retain_graph=True)
        allowed = recording.by_head(attention.detach()) > 0
        found.append((recording.by_head(gradient).clamp(min=0) * allowed).mean(dim=(1, 2)))
    return torch.stack(found).mean(0)


Parts = Callable[[int, Tensor], tuple[Tensor, Tensor, Tensor]]


def token_tm(
    recording: Recording, score: Tensor, readout: Readout, parts: Parts, *, length: bool = True,
    necc: bool = True, scale: float = 1.0, first_blocks: int | None = None, last_only: bool = False,
    patches: Sequence[int] = (),
) -> Tensor:  # fmt: skip
    """C <- U C over attention and feed-forward sublayers, every matrix written out.

    Args:
        parts: (block, stream below it [B, n, d]) -> E~ of every head [B, H, n, d], the stream between the sublayers,
            and E~ of the feed-forward part [B, n, d].
        scale: of NECC.
        first_blocks: how many blocks take part.
        last_only: the last block alone takes part.
        patches: as in :func:`without_own`.
    """
    used = list(range(len(recording.maps)))
    used = used[-1:] if last_only else used[:first_blocks]
    dtype = recording.latents[0].dtype
    batch, n = recording.latents[0].shape[:2]
    eye = torch.eye(n, dtype=dtype)
    da = gradients(recording, score)

    def weights(stream: Tensor, added: Tensor) -> Tensor:
        """[B, n] of one head or of the feed-forward part."""
        w = torch.ones(batch, n, dtype=dtype)
        if length:
            w = w * added.norm(dim=-1) / stream.norm(dim=-1)
        if necc:
            w = w * torch.softmax(torch.cosine_similarity(stream, added, dim=-1), dim=-1) * scale
        return w

    total = alone = torch.diag_embed(recording.latents[used[0]].detach().norm(dim=-1))
    with torch.no_grad():
        for block in used:
            stream = recording.latents[block]
            by_head, middle, feed_forward = parts(block, stream)
            cams = []
            for head in range(by_head.shape[1]):
                attention = recording.by_head(recording.maps[block])[:, head]
                transformed = attention @ torch.diag_embed(weights(stream, by_head[:, head]))
                cams.append(da[block][:, head].clamp(min=0) * transformed)
            total = (eye + torch.stack(cams).mean(0)) @ total
            total, alone = ((eye + torch.diag_embed(weights(middle, feed_forward))) @ each for each in (total, alone))
    return without_own(total, alone, readout, patches)
