from __future__ import annotations

from pathlib import Path

import pytest

from scripts import count_rooms
from scripts.count_rooms import Arrow, circles, main, read_house


def write_package(folder: Path, **files: str) -> Path:
    """A package of modules: ``tiles__read`` stands for ``tiles/read.py``."""
    for name, text in {"__init__": "", **files}.items():
        path = folder / f"{name if name == '__init__' else name.replace('__', '/', 1)}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up package in good order: plan, then tiles, then cli."""
    monkeypatch.setattr(count_rooms, "ORDERS", {"house": ("plan", "tiles", "__init__", "cli")})
    return write_package(
        tmp_path / "house",
        __init__="__version__ = '1'",
        plan="import json",
        tiles____init__="",
        tiles__read="from house.plan import Plan\nimport elsewhere.plan",
        tiles__find="from house.tiles.read import read",
        cli="from house import __version__, tiles\n\ndef run():\n    import house.tiles.find",
    )


def arrows(folder: Path) -> set[str]:
    return {str(arrow) for arrow in read_house(folder).arrows}


def test_arrows_are_imports_of_the_same_package_wherever_they_stand(house: Path) -> None:
    assert arrows(house) == {
        "house.tiles.read -> house.plan",
        "house.tiles.find -> house.tiles.read",
        "house.cli -> house",
        "house.cli -> house.tiles",
        "house.cli -> house.tiles.find",
    }


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("from . import read", "house.tiles.read"),
        ("from .read import a, b", "house.tiles.read"),
        ("from .. import plan", "house.plan"),
        ("from ..plan import *", "house.plan"),
        ("import house.plan", "house.plan"),
        ("from house.tiles import read", "house.tiles.read"),
        ("from house.tiles import Reader", "house.tiles"),
        ("try:\n    import house.plan\nexcept ImportError:\n    raise", "house.plan"),
    ],
)
def test_ways_to_import(house: Path, text: str, target: str) -> None:
    write_package(house, tiles__find=text)
    assert f"house.tiles.find -> {target}" in arrows(house)


def test_relative_imports_of_a_package_start_at_the_package_itself(house: Path) -> None:
    write_package(house, tiles____init__="from .read import read")
    assert "house.tiles -> house.tiles.read" in arrows(house)


@pytest.mark.parametrize("guard", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_types_alone_are_told_apart(house: Path, guard: str) -> None:
    only = f"if {guard}:\n    from house.plan import Plan\nelse:\n    import house.tiles.read"
    write_package(house, tiles__find=only)
    found = read_house(house).arrows
    assert Arrow("house.tiles.find", "house.plan", typing=True) in found
    assert Arrow("house.tiles.find", "house.tiles.read") in found
    write_package(house, tiles__find=f"{only}\ndef run():\n    import house.plan")
    assert Arrow("house.tiles.find", "house.plan") in read_house(house).arrows


def test_circles_are_the_groups_that_reach_each_other() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("f", "g"), ("g", "f")]
    assert circles(pairs) == [("a", "b", "c"), ("f", "g")]
    assert circles([("a", "b"), ("b", "c"), ("a", "c")]) == []


def test_a_house_in_order_passes(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(house), "--check"])
    rows = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert {title.strip(): count for title, count in rows[1:]} == {
        "entries in the root": "4",
        "modules": "6",
        "arrows between modules": "5",
        "for types alone": "0",
        "arrows between rooms": "3",
        "circles of modules": "0",
        "circles of rooms": "0",
        "arrows that run back": "0",
        "rooms without a place": "0",
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"tiles__read": "from house.tiles.find import find"},
            "circle of modules: house.tiles.find, house.tiles.read",
        ),
        ({"plan": "from house.tiles import Tile"}, "circle of rooms: plan, tiles"),
        (
            {"tiles__read": "if TYPE_CHECKING:\n    import house.cli"},
            "runs back: house.tiles.read -> house.cli (for types alone)",
        ),
        ({"attic": ""}, "no place in the order: attic"),
    ],
)
def test_what_breaks_a_rule_is_named(
    house: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], message: str
) -> None:
    write_package(house, **files)
    main([str(house)])
    assert f"  {message}\n" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main([str(house), "--check"])
    assert stop.value.code == 1


def test_a_full_root_breaks_a_rule(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("py.typed", "__pycache__", *map(str, range(count_rooms.MOST_ENTRIES - 4))):
        (house / name).mkdir()
    main([str(house), "--check"])
    (house / "one more").mkdir()
    with pytest.raises(SystemExit):
        main([str(house), "--check"])
    assert "27 entries, at most 26" in capsys.readouterr().out


def test_houses_stand_side_by_side(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_package(house.parent / "before", plan="", all="import before.plan")
    main([str(other), str(house)])
    assert capsys.readouterr().out.splitlines()[2].split() == ["modules", "3", "6"]


def test_a_folder_that_is_no_package_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    assert f"no package: {tmp_path} has no __init__.py" in capsys.readouterr().err
