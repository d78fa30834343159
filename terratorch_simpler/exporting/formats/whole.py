"""Files of torch, written at once: on a full disk its own writer fails, and ends the process."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, save: Callable[[BinaryIO], None]) -> None:
    """Write a file that torch makes in memory.

    Args:
        path: The file.
        save: Writes it to what it is given.

    Raises:
        OSError: If it cannot be written (a full disk, say).
    """
    made = io.BytesIO()
    save(made)
    path.write_bytes(made.getbuffer())
