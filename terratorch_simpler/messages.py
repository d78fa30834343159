"""Messages of other libraries, fit for one line of ours."""

from __future__ import annotations


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
