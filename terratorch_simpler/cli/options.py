"""Options that several commands take, and those of the settings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

from terratorch_simpler.cli.help import Add, option_help
from terratorch_simpler.selection.settings import Settings

NOT_TYPED = ("early_stop", "progress")
"""Settings that have an option of another name, or follow from the terminal."""
OF_RUNNING = ("accelerator", "devices", "num_nodes", "precision")
"""Settings that choose nothing."""
_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)
"""An attribute in a docstring: its name, and what is said of it."""
_METAVARS: dict[Any, str] = {
    **dict.fromkeys((int, int | None, int | str), "N"),
    str: "NAME",
    float | None: "SHARE",
}
"""What stands for a value of a setting; where one of some words is expected, these do."""


def add_backbone(add: Add) -> None:
    """What is looked at: a config, or a backbone by its name."""
    add("--config", type=str | None, metavar="TASK.yaml", help="a working TerraTorch config")
    add(
        "--backbone",
        type=str | None,
        metavar="NAME",
        help="a name of TerraTorch's backbone registry, in the place of a config",
    )
    add(
        "--backbone_args",
        type=dict[str, Any] | None,
        metavar="ARGS",
        help="its arguments, each as --backbone_args.NAME VALUE",
    )
    add(
        "--blocks",
        type=str | None,
        metavar="NAME",
        help="its list of blocks, if no rule finds it: encoder.layers",
    )


def several(add: Add, name: str, kind: type, metavar: str, what: str) -> None:
    """An option that takes one value or more."""
    add(name, type=kind, nargs="+", metavar=metavar, help=what)


def add_settings(add: Add, belongs: Callable[[str], bool]) -> None:
    """Add the settings that belong here, with the docstring of each as its help."""
    kinds = get_type_hints(Settings)
    said = dict(_ATTRIBUTE.findall(inspect.getdoc(Settings) or ""))
    for field in fields(Settings):
        name, kind = field.name, kinds[field.name]
        if name not in NOT_TYPED and belongs(name):
            # What the tiles themselves say is for Python: here there is a default.
            sentence = " ".join(said[name].split()).partition("; unless named, what the tiles")[0]
            shown = {"metavar": _METAVARS[kind]} if kind in _METAVARS else {}
            text = option_help(sentence)
            add(f"--{name}", type=kind, default=field.default, help=text, **shown)


def add_output(add: Add, name: str) -> None:
    """Where to write, by default into a folder of this name."""
    add("--output", type=str | None, metavar="FOLDER", help=f"where to (default: {name})")


def add_common(add: Add) -> None:
    """How results are written, and what is shown meanwhile."""
    add("--overwrite", action="store_true", help="replace results that are there")
    add("--quiet", action="store_true", help="no progress and no table")
    add("--debug", action="store_true", help="show tracebacks and all warnings")
