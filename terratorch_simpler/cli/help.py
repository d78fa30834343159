"""How help is written: options in groups, an example, and defaults where they say something."""

from __future__ import annotations

import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

NAME = "terratorch-simpler"
Add = Callable[..., Any]
"""``add_argument`` of a group."""


class Help(DefaultHelpFormatter):
    """Says what an option is for, without its type, and its default unless that is nothing."""

    def _get_help_string(self, action: Action) -> str:
        said = action.help or ""
        tells = action.option_strings and not any(
            action.default is nothing for nothing in (None, False, True, SUPPRESS)
        )
        return f"{said} (default: %(default)s)" if tells else said

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # Paragraphs are filled; what is indented, as commands are, stays as it is.
        parts = text.split("\n\n")
        filled = [
            part if part.startswith(" ") else textwrap.fill(" ".join(part.split()), width)
            for part in parts
        ]
        return textwrap.indent("\n\n".join(filled), indent)


def command(what: str, usage: str, example: str, writes: str, epilog: str = "") -> ArgumentParser:
    """A parser of one command.

    Args:
        what: What it does.
        usage: How it is typed, in short: a line for each way.
        example: What is typed once.
        writes: What is written, and where.
        epilog: What is said after the options.
    """
    ways = [f"{NAME} {way}" for way in usage.split("\n")]
    return ArgumentParser(
        usage="\n       ".join(ways),
        description=f"{what}\n\n  {NAME} {example}\n\n{writes}",
        epilog=epilog,
        formatter_class=Help,
        exit_on_error=False,
    )


def group(parser: ArgumentParser, title: str) -> Add:
    """A group of options; gives what adds one to it."""
    add: Add = parser.add_argument_group(title).add_argument
    return add


def option_help(sentence: str) -> str:
    """The sentences of a docstring in the style of the other lines."""
    return f"{sentence[0].lower()}{sentence[1:]}".removesuffix(".").replace("``", "")
