from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from terratorch_simpler.predicting.partial import PartialMap

STRIP = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)


def test_strips_are_found_again(tmp_path: Path) -> None:
    first = PartialMap(tmp_path / "new" / "map.tif", {"model": "a"})
    assert (first.finished(), first.discarded) == (0, False)
    first.keep(0, STRIP)
    first.keep(1, STRIP + 1)
    again = PartialMap(tmp_path / "new" / "map.tif", {"model": "a"})
    assert (again.finished(), again.discarded) == (2, False)
    assert (again.strip(1) == STRIP + 1).all()
    assert again.folder == tmp_path / "new" / ".map.tif.partial"


def test_strips_after_a_gap_do_not_count(tmp_path: Path) -> None:
    partial = PartialMap(tmp_path / "map.tif", {})
    partial.keep(0, STRIP)
    partial.keep(2, STRIP)
    assert partial.finished() == 1


@pytest.mark.parametrize("state", ['{"model": "b"}', "{", "", None])
def test_strips_of_something_else_are_discarded(state: str | None, tmp_path: Path) -> None:
    partial = PartialMap(tmp_path / "map.tif", {"model": "a"})
    partial.keep(0, STRIP)
    file = partial.folder / "state.json"
    file.unlink() if state is None else file.write_text(state)
    again = PartialMap(tmp_path / "map.tif", {"model": "a"})
    assert (again.finished(), again.discarded) == (0, True)
    assert PartialMap(tmp_path / "map.tif", {"model": "a"}).discarded is False


def test_a_strip_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = PartialMap(tmp_path / "map.tif", {})
    partial.keep(0, STRIP)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device\); what is finished is kept") as e:
        partial.keep(1, STRIP)
    assert e.value.filename == str(tmp_path / "map.tif")
    assert partial.finished() == 1
    assert sorted(file.name for file in partial.folder.iterdir()) == [
        "state.json",
        "strip_00000.npy",
    ]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to the folder"):
        PartialMap(tmp_path / "file" / "map.tif", {})
