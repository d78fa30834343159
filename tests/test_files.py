from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from terratorch_simpler.files import results_folder, staged, write_files

FailFrom = Callable[[int, int], None]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_written_as_given(tmp_path: Path) -> None:
    write_files({tmp_path / "a.txt": "text é\n", tmp_path / "b.bin": b"\x00\xff"})
    assert (tmp_path / "a.txt").read_bytes() == "text é\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
    assert names_in(tmp_path) == ["a.txt", "b.bin"]


def test_files_get_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_files({tmp_path / "a.txt": "text"})
    (tmp_path / "b.txt").write_text("text")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b.txt")]
    assert modes[0] == modes[1]


def test_one_file_that_exists_keeps_all_from_being_written(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"b\.txt already there"):
        write_files({tmp_path / "a.txt": "new", tmp_path / "b.txt": "new"})
    assert names_in(tmp_path) == ["b.txt"]
    assert (tmp_path / "b.txt").read_text() == "mine"


@pytest.fixture
def disk_full_at_second_file(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.usefixtures("disk_full_at_second_file")
def test_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match=r"could not write .*space.*nothing was left behind"
    ) as caught:
        write_files({tmp_path / "a.txt": "new", tmp_path / "b.txt": "new"})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "b.txt")
    assert names_in(tmp_path) == []


@pytest.mark.usefixtures("disk_full_at_second_file")
def test_full_disk_leaves_old_files_untouched(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("old")
    with pytest.raises(OSError, match="nothing was left behind"):
        write_files(dict.fromkeys(paths, "new"), overwrite=True)
    assert [path.read_text() for path in paths] == ["old", "old"]
    assert names_in(tmp_path) == ["a.txt", "b.txt"]


def test_folder_in_the_way_of_one_file_leaves_the_others_untouched(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(OSError, match=r"b\.txt"):
        write_files({tmp_path / "a.txt": "new", tmp_path / "b.txt": "new"}, overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "old"


def test_missing_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"could not write .*gone.*plan\.json"):
        write_files({tmp_path / "gone" / "plan.json": "new"})


def test_writing_leaves_the_umask_of_other_threads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def umask(_mask: int) -> int:
        raise AssertionError("the umask belongs to the whole process")

    monkeypatch.setattr(os, "umask", umask)
    write_files({tmp_path / "a.txt": "text"})


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_files({tmp_path / "a.txt": "text"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


@pytest.fixture
def replacing_fails(monkeypatch: pytest.MonkeyPatch) -> FailFrom:
    """Lets replacements fail from one on, up to another (from 1 on)."""
    calls: list[Path] = []
    replace = Path.replace

    def fail(first: int, last: int) -> None:
        def failing(self: Path, target: Path) -> Path:
            calls.append(target)
            if first <= len(calls) <= last:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(self))
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", failing)

    return fail


def test_new_files_go_again_where_a_later_one_cannot_get_its_name(
    tmp_path: Path, replacing_fails: FailFrom
) -> None:
    replacing_fails(2, 2)
    with pytest.raises(OSError, match=r"nothing was left behind.*b\.txt") as caught:
        write_files({tmp_path / name: "new" for name in ("a.txt", "b.txt", "c.txt")})
    assert caught.value.errno == errno.EACCES
    assert names_in(tmp_path) == []


def test_old_files_come_back_where_a_later_one_cannot_be_replaced(
    tmp_path: Path, replacing_fails: FailFrom
) -> None:
    """One of the replaced files was there before, one was not."""
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for path in (paths[0], paths[2]):
        path.write_text("old")
    paths[0].chmod(0o640)
    replacing_fails(3, 3)
    with pytest.raises(OSError, match="nothing was left behind"):
        write_files(dict.fromkeys(paths, "new"), overwrite=True)
    assert names_in(tmp_path) == ["a.txt", "c.txt"]
    assert [path.read_text() for path in (paths[0], paths[2])] == ["old", "old"]
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o640


def test_a_link_comes_back_as_a_link(tmp_path: Path, replacing_fails: FailFrom) -> None:
    (tmp_path / "a.txt").symlink_to("nowhere")
    replacing_fails(2, 2)
    with pytest.raises(OSError, match="nothing was left behind"):
        write_files(dict.fromkeys([tmp_path / "a.txt", tmp_path / "b.txt"], "new"), overwrite=True)
    assert names_in(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").readlink() == Path("nowhere")


def test_what_cannot_be_put_back_is_told_and_kept(
    tmp_path: Path, replacing_fails: FailFrom
) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("old")
    replacing_fails(2, 3)
    with pytest.raises(OSError, match=r"a\.txt is new and could not be put back") as caught:
        write_files(dict.fromkeys(paths, "new"), overwrite=True)
    (kept,) = (path for path in tmp_path.iterdir() if path not in paths)
    assert str(kept) in str(caught.value)
    assert [path.read_text() for path in (*paths, kept)] == ["new", "old", "old"]


def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = Path.replace, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files({tmp_path / "a.txt": "new", tmp_path / "b.txt": "new"})
    assert names_in(tmp_path) == []


def test_files_that_were_replaced_leave_no_copies(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("old")
    write_files(dict.fromkeys(paths, "new"), overwrite=True)
    assert names_in(tmp_path) == ["a.txt", "b.txt"]
    assert [path.read_text() for path in paths] == ["new", "new"]


def test_every_folder_made_for_results_goes_again_when_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt), results_folder(tmp_path / "there" / "a" / "b"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_folder_that_holds_something_stays_when_a_run_fails(tmp_path: Path) -> None:
    def fail() -> None:
        (tmp_path / "a" / "mine.txt").write_text("mine")
        raise ValueError("later")

    with pytest.raises(ValueError, match="later"), results_folder(tmp_path / "a" / "b"):
        fail()
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "mine.txt"}


def test_what_is_exchanged_comes_back_where_a_later_one_cannot_get_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("out.txt", "out.json"):
        (tmp_path / name).write_text("mine")
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(target)
        # Both were moved away, and one of the new ones has its name.
        if len(calls) == 4:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return rename(self, target)

    def write() -> None:
        with staged(tmp_path / "out.txt", overwrite=True) as folder:
            (folder / "out.txt").write_text("new")
            (folder / "out.json").write_text("new")

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(PermissionError):
        write()
    assert names_in(tmp_path) == ["out.json", "out.txt"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}
