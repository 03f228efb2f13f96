"""For the documentation's build: docstrings say ``Example:``, which griffe knows as ``Examples:`` only.

Under the name that it knows, examples are shown as code; under any other, as running text.
"""

from __future__ import annotations

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Rename the section while the sources are read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for every object of the package."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
