"""The command line: ``terratorch-simpler``."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from jsonargparse import ArgumentError, Namespace

from terratorch_simpler.cli.parser import build_parser
from terratorch_simpler.messages import one_line

MISTAKE = 2
"""Exit status for a mistake in what was typed or in a file that was named."""
_CHOICES = re.compile(
    r'Parser key "(?:\w+\.)?(\w+)": Expected a typing\.Literal\[(.*)\]\. Got value: (.*)'
)
"""What jsonargparse says where one of some words is expected: the option, the words, the value."""
_OR_NONE = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - (.*?)"
    r" - Expected a <class 'NoneType'> Given value type: .*? Given value: (.*)"
)
"""What it says where an option may be left out: what is expected, and the value."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with status 2 and one message for a mistake of the user's."""
    try:
        options = build_parser().parse_args(arguments)
    except ArgumentError as error:
        said = _CHOICES.sub(_choices, one_line(error, most=2000))
        said = _OR_NONE.sub(r"\1. Got value: \2", said)
        _exit(f"{said} (see --help)")
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
            _exit(_message(error))


def _choices(said: re.Match[str]) -> str:
    words = said[2].replace("'", "").split(", ")
    return f"{said[1]} must be {' or '.join(words)}, got '{said[3]}'"


def _message(error: ValueError | OSError) -> str:
    # Errors of the system start with a number and name the file last.
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return one_line(error, most=2000)


def _exit(message: str) -> NoReturn:
    print(f"terratorch-simpler: error: {message}", file=sys.stderr)
    sys.exit(MISTAKE)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Show our own warnings as one line; those of libraries are for --debug."""
    if category.__module__.startswith("terratorch_simpler"):
        print(f"warning: {message}", file=sys.stderr)
