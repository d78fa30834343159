"""What a user is told: how it goes, and the errors of other libraries in one line of ours."""

from __future__ import annotations


class Reporter:
    """Speaks to whoever calls: nothing is said, and options are named as in Python.

    Attributes:
        command: The command line as it was typed; None from Python.
    """

    command: str | None = None

    def say(self, line: str) -> None:
        """Tell how it goes."""

    def option(self, name: str, value: object = None) -> str:
        """How an option is written, with its value if one is given."""
        return name if value is None else f"{name}={value!r}"


def one_line(error: BaseException, most: int = 500) -> str:
    """What an exception says, without line breaks and not too long; its class if it says nothing.

    Args:
        error: Any exception. Where rasterio only points to the exception before, that one is used.
        most: Characters to keep.
    """
    if "See previous exception" in str(error) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most].rstrip()} ..."
