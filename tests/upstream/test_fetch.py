from __future__ import annotations

import hashlib
import io
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.upstream import fetch as fetching
from tests.upstream.fetch import Archive, fetch, locked_archive
from tests.upstream.run import ROOT


def pack(path: Path, *members: str) -> Archive:
    """An archive of files with these names, as the lock would name it."""
    with tarfile.open(path, "w:gz") as opened:
        for member in members:
            info = tarfile.TarInfo(member)
            info.size = len(member)
            opened.addfile(info, io.BytesIO(member.encode()))
    return Archive("7.1", path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return pack(tmp_path / "sdist.tar.gz", "terratorch-7.1/README.md", "terratorch-7.1/tests/a.py")


def test_the_archive_is_unpacked_once(archive: Archive, tmp_path: Path) -> None:
    unpacked = fetch(archive, tmp_path / "build" / "upstream")

    assert (unpacked / "tests" / "a.py").read_text() == "terratorch-7.1/tests/a.py"
    assert [path.name for path in unpacked.parent.iterdir()] == ["terratorch-7.1"]
    (tmp_path / "sdist.tar.gz").unlink()
    assert fetch(archive, tmp_path / "build" / "upstream") == unpacked


def test_another_archive_than_the_locked_one_is_not_unpacked(
    archive: Archive, tmp_path: Path
) -> None:
    other = Archive(archive.version, archive.url, "0" * 64)

    with pytest.raises(ValueError, match=f"SHA-256 {archive.sha256}, the lock says 0000"):
        fetch(other, tmp_path / "upstream")

    assert not (tmp_path / "upstream").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["terratorch-7.1/tests/a.py", "../out.py"], "cannot be unpacked: .*outside"),
        (["terratorch-7.2/tests/a.py"], "holds no folder terratorch-7.1"),
    ],
)
def test_an_archive_is_unpacked_whole_or_not_at_all(
    members: list[str], message: str, tmp_path: Path
) -> None:
    archive = pack(tmp_path / "sdist.tar.gz", *members)

    with pytest.raises(ValueError, match=message):
        fetch(archive, tmp_path / "upstream")

    assert list((tmp_path / "upstream").iterdir()) == []
    assert not (tmp_path / "out.py").exists()


def test_an_archive_that_breaks_off_leaves_nothing(archive: Archive, tmp_path: Path) -> None:
    content = (tmp_path / "sdist.tar.gz").read_bytes()[:-40]
    (tmp_path / "sdist.tar.gz").write_bytes(content)
    short = Archive(archive.version, archive.url, hashlib.sha256(content).hexdigest())

    with pytest.raises(ValueError, match="cannot be unpacked"):
        fetch(short, tmp_path / "upstream")

    assert list((tmp_path / "upstream").iterdir()) == []


def test_an_index_out_of_reach_is_named(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "sdist.tar.gz").unlink()

    with pytest.raises(ConnectionError, match=r"sdist.tar.gz cannot be fetched .*package index"):
        fetch(archive, tmp_path / "upstream")


def test_the_lock_names_the_archive_of_the_installed_version() -> None:
    archive = locked_archive(ROOT / "uv.lock", version("terratorch"))

    assert archive.url.endswith(f"/{archive.folder}.tar.gz")
    assert len(archive.sha256) == 64


def test_a_version_that_is_not_locked_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text('[[package]]\nname = "terratorch"\nversion = "7.1"\n')

    with pytest.raises(ValueError, match=r"terratorch 7.2 is installed, uv.lock holds 7.1"):
        locked_archive(lock, "7.2")
    with pytest.raises(ValueError, match=r"no source distribution of terratorch 7.1"):
        locked_archive(lock, "7.1")


def test_nothing_is_run_where_nothing_is_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.upstream import run

    def unreachable(url: str) -> bytes:
        raise ConnectionError(f"{url} cannot be fetched")

    monkeypatch.setattr(run, "FOLDER", Path("no such folder"))
    monkeypatch.setattr(fetching, "_download", unreachable)

    assert run.main([]) == 2
    assert "cannot be fetched" in capsys.readouterr().err
