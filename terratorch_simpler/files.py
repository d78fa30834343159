"""Writing results: whole or not at all, and never over something that is already there."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


def check_free(paths: list[Path], overwrite: bool, option: str = "overwrite=True") -> None:
    """Refuse to go on where a file to be written exists already.

    Args:
        paths: Files about to be written.
        overwrite: True if the user asked to replace them.
        option: How the user asks for that, for the message.

    Raises:
        FileExistsError: If one exists and ``overwrite`` is False.
    """
    existing = [str(path) for path in paths if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(
            f"{', '.join(existing)} already there: choose another place, or replace with {option}"
        )


def make_folder(folder: Path) -> None:
    """Create a folder (with parents) that files can be written to.

    Raises:
        ValueError: If it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"cannot write to the folder {folder} ({error.strerror}): choose another one"
        ) from error


@contextlib.contextmanager
def results_folder(folder: Path) -> Iterator[None]:
    """As :func:`make_folder`; a folder made here goes again if what follows fails before it writes.

    Raises:
        ValueError: As :func:`make_folder`.
    """
    existed = folder.exists()
    make_folder(folder)
    try:
        yield
    except BaseException:
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def write_files(files: Mapping[Path, str | bytes], overwrite: bool = False) -> None:
    """Write several files, all of them or none.

    Everything is written beside its destination first; only when all of it is on disk do the
    files get their names.

    Args:
        files: Destination and content of each file.
        overwrite: Replace files that exist.

    Raises:
        FileExistsError: If a file exists and ``overwrite`` is False.
        OSError: If writing fails (a full disk, say); nothing is left behind.
    """
    check_free(list(files), overwrite)
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder is in the way", str(path))
    staged: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            staged[path] = Path(name)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp is private to the user; results get what any new file would.
            staged[path].chmod(0o666 & ~_umask())
        for path, temporary in staged.items():
            temporary.replace(path)
    except OSError as error:
        raise OSError(
            error.errno, f"could not write ({error.strerror}); nothing was left behind", str(path)
        ) from error
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
