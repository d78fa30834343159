"""The cache of the catalogue: it saves time, and does nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from terratorch_simpler.catalogue import cache as module
from terratorch_simpler.catalogue.cache import Cache, cache_file, installed_versions
from terratorch_simpler.catalogue.entry import Entry, matching

VERSIONS = {"terratorch": "1.2.11", "torch": "2.11.0"}
VIT = Entry("timm_vit", "timm ViT", "model.blocks", 12, 192, 5_700_000)
RESNET = Entry("timm_resnet18", reason="its 5 stages differ in width")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "below" / "cache.json"


def test_what_is_kept_is_known_the_next_time(file: Path) -> None:
    cache = Cache(file, VERSIONS)
    assert (cache.names, cache.entries) == (None, {})
    cache.keep_names(["timm_vit", "timm_resnet18"])
    for entry in (VIT, RESNET):
        cache.keep(entry)
    cache.save()
    again = Cache(file, VERSIONS)
    assert again.names == ["timm_vit", "timm_resnet18"]
    assert again.entries == {"timm_vit": VIT, "timm_resnet18": RESNET}
    assert cache.problem is None
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_other_versions_know_nothing_of_it(file: Path) -> None:
    cache = Cache(file, VERSIONS)
    cache.keep_names(["timm_vit"])
    other = Cache(file, VERSIONS | {"torch": "2.12.0"})
    assert (other.names, other.entries) == (None, {})


@pytest.mark.parametrize(
    "content",
    [b"", b"keep 3", b"\xff\xfe", b"[]", b'{"versions": {}', b'{"versions": 1, "names": 2}'],
)
def test_a_broken_file_is_made_again(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    cache = Cache(file, VERSIONS)
    assert (cache.names, cache.entries) == (None, {})
    cache.keep(VIT)
    cache.save()
    assert Cache(file, VERSIONS).entries == {"timm_vit": VIT}


def test_a_place_that_cannot_be_written_is_said_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    cache = Cache(tmp_path / "taken" / "cache.json", VERSIONS)
    cache.keep_names(["timm_vit"])
    cache.keep(VIT)
    cache.save()
    assert cache.problem is not None
    assert "cannot write to the folder" in cache.problem
    assert cache.entries == {"timm_vit": VIT}
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_killed_process_has_kept_what_it_found(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(file, VERSIONS)
    cache.keep(VIT)
    assert not file.exists()
    monkeypatch.setattr(module, "SECONDS", -1.0)
    cache.keep(RESNET)
    assert Cache(file, VERSIONS).entries == {"timm_vit": VIT, "timm_resnet18": RESNET}


def test_two_processes_keep_what_both_found(file: Path) -> None:
    first, second = Cache(file, VERSIONS), Cache(file, VERSIONS)
    first.keep(VIT)
    second.keep(RESNET)
    first.save()
    second.save()
    assert Cache(file, VERSIONS).entries == {"timm_vit": VIT, "timm_resnet18": RESNET}


def test_it_lies_in_the_cache_folder_of_the_user_one_file_for_some_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mine = cache_file(VERSIONS)
    assert mine is not None
    assert mine.parent == tmp_path / "terratorch_simpler"
    assert mine == cache_file(dict(reversed(VERSIONS.items())))
    assert mine != cache_file(VERSIONS | {"torch": "2.12.0"})
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    mine = cache_file(VERSIONS)
    assert mine is not None
    assert mine.parent == tmp_path / "home" / ".cache" / "terratorch_simpler"


def test_without_a_home_there_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_file(VERSIONS) is None


def test_the_versions_are_those_that_an_entry_depends_on() -> None:
    versions = installed_versions()
    assert set(versions) == {"terratorch-simpler", "terratorch", "timm", "torchgeo", "torch"}
    assert all(versions.values())


def test_a_pattern_is_part_of_a_name_or_all_of_it() -> None:
    names = ["timm_vit_tiny", "my_vit", "dofa_small", "dofa_base"]
    assert matching(names) == names
    assert matching(names, "VIT") == ["timm_vit_tiny", "my_vit"]
    assert matching(names, "dofa_*") == ["dofa_small", "dofa_base"]


def test_a_pattern_without_a_match_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no backbone matches 'xyzzy': leave it out to see all 1"):
        matching(["timm_vit"], "xyzzy")
