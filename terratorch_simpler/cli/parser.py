"""Arguments of every command; imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentParser

from terratorch_simpler.baselines import BASELINES
from terratorch_simpler.cli.help import NAME, Add, Help, command, group, option_help
from terratorch_simpler.criteria import CRITERIA, PROBE
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.task.chips import Chips
from terratorch_simpler.tiles import DEFAULT_SAMPLES, Mask

READ, CHOOSE, RUN, WRITE = (
    *("What to read", "How to choose", "How to run"),
    "What to write, and what to show",
)
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


def build_parser() -> ArgumentParser:
    """The parser of ``terratorch-simpler``; raises ``ArgumentError`` for a mistake."""
    parser = ArgumentParser(
        prog=NAME,
        usage=f"{NAME} COMMAND [options]",
        description="Choose the depth of a TerraTorch backbone before fine-tuning.",
        formatter_class=Help,
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subcommands(
        title="commands",
        description=f"'{NAME} COMMAND --help' says more of one.",
        metavar="",
    )
    for name, (build, what) in COMMANDS.items():
        commands.add_subcommand(name, build(), help=what)
    return parser


def _version() -> str:
    from terratorch_simpler import __version__

    return f"{NAME} {__version__}"


def _select() -> ArgumentParser:
    parser = command(
        "Choose how many blocks of a backbone to keep, from unlabelled tiles.",
        "select --config TASK.yaml [options]\n"
        "select --backbone NAME --tiles PATH --bands BAND ... [options]",
        "select --config burn_scars.yaml --output chosen",
        "Writes plan.json, report.html, similarity.png and scores.png into a folder, all or none, "
        "and with --config the config to fine-tune with: TASK_simpler.yaml.",
        f"Criteria: {', '.join(CRITERIA)}. Baselines: {', '.join(BASELINES)}. With the "
        f"labels of --config: {PROBE}.",
    )
    add = group(parser, READ)
    _add_backbone(add)
    add("--pretrained", type=bool, default=True, help="load its pre-trained weights (the default)")
    add(
        "--tiles",
        type=str | None,
        metavar="PATH",
        help="folder, archive, file, glob or .txt list of GeoTIFFs; with --config, in the place of "
        "its own tiles",
    )
    _several(add, "--bands", str, "BAND", "bands that the backbone reads, in order")
    _several(add, "--dataset_bands", str, "BAND", "bands that the files hold, in order")
    _several(add, "--means", float, "MEAN", "mean of each band, to normalise with")
    _several(add, "--stds", float, "STD", "standard deviation of each band")
    add("--size", type=int, metavar="PIXELS", default=Chips.size, help="height and width of a chip")
    add(
        "--mask",
        type=Mask | None,
        metavar=f"{{{','.join(get_args(Mask))}}}",
        help="leave out cloud, shadow and snow as the tiles' quality layer says",
    )
    add("--strict", action="store_true", help="make whatever would be left out an error")
    add = group(parser, CHOOSE)
    _add_settings(add, lambda name: name not in OF_RUNNING)
    add(
        "--no_early_stop",
        "--no-early-stop",
        action="store_true",
        help="use all samples, also where fewer settle the choice",
    )
    add = group(parser, RUN)
    _add_settings(add, lambda name: name in OF_RUNNING)
    add(
        "--batch_size",
        type=int,
        metavar="N",
        default=Chips.batch_size,
        help="tiles in a batch; changes no result",
    )
    add(
        "--num_workers",
        type=int,
        metavar="N",
        default=Chips.num_workers,
        help="processes that read tiles",
    )
    add = group(parser, WRITE)
    _add_output(add, "NAME_simpler")
    add("--probe", action="store_true", help="then probe every depth with the labels of --config")
    add(
        "--convert",
        action="store_true",
        help="write the full config for EncoderDecoderFactory as well: TASK_full.yaml",
    )
    _add_common(add)
    parser.set_defaults(samples=DEFAULT_SAMPLES, seed=0)
    return parser


def _profile() -> ArgumentParser:
    parser = command(
        "Measure what a backbone, or the model of a task, costs at every depth: parameters, FLOPs, "
        "time and peak memory of inference and of a training step.",
        "profile --config TASK.yaml [options]\nprofile --backbone NAME [options]",
        "profile --backbone prithvi_eo_v2_300 --accelerator gpu",
        "Writes profile.csv and profile.png into a folder.",
    )
    _add_backbone(group(parser, READ))
    add = group(parser, RUN)
    add("--batch_size", type=int, metavar="N", default=2, help="images in a batch")
    add(
        "--size",
        type=int | None,
        metavar="PIXELS",
        help="height and width of random images; those of --config are read unless it is named",
    )
    add("--accelerator", type=str, metavar="NAME", default="auto", help="auto, cpu, gpu or mps")
    add("--every_depth", action="store_true", help="measure every depth, interpolate none")
    add("--rounds", type=int, metavar="N", default=5, help="times that each depth is timed")
    add = group(parser, WRITE)
    _add_output(add, "NAME_profile")
    _add_common(add)
    return parser


def _probe() -> ArgumentParser:
    parser = command(
        "Measure what every depth of a task's frozen backbone offers, from the labelled tiles of "
        "its config: one pass over them, and a ridge for each depth.",
        "probe --config TASK.yaml [options]",
        "probe --config burn_scars.yaml --plan chosen/plan.json",
        "Writes probe.csv, probe.json and probe.png into a folder, and with --plan that plan with "
        "the probe in it: plan.json.",
    )
    add = group(parser, READ)
    add(
        "--config",
        type=str,
        required=True,
        metavar="TASK.yaml",
        help="a working TerraTorch config (required)",
    )
    add(
        "--blocks",
        type=str | None,
        metavar="NAME",
        help="its list of blocks, if no rule finds it: encoder.layers",
    )
    add("--plan", type=str | None, metavar="plan.json", help="a plan for it, to compare with")
    add = group(parser, RUN)
    add("--samples", type=int | None, metavar="N", help="most training tiles to use (default: all)")
    add("--seed", type=int, metavar="N", default=0, help="seed of their choice")
    add("--accelerator", type=str, metavar="NAME", default="auto", help="auto, cpu, gpu or mps")
    add = group(parser, WRITE)
    _add_output(add, "NAME_probe")
    _add_common(add)
    return parser


def _report() -> ArgumentParser:
    parser = command(
        "Write the report of a plan again, from plan.json alone.",
        "report plan.json [options]",
        "report chosen/plan.json",
        "Writes report.html, similarity.png and scores.png. Beside the plan they replace its "
        "earlier report, whose pictures of tiles are kept; any other files that are there need "
        "--overwrite.",
    )
    group(parser, READ)("plan", type=str, help="a plan: plan.json")
    add = group(parser, WRITE)
    add("--output", type=str | None, metavar="FOLDER", help="where to (default: beside the plan)")
    _add_common(add)
    return parser


def _backbones() -> ArgumentParser:
    parser = command(
        "List the backbones of TerraTorch's registry with family, depth, width and parameters, or "
        "the reason why their depth cannot be cut.",
        "backbones [PATTERN] [options]",
        "backbones terramind",
        "Writes no results, and downloads nothing. What was found out once is kept in the user's "
        "cache folder for the installed versions, so that the next call answers at once; all of "
        "the names take minutes the first time.",
    )
    add = group(parser, READ)
    add(
        "pattern",
        type=str,
        nargs="?",
        metavar="PATTERN",
        help="part of a name, or a pattern with * and ? for all of it",
    )
    add("--refresh", action="store_true", help="build them again, whatever the cache says")
    add = group(parser, WRITE)
    add("--can_be_cut", action="store_true", help="leave out the others")
    add("--quiet", action="store_true", help="no progress")
    add("--debug", action="store_true", help="show tracebacks and all warnings")
    return parser


def _demo() -> ArgumentParser:
    parser = command(
        "Select a depth on the embedded Sentinel-2 sample, from its tiles alone and with its "
        "labels; fine-tune the full and the pruned models, and compare them.",
        "demo [options]",
        "demo --output demo",
        "Writes the config of the task, what select writes of it, and demo.json with the "
        "comparison.",
    )
    add = group(parser, READ)
    add(
        "--backbone",
        type=str | None,
        metavar="NAME",
        help="another backbone of TerraTorch's registry, with its official weights from the hub",
    )
    add = group(parser, RUN)
    add("--epochs", type=int, metavar="N", default=24, help="epochs of each fine-tuning")
    add = group(parser, WRITE)
    add("--output", type=str, default="demo", metavar="FOLDER", help="where to")
    _add_common(add)
    return parser


def _add_backbone(add: Add) -> None:
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


def _several(add: Add, name: str, kind: type, metavar: str, what: str) -> None:
    add(name, type=kind, nargs="+", metavar=metavar, help=what)


def _add_settings(add: Add, belongs: Callable[[str], bool]) -> None:
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


def _add_output(add: Add, name: str) -> None:
    add("--output", type=str | None, metavar="FOLDER", help=f"where to (default: {name})")


def _add_common(add: Add) -> None:
    add("--overwrite", action="store_true", help="replace results that are there")
    add("--quiet", action="store_true", help="no progress and no table")
    add("--debug", action="store_true", help="show tracebacks and all warnings")


COMMANDS: dict[str, tuple[Callable[[], ArgumentParser], str]] = {
    "select": (_select, "choose a depth from unlabelled tiles"),
    "probe": (_probe, "measure what every depth offers, with labels"),
    "profile": (_profile, "measure what every depth costs"),
    "report": (_report, "write the report of a plan again"),
    "demo": (_demo, "do the main job on the embedded sample"),
    "backbones": (_backbones, "list which backbones can be cut"),
}
"""Every command: what builds its parser, and what it does."""
