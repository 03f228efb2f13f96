"""A graph in which a model is a linear map of its tokens: attention, scales of norms and gates are constants.

Its gradients, times the tokens, are an account of what is explained: every token contributes what it sends along
the map, and contributions and biases add up to the whole.

- Attention probabilities are constants (``attention="constant"``), or both factors of every product take half of its
  relevance and the softmax has its ordinary gradient (``"halves"``).
- The standard deviation or root mean square of a normalisation is a constant (Ali et al., ICML 2022, section 4).
- An activation has its ordinary gradient (``gates="gradient"``), or is a gate, act(x) = x * constant. Of a gated
  product the gate is a constant factor (``"constant"``), or both factors take half (``"halves"``).
- Where a branch u joins the stream x, ``y = x + u``, each has the share ``w(x) x / (w(x) x + w(u) u)``, entry by entry,
  with ``w(t) = 1 + gamma [t y > 0]``: what agrees with the sum counts more (residual-weighted relevance; gamma = 0 is
  the ordinary gradient). The skip is a use of x of its own: the branch's use of x is not reweighted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import lean
from captum_ultra.relevance.attention import FusedAttention
from captum_ultra.relevance.calls import SOFTMAX, WITHOUT_HEADS, AttentionCall, is_over_keys
from captum_ultra.relevance.lrp import shares, table
from captum_ultra.relevance.lrp.factored import factored, two_factored
from captum_ultra.relevance.lrp.factors import guarded
from captum_ultra.relevance.lrp.interception import OperationGraph
from captum_ultra.relevance.lrp.linear_norms import LINEAR_NORMS
from captum_ultra.relevance.lrp.operation import Operation, is_signal, tensors_in
from captum_ultra.relevance.nested import first_tensor
from captum_ultra.relevance.projections import Projections
from captum_ultra.relevance.threads import in_this_thread
from captum_ultra.relevance.trace import Trace

__all__ = ["LinearRules", "Linearisation"]

_SCALES = {"rsqrt", "sqrt"}  # of norms that models write themselves
STREAM, GATE = "stream", "gate"
_BATCH_NORMS = {F.batch_norm, torch.batch_norm}  # their scale is a constant in evaluation mode
_SCALING = {"normalize", "clamp", "clip"}
_LINEAR = (
    table.WEIGHTED | table.POOLED | table.SCALINGS | {"neg", "grouped_mm", "_grouped_mm"}
)  # experts are linear layers
_ADDING = {"addmm", "baddbmm", "addbmm", "addcmul", "addmv", "lerp"}


@dataclass(frozen=True)
class LinearRules:
    """Which parts of a model are constants, and how the stream shares; see the module's description.

    Attributes:
        attention: "constant" or "halves".
        gates: "gradient", "constant" or "halves".
        gamma: of the residual sums, at least 0.

    Raises:
        ValueError: for a name that does not exist, or a gamma below zero.
    """

    attention: str = "constant"
    gates: str = "gradient"
    gamma: float = 0.0

    def __post_init__(self) -> None:
        possible = {"attention": ("constant", "halves"), "gates": ("gradient", "constant", "halves")}
        for name, names in possible.items():
            if getattr(self, name) not in names:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; possible: {', '.join(map(repr, names))}")
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma={self.gamma!r}: the weight of what agrees with a sum is 1 + gamma, gamma >= 0")


class Linearisation(OperationGraph):
    """The graph of a run in which a model is a linear map of its tokens.

    Args:
        model: the model that runs.
        rules: what is constant in it.
    """

    def __init__(self, model: nn.Module, rules: LinearRules) -> None:
        super().__init__(model)
        self.rules = rules
        self.trace: Trace
        self._projections = Projections()
        self._norms = 0  # normalisations met so far
        self._plain = 0  # inside modules that are taken as a whole
        self._hooks = ExitStack()

    def __enter__(self) -> Linearisation:
        super().__enter__()
        if self._depth == 1:
            for module in self.model.modules():
                if "norm" in type(module).__name__.lower():
                    self._watch(module, self._check_norm)
                elif self.rules.gates != "gradient" and _is_activation(module):
                    self._watch(module, self._gated, plain=True)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._depth == 1:
            self._hooks.close()
        super().__exit__(*error)

    def begin(self, trace: Trace, stream: Tensor) -> Tensor:
        self.trace = trace
        signal = self.cut(trace.first, stream.detach(), keep=True)
        self.batch = len(stream)
        return signal

    def enter(self, index: int, block: nn.Module, stream: Tensor) -> None:
        super().enter(index, block, stream)
        self.kinds[stream] = STREAM

    def leave(self, trace: Trace, index: int, block: nn.Module, stream: Tensor, wanted: bool) -> Tensor:
        self.block = None
        trace.widest = max(trace.widest, self._projections.widest)
        self._projections.forget()
        self.check_seen(stream)
        return self.cut(index + 1, stream, wanted)

    def cut(self, layer: int, stream: Tensor, keep: bool) -> Tensor:
        """Cut the run at the stream of a layer, which may be kept; returns the signal that it goes on with."""
        paused, self.paused = self.paused, True
        try:
            signal = self.trace.cut(layer, stream, keep=keep)
            self.learn(signal)
        finally:
            self.paused = paused
        self.kinds[signal] = STREAM
        return signal

    def check_known(self, op: Operation) -> None:
        if self.rules.gates != "gradient":  # else whatever it was has its ordinary gradient
            super().check_known(op)

    def ruled(self, op: Operation) -> Any:
        name, func, gates = op.name, op.func, self.rules.gates
        if self._plain:
            return op.run()
        if func is F.scaled_dot_product_attention:
            return self._attention(op)
        if func in SOFTMAX:
            return self._softmax(op)
        if func in LINEAR_NORMS or name in _SCALES or func in _BATCH_NORMS:
            return self._norm(op)
        if name in table.FOLLOWED:
            return self.followed(op)
        if name in table.SUMS:
            return self._sum(op)
        if name in table.PRODUCTS:
            return self._product(op)
        if gates != "gradient":
            if name in table.ACTIVATIONS and len(op.signals) == 1:
                return self._gate(op.signals[0], op.run())
            if name in _SCALING and len(op.signals) == 1:
                return _proportional(op.signals[0], op.run())
            if name in table.SCALINGS:
                return self._scaled(op)
            if name in table.FACTORS:  # a gate or a length that something is multiplied or divided by
                return op.run().detach()
        if self.rules.gamma and name in _ADDING and self.kinds.get(next(tensors_in(op.args))) == STREAM:
            op.refuse("adds to the residual stream in one step with a product, which hides the two parts of the sum")
        if gates == "gradient" or name in _LINEAR:
            result = lean.called(func, op.args, op.kwargs)
            self._projections.called(func, op.args, op.kwargs, result)
            return result
        # It may lie where no gradient comes by, in front of a constant; elsewhere it is refused by name.
        return guarded(op, "is covered by no rule of linear maps (gates='gradient' takes its ordinary gradient)")

    def _attention(self, op: Operation) -> Tensor:
        call, shape = AttentionCall.of(*op.args, **op.kwargs).by_head(self.batch)
        if call.dropout > 0:
            op.refuse("is random in evaluation mode: set the dropout to 0")
        if call.query.dim() != 4:
            op.refuse(WITHOUT_HEADS)
        constant = self.rules.attention == "constant"
        if not constant and call.mask is not None and is_signal(call.mask):
            op.refuse("hides a bias that depends on what is explained: load the model with eager attention")
        shares = (1.0, 1.0, 1.0) if constant else (0.25, 0.25, 0.5)
        crossing = FusedAttention(call, self._projections, constant=constant, shares=shares)
        return self.trace.cuts.fresh_attention(crossing.attend(), crossing, None).reshape(shape)

    def _softmax(self, op: Operation) -> Tensor:
        result: Tensor = op.run()
        if is_over_keys(result, op.args, op.kwargs):
            return result.detach() if self.rules.attention == "constant" else result
        return result if self.rules.gates == "gradient" else result.detach()  # the weights of experts

    def _norm(self, op: Operation) -> Tensor:
        self._norms += 1
        if op.name in _SCALES:
            return op.run().detach()
        result: Tensor = op.run() if op.func in _BATCH_NORMS else LINEAR_NORMS[op.func](*op.args, **op.kwargs)
        self.kinds_follow(op.signals[:1], result)  # between two blocks of a post-norm model
        return result

    def _sum(self, op: Operation) -> Tensor:
        left, right, signs = shares.summands(op)
        streams = [self.kinds.get(each) == STREAM for each in (left, right) if isinstance(each, Tensor)]
        result: Tensor = op.run()
        two = is_signal(left) and is_signal(right) and left is not right
        if self.rules.gamma and any(streams) and two and left.shape == right.shape:  # a mean taken off is no branch
            x, u = (sign * each.detach() for sign, each in zip(signs, (left, right), strict=True))
            factors = residual_factors(x, u, self.rules.gamma)
            result = two_factored(result, left, right, *(s * f for s, f in zip(signs, factors, strict=True)))
        if any(streams):
            self.kinds[result] = STREAM
        return result

    def _product(self, op: Operation) -> Any:
        _, left, right = shares.factors(op)
        if self.rules.attention == "halves" and is_signal(left) and is_signal(right):
            halves = [factored(each, each.detach(), 0.5) for each in (left, right)]
            other = {id(left): halves[0], id(right): halves[1]}
            return op.with_signals(*(other.get(id(each), each) for each in op.signals))
        return op.run()

    def _scaled(self, op: Operation) -> Tensor:
        left, right, _ = shares.summands(op)
        if not (is_signal(left) and is_signal(right)):
            return self.followed(op)
        if op.name not in ("mul", "multiply"):
            op.refuse("divides two signals, which no rule of linear maps covers")
        gates = [self.kinds.get(each) == GATE for each in (left, right)]
        if self.rules.gates == "constant" and gates[0] != gates[1]:
            return left.detach() * right if gates[0] else left * right.detach()
        return two_factored(op.run(), left, right, right.detach() / 2, left.detach() / 2)

    def _gate(self, x: Tensor, result: Tensor) -> Tensor:
        gate = _proportional(x, result)
        self.kinds[gate] = GATE
        return gate

    def _watch(self, module: nn.Module, after: Callable[[nn.Module, Any, Any, int], Any], plain: bool = False) -> None:
        """Hooks around a module; ``after`` is told how many normalisations had been met before it."""
        met: list[int] = []

        def enter(*_: Any) -> None:
            met.append(self._norms)
            self._plain += plain

        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            self._plain -= plain
            self.paused = True
            try:
                return after(module, args, output, met.pop())
            finally:
                self.paused = False

        self._hooks.callback(module.register_forward_pre_hook(in_this_thread(enter)).remove)
        self._hooks.callback(module.register_forward_hook(in_this_thread(leave)).remove)

    def _check_norm(self, module: nn.Module, args: tuple[Any, ...], output: Any, before: int) -> None:
        result = first_tensor(output) if self.batch else None
        if before == self._norms and result is not None and is_signal(result):
            raise UnsupportedModelError(
                f"{type(module).__name__} computes its normalisation in a way that cannot be followed (a kernel of its "
                "own, or operations beside layer_norm, rms_norm, group_norm and rsqrt): replace it by nn.LayerNorm or "
                "nn.RMSNorm with the same weights"
            )

    def _gated(self, module: nn.Module, args: tuple[Any, ...], output: Any, before: int) -> Any:
        x = first_tensor(args)
        if x is None or not is_signal(x) or not self.batch:
            return None
        gate = self._gate(x, output)
        self.learn(gate)
        return gate


def _proportional(x: Tensor, result: Tensor) -> Tensor:
    """A function of x, entry by entry, as x times a constant; where x is zero, any constant will do."""
    value = result.detach()
    return factored(x, value, torch.where(x == 0, 0.5, value / x.detach().where(x != 0, 1.0)))


def residual_factors(x: Tensor, u: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """What the gradient of ``y = x + u`` is multiplied by on its way to x and to u; ``x a + u b = y``.

    Example:
        >>> residual_factors(torch.tensor([3.0, 3.0]), torch.tensor([1.0, -1.0]), gamma=1.0)    # y is 4 and 2
        (tensor([1.0000, 0.8000]), tensor([1.0000, 0.4000]))
    """
    x, u = torch.broadcast_tensors(x, u)
    y = x + u
    w_x, w_u = (1 + gamma * (each * y > 0).to(y) for each in (x, u))
    total = w_x * x + w_u * u
    ratio = torch.where(total == 0, 1.0, y / total.where(total != 0, 1.0))
    return w_x * ratio, w_u * ratio


def _is_activation(module: nn.Module) -> bool:
    """Whether a module maps every number by itself, zero to zero, and is no identity: tried on a few."""
    if next(module.parameters(), None) is not None or next(module.buffers(), None) is not None:
        return False
    if next(module.children(), None) is not None:
        return False
    probe = torch.tensor([[0.0, -1.5, 0.5], [1.0, 2.0, -0.25]])
    with torch.no_grad():
        try:
            whole, part = module.forward(probe), module.forward(probe[:, :1])
        except Exception:
            return False
    if not isinstance(whole, Tensor) or whole.shape != probe.shape or torch.equal(whole, probe):
        return False
    return torch.equal(whole[:, :1], part) and bool(whole[0, 0] == 0)
