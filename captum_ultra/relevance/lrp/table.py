"""Which rule covers which operation, by the operation's name: the whole of what relevance can pass.

What is not here is refused. The names are those that ``torch.add``, ``Tensor.add`` and
``torch.nn.functional.linear`` share with their other forms; in-place forms end in an underscore.
"""

from __future__ import annotations

__all__ = ["ACTIVATIONS", "FACTORS", "FOLLOWED", "PASSED", "POOLED", "PRODUCTS", "SCALINGS", "SUMS", "WEIGHTED"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Values are moved, not mixed: autograd's own backward pass routes relevance as it should.
FOLLOWED = _names("""
    __get__ __getitem__ __setitem__ adjoint as_strided atleast_1d atleast_2d atleast_3d bfloat16 broadcast_to cat chunk
    clone concat concatenate contiguous cpu cuda diagonal double dropout expand expand_as flatten flip float gather half
    hstack index_put index_select masked_fill masked_select moveaxis movedim narrow pad permute ravel repeat
    repeat_interleave requires_grad_ reshape reshape_as roll scatter select split split_with_sizes squeeze stack
    swapdims t take_along_dim tensor_split tile to transpose tril triu type type_as unbind unflatten unfold unsqueeze
    swapaxes unsafe_chunk unsafe_split view view_as vstack where zero_ copy_
""")

# f(x) with f(0) = 0, entry by entry: gates of their own input.
ACTIVATIONS = _names("celu elu gelu hardswish hardtanh leaky_relu mish prelu relu relu6 selu silu tanh")

# All relevance of the result goes to the one signal: normalisations and activations.
PASSED = ACTIVATIONS | _names("group_norm instance_norm layer_norm neg normalize rms_norm softmax")

# Constants take no relevance; two signals share.
SUMS = _names("add rsub __rsub__ sub subtract")
SCALINGS = _names("div divide mul multiply true_divide")

# One signal, constant weights.
WEIGHTED = _names("conv1d conv2d conv3d linear")

# Two signals share, or one with a constant matrix.
PRODUCTS = _names("__matmul__ __rmatmul__ addmm baddbmm bmm einsum matmul mm mv")

# A sum over entries of one signal.
POOLED = _names("adaptive_avg_pool1d adaptive_avg_pool2d avg_pool1d avg_pool2d mean sum")

# What a signal may be multiplied or divided by without sharing its relevance: gates and sizes.
FACTORS = _names("linalg_norm linalg_vector_norm norm rsqrt sigmoid sqrt vector_norm")
