"""The input of an explanation, checked before any model runs."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["check_batch_size", "checked_inputs"]


def check_batch_size(internal_batch_size: int | None) -> None:
    """Raise ``ValueError`` for less than one at a time; None leaves the number to a memory budget."""
    if internal_batch_size is not None and internal_batch_size < 1:
        raise ValueError(f"internal_batch_size must be at least 1 or None, got {internal_batch_size}")


def checked_inputs(inputs: Tensor | tuple[Tensor, ...], model: nn.Module) -> Tensor:
    """The one tensor to explain, out of its tuple.

    Args:
        inputs: images [B, C, H, W], ids [B, N], embeddings [B, N, d], or a 1-tuple of one.
        model: that will read it.

    Raises:
        ValueError, TypeError: say what was given and what is possible.
    """
    if isinstance(inputs, tuple):
        if len(inputs) != 1:
            raise ValueError(
                f"inputs: one tensor is explained, got a tuple of {len(inputs)}; give masks and other "
                "arguments of the model as additional_forward_args"
            )
        (inputs,) = inputs
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"inputs must be a tensor (images [B, C, H, W], ids [B, N], embeddings [B, N, d]), got "
            f"{type(inputs).__name__}"
        )
    if inputs.dim() < 2 or inputs.numel() == 0:
        raise ValueError(
            f"inputs of shape {list(inputs.shape)}: a non-empty batch is needed, images [B, C, H, W], ids "
            "[B, N] or embeddings [B, N, d]"
        )
    channels = {module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)}
    takes_images = getattr(model, "main_input_name", "pixel_values") == "pixel_values"
    if inputs.dim() == 3 and inputs.is_floating_point() and inputs.shape[0] in channels and takes_images:
        raise ValueError(
            f"inputs of shape {list(inputs.shape)} look like one image; add a batch dimension: inputs[None]"
        )
    if inputs.dim() == 4 and not inputs.is_floating_point():
        raise ValueError(
            f"images must be floating point, normalised as the model expects, got {inputs.dtype}: "
            "convert with images.float() / 255 and normalise by the model's mean and std"
        )
    return inputs
