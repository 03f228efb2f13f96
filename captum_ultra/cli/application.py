"""The application that commands join, and how it tells a user's mistake."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

__all__ = ["INCOMPLETE", "LatentScore", "Method", "Score", "app"]

_BAD_INPUT = 2
INCOMPLETE = 1
"""The exit code when some pictures were passed over."""
# What click raises for a wrong option; typer carries click inside itself or beside, by version.
_UsageError: Any = typer.BadParameter.__mro__[1]


class Score(str, Enum):
    """The scores that have a name (in Python, vectors and callables are possible as well)."""

    sum = "sum"
    energy = "energy"


Method = Annotated[
    str, typer.Option(help="By which method: ultra, residual, rollout, ...; an unknown name is answered with all.")
]
"""The option that names a method of latent tokens."""
LatentScore = Annotated[
    Score | None, typer.Option(help="Scalar of the latent that is explained; the package's default if not given.")
]


class OneLineErrors(TyperGroup):
    """Tell a user's mistake in one line on stderr, with exit code 2, instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if not _is_bad_input(error):
                raise
            message = error.format_message() if isinstance(error, _UsageError) else str(error)
        typer.echo(f"captum-ultra: {' '.join(message.split())}", err=True)
        raise typer.Exit(_BAD_INPUT)


def _is_bad_input(error: Exception) -> bool:
    from captum_ultra.errors import MissingExtraError, UnsupportedModelError
    from captum_ultra.models.loader import ModelNotAvailableError

    # No other TypeError: options have their types before a command runs, so that it would be a mistake of the program.
    mistakes = _UsageError | ValueError | UnsupportedModelError | OSError | ModelNotAvailableError | MissingExtraError
    return isinstance(error, mistakes) and not isinstance(error, BrokenPipeError)  # the reader has seen enough


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Explain the latent tokens of transformers: which input made a token what it is.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"captum-ultra {version('captum_ultra')}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
