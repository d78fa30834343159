"""Arguments of every command; imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

from argparse import Action
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from terratorch_simpler.baselines import BASELINES
from terratorch_simpler.criteria import CRITERIA, PROBE
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.task.chips import Chips
from terratorch_simpler.tiles import DEFAULT_SAMPLES, Mask


class _Help(DefaultHelpFormatter):
    """Shows the sentences of a docstring in the style of the other lines."""

    def _get_help_string(self, action: Action) -> str:
        said = super()._get_help_string(action)
        sentence, end, kind = said.partition(". (type: ")
        if not end:
            return said
        return f"{sentence[0].lower()}{sentence[1:]} (type: {kind}".replace("``", "")


def build_parser() -> ArgumentParser:
    """The parser of ``terratorch-simpler``; raises ``ArgumentError`` for a mistake."""
    parser = ArgumentParser(
        prog="terratorch-simpler",
        description="Choose the depth of a TerraTorch backbone before fine-tuning.",
        formatter_class=_Help,
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subcommands(required=True)
    commands.add_subcommand("select", _select(), help="choose a depth from unlabelled tiles")
    commands.add_subcommand("probe", _probe(), help="measure what every depth offers, with labels")
    commands.add_subcommand("profile", _profile(), help="measure what every depth costs")
    commands.add_subcommand("report", _report(), help="write the report of a plan again")
    commands.add_subcommand("demo", _demo(), help="do the main job on the embedded sample")
    commands.add_subcommand("backbones", _backbones(), help="list which backbones can be cut")
    return parser


def _version() -> str:
    from terratorch_simpler import __version__

    return f"terratorch-simpler {__version__}"


def _select() -> ArgumentParser:
    parser = ArgumentParser(
        description="Choose how many blocks of a backbone to keep, from unlabelled tiles. Name the "
        "config of a task, or a backbone with its tiles and bands.",
        epilog=f"Criteria: {', '.join(CRITERIA)}. Baselines: {', '.join(BASELINES)}. With the "
        f"labels of --config: {PROBE}.",
        exit_on_error=False,
    )
    _add_backbone(parser)
    add = parser.add_argument
    add("--pretrained", type=bool, default=True, help="load the pre-trained weights of --backbone")
    add("--tiles", type=str | None, help="folder, archive, file, glob or .txt list of GeoTIFFs")
    add("--bands", type=str, nargs="+", help="bands that the backbone reads, in order")
    add("--dataset_bands", type=str, nargs="+", help="bands that the files hold, in order")
    add("--means", type=float, nargs="+", help="mean of each band, to normalise with")
    add("--stds", type=float, nargs="+", help="standard deviation of each band")
    add("--size", type=int, default=Chips.size, help="height and width of a chip in pixels")
    add(
        "--mask",
        type=Mask | None,
        help="leave out cloud, shadow and snow as the tiles' quality layer says",
    )
    add("--strict", action="store_true", help="make whatever would be left out an error")
    add("--num_workers", type=int, default=Chips.num_workers, help="processes that read tiles")
    add("--output", type=str | None, help="folder for the results (default: NAME_simpler)")
    add("--probe", action="store_true", help="then probe every depth with the labels of --config")
    add(
        "--convert",
        action="store_true",
        help="write the full config for EncoderDecoderFactory as well: TASK_full.yaml",
    )
    add(
        "--batch_size",
        type=int,
        default=Chips.batch_size,
        help="tiles in a batch; changes no result",
    )
    # Beside the flags, all that settings hold.
    parser.add_class_arguments(Settings, skip={"early_stop", "progress"})
    parser.set_defaults(samples=DEFAULT_SAMPLES, seed=0)
    add(
        "--no_early_stop",
        "--no-early-stop",
        action="store_true",
        help="use all samples, also where fewer settle the choice",
    )
    _add_common(parser)
    return parser


def _profile() -> ArgumentParser:
    parser = ArgumentParser(
        description="Measure what a backbone, or the model of a task, costs at every depth: "
        "parameters, FLOPs, time and peak memory of inference and of a training step.",
        exit_on_error=False,
    )
    _add_backbone(parser)
    add = parser.add_argument
    add("--batch_size", type=int, default=2, help="images in a batch")
    add("--size", type=int | None, help="height and width of random images, in pixels")
    add("--accelerator", type=str, default="auto", help="auto, cpu, gpu or mps")
    add("--every_depth", action="store_true", help="measure every depth, interpolate none")
    add("--rounds", type=int, default=5, help="times that each depth is timed")
    add("--output", type=str | None, help="folder for the results (default: NAME_profile)")
    _add_common(parser)
    return parser


def _probe() -> ArgumentParser:
    parser = ArgumentParser(
        description="Measure what every depth of a task's frozen backbone offers, from the "
        "labelled tiles of its config: one pass over them, and a ridge for each depth.",
        exit_on_error=False,
    )
    add = parser.add_argument
    add("--config", type=str, required=True, help="a working TerraTorch config: TASK.yaml")
    add("--blocks", type=str | None, help="its list of blocks, if no rule finds it: encoder.layers")
    add("--plan", type=str | None, help="a plan for the backbone, to compare with")
    add("--samples", type=int | None, help="most training tiles to use (default: all)")
    add("--seed", type=int, default=0, help="seed of their choice")
    add("--accelerator", type=str, default="auto", help="auto, cpu, gpu or mps")
    add("--output", type=str | None, help="folder for the results (default: NAME_probe)")
    _add_common(parser)
    return parser


def _report() -> ArgumentParser:
    parser = ArgumentParser(
        description="Write report.html, similarity.png and scores.png of a plan again, from "
        "plan.json alone. Beside the plan they replace its earlier report, whose pictures of "
        "tiles are kept; any other files that are there need --overwrite.",
        exit_on_error=False,
    )
    add = parser.add_argument
    add("plan", type=str, help="a plan: plan.json")
    add("--output", type=str | None, help="folder for the results (default: that of the plan)")
    _add_common(parser)
    return parser


def _backbones() -> ArgumentParser:
    parser = ArgumentParser(
        description="List the backbones of TerraTorch's registry with family, depth, width and "
        "parameters, or the reason why their depth cannot be cut. Nothing is downloaded.",
        exit_on_error=False,
    )
    add = parser.add_argument
    add("pattern", type=str, nargs="?", help="part of a name, or a pattern with * and ?")
    add("--can_be_cut", action="store_true", help="leave out the others")
    add("--quiet", action="store_true", help="no progress")
    add("--debug", action="store_true", help="show tracebacks and all warnings")
    return parser


def _demo() -> ArgumentParser:
    parser = ArgumentParser(
        description="Select a depth on the embedded Sentinel-2 sample, from its tiles alone and "
        "with its labels; fine-tune the full and the pruned models, and compare them.",
        exit_on_error=False,
    )
    parser.add_argument("--output", type=str, default="demo", help="folder for the results")
    parser.add_argument("--epochs", type=int, default=24, help="epochs of each fine-tuning")
    parser.add_argument(
        "--backbone",
        type=str | None,
        help="another backbone of TerraTorch's registry, with its official weights from the hub",
    )
    _add_common(parser)
    return parser


def _add_backbone(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=str | None, help="a working TerraTorch config: TASK.yaml")
    add("--backbone", type=str | None, help="a name of TerraTorch's backbone registry")
    add("--backbone_args", type=dict[str, Any] | None, help="its arguments, each as .NAME VALUE")
    add("--blocks", type=str | None, help="its list of blocks, if no rule finds it: encoder.layers")


def _add_common(parser: ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")
    parser.add_argument("--quiet", action="store_true", help="no progress and no table")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and all warnings")
