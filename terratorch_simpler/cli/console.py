"""How the command line speaks: on a console, with options as they are typed."""

from __future__ import annotations

from rich.console import Console

from terratorch_simpler.messages import Reporter


class ConsoleReporter(Reporter):
    """Prints how it goes.

    Args:
        console: Where.
        command: The command line as it was typed.
    """

    def __init__(self, console: Console, command: str) -> None:
        self._console, self.command = console, command

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line)

    def option(self, name: str, value: object = None) -> str:
        """How an option is typed; one that is on has no value."""
        return f"--{name}" if value is None or value is True else f"--{name} {value}"
