"""What is said to a mistake in what was typed: plainly, and with a guess at what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from jsonargparse import ArgumentError

from terratorch_simpler.cli.help import NAME
from terratorch_simpler.cli.parser import COMMANDS
from terratorch_simpler.messages import one_line

_CHOICES = re.compile(
    r'Parser key "(?:\w+\.)?(\w+)": Expected a typing\.Literal\[(.*)\]\. Got value: (.*)'
)
"""What jsonargparse says where one of some words is expected: the option, the words, the value."""
_OR_NONE = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - (.*?)"
    r" - Expected a <class 'NoneType'> Given value type: .*? Given value: (.*)"
)
"""What it says where an option may be left out: what is expected, and the value."""
_UNKNOWN = re.compile(r"unrecognized arguments: --([^\s=.]+)")
_NO_COMMAND = re.compile(r".*invalid choice: '(.*?)' \(choose from .*\)")


def plainly(error: ArgumentError, arguments: Sequence[str]) -> str:
    """What to say to a mistake that the parser found.

    Args:
        error: What it raised.
        arguments: What was typed.
    """
    said = _CHOICES.sub(_choices, one_line(error, most=2000))
    said = _OR_NONE.sub(r"\1. Got value: \2", said)
    command = next((word for word in arguments if word in COMMANDS), None)
    unknown, no_command = _UNKNOWN.match(said), _NO_COMMAND.match(said)
    if command is None and no_command is not None:
        close = _closest(no_command[1], list(COMMANDS))
        way_out = f"did you mean {close}?" if close else choose_command()
        said = f"there is no command '{no_command[1]}': {way_out}"
    elif command is not None and unknown is not None:
        options = list(COMMANDS[command][0]().get_defaults().keys())
        close = _closest(unknown[1], options)
        if unknown[1] in options:
            said += f": it goes after {command}"
        elif close is not None:
            said += f": did you mean --{close}?"
    return f"{said} (see {' '.join([NAME, *([command] if command else []), '--help'])})"


def choose_command() -> str:
    """Which commands there are."""
    return f"name one of {', '.join(COMMANDS)}"


def _closest(typed: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(typed, known, n=1)), None)


def _choices(said: re.Match[str]) -> str:
    words = said[2].replace("'", "").split(", ")
    return f"{said[1]} must be {' or '.join(words)}, got '{said[3]}'"
