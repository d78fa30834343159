"""Writing results: whole or not at all, and never over something that is already there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
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
    """As :func:`make_folder`; what is made here goes again if what follows fails before it writes.

    Raises:
        ValueError: As :func:`make_folder`.
    """
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        make_folder(folder)
        yield
    except BaseException:
        for part in made:
            # One that holds something, or was never made, stays as it is.
            with contextlib.suppress(OSError):
                part.rmdir()
        raise


def write_files(files: Mapping[Path, str | bytes], overwrite: bool = False) -> None:
    """Write several files, all of them or none.

    Everything is written beside its destination first; only when all of it is on disk do the
    files get their names. Where that fails half-way, the files that were replaced are put back.

    Args:
        files: Destination and content of each file.
        overwrite: Replace files that exist.

    Raises:
        FileExistsError: If a file exists and ``overwrite`` is False.
        OSError: If writing fails (a full disk, say); nothing is left behind, or it is said what.
    """
    check_free(list(files), overwrite)
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder is in the way", str(path))
    staged: dict[Path, Path] = {}
    earlier: dict[Path, Path] = {}
    replaced: list[Path] = []
    try:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            # Opened as any new file, so that it gets the permissions of one.
            with _beside(path).open("xb") as stream:
                staged[path] = Path(stream.name)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        # The last file needs no copy: it is replaced at once, or not.
        for path in list(files)[:-1]:
            if path.is_symlink() or path.exists():
                earlier[path] = _beside(path)
                shutil.copy2(path, earlier[path], follow_symlinks=False)
        for path, temporary in staged.items():
            temporary.replace(path)
            replaced.append(path)
    except BaseException as error:
        left = _put_back(replaced, earlier)
        if not isinstance(error, OSError):
            raise
        told = "; ".join(left) or "nothing was left behind"
        raise OSError(
            error.errno, f"could not write ({error.strerror}); {told}", str(path)
        ) from error
    finally:
        for temporary in (*staged.values(), *earlier.values()):
            temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A hidden name in the same folder that nobody else takes."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _put_back(replaced: list[Path], earlier: dict[Path, Path]) -> list[str]:
    """Undo what was replaced: a sentence for each file for which that fails.

    Args:
        replaced: Files that have their new content.
        earlier: Copies of those that were there before; what could not be put back is taken out.
    """
    left = []
    for path in replaced:
        try:
            if path in earlier:
                earlier[path].replace(path)
            else:
                path.unlink()
        except OSError as error:
            kept = f", what was there is {earlier.pop(path)}" if path in earlier else ""
            left.append(f"{path} is new and could not be put back ({error.strerror}){kept}")
    return left


def _exchange(places: Mapping[Path, Path], folder: Path) -> None:
    """Give what is in a hidden folder its place; what was there goes into it, or comes back."""
    earlier = folder / secrets.token_hex(4)
    earlier.mkdir()
    moved: list[Path] = []
    try:
        for place in places.values():
            if place.exists():
                place.rename(earlier / place.name)
                moved.append(place)
        for path, place in places.items():
            path.rename(place)
    except BaseException:
        for path, place in places.items():
            if not path.exists():
                place.rename(path)
        for place in moved:
            (earlier / place.name).rename(place)
        raise


@contextlib.contextmanager
def staged(output: Path, overwrite: bool, option: str = "overwrite=True") -> Iterator[Path]:
    """A hidden folder for results too large to be held; what it holds moves beside ``output``.

    Files and folders in it get their places when all of it went well, and nothing is left when it
    did not.

    Args:
        output: The file or folder that is written, as ``NAME`` in the hidden folder.
        overwrite: Replace what is there.
        option: How the user asks for that, for the message.

    Yields:
        The hidden folder.

    Raises:
        FileExistsError: If something in the way exists and ``overwrite`` is False.
        ValueError: If the folder of ``output`` cannot be written to.
    """
    check_free([output], overwrite, option)
    with results_folder(output.parent):
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        try:
            yield folder
            places = {path: output.parent / path.name for path in folder.iterdir()}
            check_free([*places.values()], overwrite, option)
            _exchange(places, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
