"""Count the house from its imports: rooms, arrows, circles, and imports that run back.

    python scripts/count_rooms.py             # the package and the studies
    python scripts/count_rooms.py OLD/terratorch_simpler terratorch_simpler
    python scripts/count_rooms.py --check     # status 1 where a rule is broken

A room is an entry of the folder: a module or a folder of them. An arrow is one module importing
another of the same folder, wherever in the file the import stands; those under ``TYPE_CHECKING``
alone count as well, and are told apart. A circle is a group of modules (or of rooms) that reach
each other along arrows. An arrow runs back where its target's room stands after its own in
``ORDERS``. Nothing is imported to find out.

The rules of ``--check``: no circle, no arrow that runs back, every room in the order, and at most
26 entries in the folder.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_ENTRIES = 26
NO_ENTRIES = {"__pycache__", "py.typed"}
FACE = "__init__"
GUARDS = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
# Each room may import those before it.
ORDERS: Mapping[str, Sequence[str]] = {
    "terratorch_simpler": (
        "files",
        "messages",
        "precision",
        "lightning",
        "bands",
        "baselines",
        "criteria",
        "similarity",
        "results",
        "report",
        "backbones",
        "tiles",
        "layers",
        "pruning",
        "catalogue",
        "selection",
        "probing",
        "profiling",
        "predicting",
        "task",
        "exporting",
        "registry",
        "callbacks",
        FACE,
        "cli",
    ),
    "studies": (FACE, "records", "svg", "tables", "measure", "paper", "show"),
}

Names = tuple[str, ...]


@dataclass(frozen=True, order=True)
class Arrow:
    """One module imports another.

    Attributes:
        source: Name of the module that imports.
        target: Name of the module that is imported.
        typing: Whether it does so for types alone, under ``TYPE_CHECKING``.
    """

    source: str
    target: str
    typing: bool = False

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}" + " (for types alone)" * self.typing


@dataclass(frozen=True)
class House:
    """What the imports of a folder show.

    Attributes:
        name: Name of the folder.
        entries: Files and folders in it, without ``__pycache__`` and ``py.typed``.
        modules: Names of all modules below it.
        arrows: Imports among them, each pair once.
    """

    name: str
    entries: Names
    modules: Names
    arrows: tuple[Arrow, ...]

    @property
    def rooms(self) -> Names:
        """Rooms that hold modules."""
        return tuple(sorted({self.room(module) for module in self.modules}))

    def room(self, module: str) -> str:
        """Room of a module: the first part of its name below the folder's."""
        _, *below = module.split(".")
        return below[0] if below else FACE

    def room_arrows(self) -> set[tuple[str, str]]:
        """Pairs of rooms of which the first imports the second."""
        pairs = {(self.room(arrow.source), self.room(arrow.target)) for arrow in self.arrows}
        return {(source, target) for source, target in pairs if source != target}

    def module_circles(self) -> list[Names]:
        """Groups of modules that reach each other."""
        return circles({(arrow.source, arrow.target) for arrow in self.arrows})

    def room_circles(self) -> list[Names]:
        """Groups of rooms that reach each other."""
        return circles(self.room_arrows())

    def without_order(self) -> Names:
        """Rooms that have no place in the order."""
        return tuple(room for room in self.rooms if room not in ORDERS.get(self.name, ()))

    def running_back(self) -> list[Arrow]:
        """Arrows from a room to one that stands after it in the order."""
        places = {room: place for place, room in enumerate(ORDERS.get(self.name, ()))}

        def runs_back(arrow: Arrow) -> bool:
            source, target = self.room(arrow.source), self.room(arrow.target)
            return source in places and places.get(target, -1) > places[source]

        return [arrow for arrow in self.arrows if runs_back(arrow)]

    def faults(self) -> list[str]:
        """What breaks a rule, one a line."""
        found = [f"circle of modules: {', '.join(circle)}" for circle in self.module_circles()]
        found += [f"circle of rooms: {', '.join(circle)}" for circle in self.room_circles()]
        found += [f"runs back: {arrow}" for arrow in self.running_back()]
        if len(self.entries) > MOST_ENTRIES:
            found.append(f"{len(self.entries)} entries, at most {MOST_ENTRIES}")
        if self.without_order():
            found.append(f"no place in the order: {', '.join(self.without_order())}")
        return found


