"""The package inside other tools: hooks for TransformerLens."""

from captum_ultra.integrations.transformer_lens import RelevanceHooks, relevance_hooks

__all__ = ["RelevanceHooks", "relevance_hooks"]
