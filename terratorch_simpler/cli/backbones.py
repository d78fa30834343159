"""``terratorch-simpler backbones``: which backbones of the registry can be cut, or why not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple

from jsonargparse import Namespace
from rich.console import Console
from rich.progress import track
from rich.table import Table

from terratorch_simpler.catalogue.cache import Cache, cache_file, installed_versions
from terratorch_simpler.catalogue.entry import Entry, matching

COLUMNS = ("name", "family", "blocks", "depth", "width", "parameters", "why not, or what else")
SECONDS = 30.0
"""Between two lines that say how far it is, where there is no terminal to draw a bar on."""


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If no name matches.
    """
    cache = open_cache()
    found = find_names(options, cache)
    entries = (
        entry
        for entry in look_at(found, options, cache)
        if entry.family is not None or not options.can_be_cut
    )
    if sys.stdout.isatty():
        show(list(entries))
    else:
        print("\t".join(COLUMNS))
        for entry in entries:
            print("\t".join("" if value is None else str(value) for value in astuple(entry)))
    if cache is not None and cache.problem is not None and not options.quiet:
        print(f"note: nothing is kept for the next call: {cache.problem}", file=sys.stderr)


def open_cache() -> Cache | None:
    """What earlier calls found out; None where that may not hold, or there is no place for it."""
    # Where TerraTorch is loaded already, others may have registered backbones of their own, which
    # may change without a version: their names and entries are not for everybody.
    if "terratorch" in sys.modules:
        return None
    versions = installed_versions()
    file = cache_file(versions)
    return Cache(file, versions) if file is not None else None


def find_names(options: Namespace, cache: Cache | None) -> list[str]:
    """The names that are asked for, from the cache if it knows any.

    Raises:
        ValueError: If no name matches.
    """
    if cache is not None and cache.names is not None and not options.refresh:
        try:
            return matching(cache.names, options.pattern)
        except ValueError:
            # A package of the user's may register more when TerraTorch is loaded: ask it.
            pass
    load(options)
    from terratorch_simpler.catalogue.look import every_name

    names = every_name()
    if cache is not None:
        cache.keep_names(names)
    return matching(names, options.pattern)


def look_at(found: Sequence[str], options: Namespace, cache: Cache | None) -> Iterator[Entry]:
    """An entry for each name in order; those that the cache does not hold are looked at."""
    known = {} if cache is None or options.refresh else dict(cache.entries)
    if known.keys() >= set(found):
        yield from (known[name] for name in found)
        return
    load(options)
    from terratorch_simpler.catalogue.look import entry_of
    from terratorch_simpler.lightning import quiet_lightning

    try:
        for name in follow(found, options.quiet):
            if name not in known:
                with quiet_lightning():
                    known[name] = entry_of(name)
                if cache is not None:
                    cache.keep(known[name])
            yield known[name]
    finally:
        if cache is not None:
            cache.save()


def load(options: Namespace) -> None:
    """Import TerraTorch, which fills the registry."""
    if "terratorch" not in sys.modules and not options.quiet and sys.stderr.isatty():
        print("Loading TerraTorch ...", file=sys.stderr)
    import terratorch  # noqa: F401


def follow(names: Sequence[str], quiet: bool) -> Iterator[str]:
    """The names, with a bar on a terminal that follows them, and now and then a line elsewhere."""
    if quiet:
        yield from names
    elif sys.stderr.isatty():
        console = Console(stderr=True)
        yield from track(names, f"{len(names)} backbones", console=console, transient=True)
    else:
        said = time.monotonic()
        for count, name in enumerate(names):
            if time.monotonic() - said > SECONDS:
                said = time.monotonic()
                print(f"{count} of {len(names)} backbones looked at", file=sys.stderr)
            yield name


def show(entries: Sequence[Entry]) -> None:
    """Print a table."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    name, *others = COLUMNS
    # A name that is cut off cannot be typed.
    longest = max((len(entry.name) for entry in entries), default=0)
    table.add_column(name, no_wrap=True, min_width=longest)
    for column in others:
        table.add_column(column, overflow="fold")
    for entry in entries:
        *texts, parameters, reason = astuple(entry)
        millions = f"{parameters / 1e6:.1f} M" if parameters is not None else ""
        cells = ["" if text is None else str(text) for text in texts]
        table.add_row(*cells, millions, reason or "")
    console.print(table, crop=False)
    can = sum(entry.family is not None for entry in entries)
    console.print(f"{can} of {len(entries)} can be cut: simpler_NAME.")
