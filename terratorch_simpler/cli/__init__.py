"""The command line: ``terratorch-simpler``."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from jsonargparse import ArgumentError, Namespace

from terratorch_simpler.cli.help import NAME
from terratorch_simpler.cli.mistakes import choose_command, plainly
from terratorch_simpler.cli.parser import build_parser
from terratorch_simpler.messages import one_line

MISTAKE = 2
"""Exit status for a mistake in what was typed or in a file that was named."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with status 2 and one message for a mistake of the user's."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    if not typed:
        # A script whose variable was empty must not go on as if something had been done.
        parser.print_help()
        _exit(f"{choose_command()} (see {NAME} --help)")
    try:
        options = parser.parse_args(typed)
    except ArgumentError as error:
        _exit(plainly(error, typed))
    command = import_module(f"terratorch_simpler.cli.{options.subcommand}")
    chosen: Namespace = options[options.subcommand]
    chosen.command_line = shlex.join([NAME, *typed])
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
            _exit(_message(error))
        except KeyboardInterrupt:
            if chosen.debug:
                raise
            _exit("interrupted", INTERRUPTED)


def _message(error: ValueError | OSError) -> str:
    # Errors of the system start with a number and name the file last.
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return one_line(error, most=2000)


def _exit(message: str, status: int = MISTAKE) -> NoReturn:
    print(f"{NAME}: error: {message}", file=sys.stderr)
    sys.exit(status)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Show our own warnings as one line; those of libraries are for --debug."""
    if category.__module__.startswith("terratorch_simpler"):
        print(f"warning: {message}", file=sys.stderr)