def circles(pairs: Collection[tuple[str, str]]) -> list[Names]:
    """Groups of more than one name that reach each other, sorted."""
    targets: dict[str, set[str]] = {}
    for source, target in pairs:
        targets.setdefault(source, set()).add(target)
    reached = {name: reachable(name, targets) for name in targets}
    groups = {
        tuple(sorted(other for other in reach if name in reached.get(other, ())))
        for name, reach in reached.items()
    }
    return sorted(group for group in groups if len(group) > 1)


def reachable(start: str, targets: Mapping[str, set[str]]) -> set[str]:
    """Names that can be reached from ``start`` along one arrow or more."""
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        new = targets.get(ahead.pop(), set()) - seen
        seen |= new
        ahead.extend(new)
    return seen


def imports(tree: ast.AST, typing: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """All import statements below a node, and whether each is there for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, typing
        elif isinstance(node, ast.If) and ast.unparse(node.test) in GUARDS:
            yield from imports(ast.Module(node.body, []), typing=True)
            yield from imports(ast.Module(node.orelse, []), typing)
        else:
            yield from imports(node, typing)


def targets_of(statement: ast.stmt, package: str, modules: Names) -> Iterator[str]:
    """Modules among ``modules`` that a statement of a module in ``package`` imports."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names if alias.name in modules)
    elif isinstance(statement, ast.ImportFrom):
        base = statement.module or ""
        if statement.level:
            above = package.split(".")[: len(package.split(".")) - statement.level + 1]
            base = ".".join([*above, *base.split(".")]).rstrip(".")
        for alias in statement.names:
            name = f"{base}.{alias.name}"
            if name in modules or base in modules:
                yield name if name in modules else base


def read_house(folder: Path) -> House:
    """Read the imports of all modules in a folder.

    Raises:
        ValueError: If the folder is no package.
    """
    folder = folder.resolve()
    if not (folder / f"{FACE}.py").is_file():
        raise ValueError(f"no package: {folder} has no {FACE}.py")
    files = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(
            f".{FACE}"
        ): path
        for path in sorted(folder.rglob("*.py"))
    }
    modules = tuple(files)
    found: dict[tuple[str, str], bool] = {}
    for name, path in files.items():
        package = name if path.stem == FACE else name.rpartition(".")[0]
        for statement, typing in imports(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for target in targets_of(statement, package, modules):
                if target != name:
                    found[name, target] = typing and found.get((name, target), True)
    return House(
        name=folder.name,
        entries=tuple(sorted({path.name for path in folder.iterdir()} - NO_ENTRIES)),
        modules=modules,
        arrows=tuple(sorted(Arrow(*pair, typing) for pair, typing in found.items())),
    )


def table(houses: Sequence[House]) -> str:
    """The counts, one column a house."""
    rows: list[tuple[str, list[str | int]]] = [
        ("", [house.name for house in houses]),
        ("entries in the root", [len(house.entries) for house in houses]),
        ("modules", [len(house.modules) for house in houses]),
        ("arrows between modules", [len(house.arrows) for house in houses]),
        ("  for types alone", [sum(arrow.typing for arrow in house.arrows) for house in houses]),
        ("arrows between rooms", [len(house.room_arrows()) for house in houses]),
        ("circles of modules", [len(house.module_circles()) for house in houses]),
        ("circles of rooms", [len(house.room_circles()) for house in houses]),
        ("arrows that run back", [len(house.running_back()) for house in houses]),
        ("rooms without a place", [len(house.without_order()) for house in houses]),
    ]
    widths = [max(len(house.name), 5) + 2 for house in houses]
    return "\n".join(
        f"{title:<24}"
        + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for title, cells in rows
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and what breaks a rule."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[Path("terratorch_simpler"), Path("studies")],
        help="packages to count (default: terratorch_simpler studies)",
    )
    parser.add_argument("--check", action="store_true", help="status 1 where a rule is broken")
    options = parser.parse_args(arguments)
    try:
        houses = [read_house(folder) for folder in options.folders]
    except ValueError as error:
        parser.error(str(error))
    print(table(houses))
    for house in houses:
        if house.faults():
            print(f"\n{house.name}:", *house.faults(), sep="\n  ")
    if options.check and any(house.faults() for house in houses):
        sys.exit(1)


if __name__ == "__main__":
    main()
