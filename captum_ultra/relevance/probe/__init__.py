"""Whether a chain of blocks is what explanations take it for: found out once, by one run and its gradients."""

from captum_ultra.relevance.probe.chain import examine
from captum_ultra.relevance.probe.leaf import InputLeaf
from captum_ultra.relevance.probe.outside import Named, OutsideAttention

__all__ = ["InputLeaf", "Named", "OutsideAttention", "examine"]
