"""``terratorch-simpler backbones``: what was looked at once is known without TerraTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace

from terratorch_simpler.catalogue import look
from terratorch_simpler.catalogue.cache import Cache, cache_file, installed_versions
from terratorch_simpler.catalogue.entry import Entry
from terratorch_simpler.cli import main
from terratorch_simpler.cli.backbones import find_names, look_at, show

TINY = "prithvi_eo_v2_tiny_tl"
VIT = Entry("my_vit", "timm ViT", "model.blocks", 12, 192, 5_700_000)
RESNET = Entry("my_resnet", reason="its 5 stages differ in width")
CODE = """\
import json, sys
from terratorch_simpler.cli import main
main(sys.argv[1:])
print(json.dumps([name for name in ("torch", "terratorch") if name in sys.modules]))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache folder of one's own, and the cache in it, which knows two names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = cache_file(installed_versions())
    assert file is not None
    cache = Cache(file, installed_versions())
    cache.keep_names(["my_vit", "my_resnet"])
    for entry in (VIT, RESNET):
        cache.keep(entry)
    cache.save()
    return cache


def in_a_process(*arguments: str) -> tuple[list[list[str]], list[str], str]:
    """Rows that the command prints, which of torch and TerraTorch it imported, and its notes."""
    command = [sys.executable, "-c", CODE, "backbones", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *rows, loaded = done.stdout.splitlines()
    return [row.split("\t") for row in rows], json.loads(loaded), done.stderr


def test_what_is_in_the_cache_is_answered_without_torch() -> None:
    rows, loaded, said = in_a_process("my_")
    assert rows[0][:4] == ["name", "family", "blocks", "depth"]
    assert rows[1] == ["my_vit", "timm ViT", "model.blocks", "12", "192", "5700000", ""]
    assert rows[2] == ["my_resnet", "", "", "", "", "", "its 5 stages differ in width"]
    assert (len(rows), loaded, said) == (3, [], "")


def test_all_names_are_known_as_well() -> None:
    rows, loaded, _ = in_a_process("--can_be_cut")
    assert [row[0] for row in rows[1:]] == ["my_vit"]
    assert loaded == []


@pytest.mark.slow
def test_the_first_call_keeps_what_the_second_says_without_torch(cache: Cache) -> None:
    """Through a cache file that is broken, which is made again."""
    cache.path.write_text("keep 3")
    first, loaded, _ = in_a_process(TINY)
    assert first[1][:5] == [TINY, "Prithvi", "blocks", "12", "192"]
    assert loaded == ["torch", "terratorch"]
    second, loaded, _ = in_a_process(TINY)
    assert (second, loaded) == (first, [])
    kept = Cache(cache.path, installed_versions())
    assert kept.names is not None
    assert len(kept.names) > 1000
    assert list(kept.entries) == [TINY]


@pytest.mark.slow
def test_a_name_that_the_cache_does_not_know_is_asked_of_the_registry() -> None:
    rows, loaded, _ = in_a_process(TINY, "--quiet")
    assert [row[0] for row in rows[1:]] == [TINY]
    assert "terratorch" in loaded


def options(pattern: str | None = None, refresh: bool = False) -> Namespace:
    given = {"pattern": pattern, "refresh": refresh, "quiet": True, "can_be_cut": False}
    return Namespace(given)  # type: ignore[no-untyped-call]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that were looked at; Ctrl-C comes at the name ``stop``."""
    names: list[str] = []

    def entry_of(name: str) -> Entry:
        if name == "stop":
            raise KeyboardInterrupt
        names.append(name)
        return Entry(name, reason="looked at")

    monkeypatch.setattr(look, "entry_of", entry_of)
    return names


def test_only_names_that_are_not_known_are_looked_at(cache: Cache, looked: list[str]) -> None:
    found = list(look_at(["my_vit", "new"], options(), cache))
    assert found == [VIT, Entry("new", reason="looked at")]
    assert looked == ["new"]
    assert "new" in Cache(cache.path, installed_versions()).entries


def test_refresh_looks_at_all_of_them_again(cache: Cache, looked: list[str]) -> None:
    list(look_at(["my_vit"], options(refresh=True), cache))
    assert looked == ["my_vit"]
    kept = Cache(cache.path, installed_versions()).entries
    assert kept == {"my_vit": Entry("my_vit", reason="looked at"), "my_resnet": RESNET}


def test_an_interrupted_run_keeps_what_it_had(cache: Cache, looked: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(look_at(["new", "stop", "never"], options(), cache))
    assert looked == ["new"]
    assert set(Cache(cache.path, installed_versions()).entries) == {"my_vit", "my_resnet", "new"}


def test_refresh_asks_for_the_names_again(cache: Cache, build: Callable[..., Any]) -> None:
    del build
    assert find_names(options("my_vit"), cache) == ["my_vit"]
    assert find_names(options(TINY, refresh=True), cache) == [TINY]
    assert len(Cache(cache.path, installed_versions()).names or []) > 1000


def test_a_place_that_cannot_be_written_is_a_note(
    tmp_path: Path,
    cache: Cache,
    looked: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "taken").write_text("mine")
    other = Cache(tmp_path / "taken" / "cache.json", installed_versions())
    other.names = ["new"]
    monkeypatch.setattr("terratorch_simpler.cli.backbones.open_cache", lambda: other)
    main(["backbones", "new"])
    output = capsys.readouterr()
    assert output.out.splitlines()[1].startswith("new\t")
    assert output.err.startswith("note: nothing is kept for the next call: cannot write to ")
    assert looked == ["new"]


def test_where_there_is_no_terminal_a_line_says_now_and_then_how_far_it_is(
    cache: Cache,
    looked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("terratorch_simpler.cli.backbones.SECONDS", -1.0)
    loud = options()
    loud.quiet = False
    list(look_at(["new", "newer"], loud, cache))
    assert capsys.readouterr().err.splitlines() == [
        "0 of 2 backbones looked at",
        "1 of 2 backbones looked at",
    ]
    assert looked == ["new", "newer"]


def test_a_narrow_terminal_breaks_reasons_and_no_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "ssl4eos12_vit_small_patch16_224"
    show([Entry(name, "SSL4EO ViT", "vit_model.blocks", 12, 384, 22_000_000), RESNET])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{name} ") for line in lines)
    assert lines[-1] == "1 of 2 can be cut: simpler_NAME."


# Where TerraTorch is loaded already, its registry is asked, which may hold more.


def test_a_process_with_terratorch_keeps_nothing(
    cache: Cache, build: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del build
    before = cache.path.read_bytes()
    with pytest.raises(SystemExit):
        main(["backbones", "my_vit"])
    assert "no backbone matches 'my_vit'" in capsys.readouterr().err
    assert cache.path.read_bytes() == before


def test_the_command_lists_lines_for_other_programs(
    build: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del build
    main(["backbones", "dofa"])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:4] == ["name", "family", "blocks", "depth"]
    assert lines[1][:5] == ["dofa_small_patch16_224", "DOFA", "dofa_model.blocks", "12", "384"]
    assert len(lines) == 4


def test_the_command_leaves_out_what_cannot_be_cut(
    build: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del build
    main(["backbones", "timm_test_*vit*", "--can_be_cut"])
    listed = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert "timm_test_vit" in listed
    assert "timm_test_maxvit" not in listed
