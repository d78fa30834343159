"""The command line: ``terratorch-simpler``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from terratorch_simpler.cli.parser import build_parser

if TYPE_CHECKING:
    from jsonargparse import Namespace

MISTAKE = 2
"""Exit status for a mistake in what was typed or in a file that was named."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with status 2 and one message for a mistake of the user's."""
    options = build_parser().parse_args(arguments)
    command = import_module(f"terratorch_simpler.cli.{options.subcommand}")
    chosen: Namespace = options[options.subcommand]
    with warnings.catch_warnings():
        if not chosen.debug:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", module="terratorch_simpler")
            warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            command.run(chosen)
        except (ValueError, OSError) as error:
            if chosen.debug:
                raise
            print(f"terratorch-simpler: error: {error}", file=sys.stderr)
            sys.exit(MISTAKE)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Show our own warnings as one line; those of libraries are for --debug."""
    if category.__module__.startswith("terratorch_simpler"):
        print(f"warning: {message}", file=sys.stderr)
