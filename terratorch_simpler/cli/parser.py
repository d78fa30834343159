"""Arguments of every command; imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from jsonargparse import ArgumentParser

from terratorch_simpler.baselines import BASELINES
from terratorch_simpler.cli.help import NAME, Help, command, group
from terratorch_simpler.cli.options import (
    OF_RUNNING,
    add_backbone,
    add_common,
    add_output,
    add_settings,
    several,
)
from terratorch_simpler.criteria import CRITERIA, PROBE
from terratorch_simpler.exporting.formats import Format, Quantized
from terratorch_simpler.lightning import PRECISIONS
from terratorch_simpler.task.chips import Chips
from terratorch_simpler.tiles import DEFAULT_SAMPLES, Mask

READ, CHOOSE, RUN, WRITE = (
    *("What to read", "How to choose", "How to run"),
    "What to write, and what to show",
)


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
    add_backbone(add)
    add("--pretrained", type=bool, default=True, help="load its pre-trained weights (the default)")
    add(
        "--tiles",
        type=str | None,
        metavar="PATH",
        help="folder, archive, file, glob or .txt list of GeoTIFFs; with --config, in the place of "
        "its own tiles",
    )
    several(add, "--bands", str, "BAND", "bands that the backbone reads, in order")
    several(add, "--dataset_bands", str, "BAND", "bands that the files hold, in order")
    several(add, "--means", float, "MEAN", "mean of each band, to normalise with")
    several(add, "--stds", float, "STD", "standard deviation of each band")
    add("--size", type=int, metavar="PIXELS", default=Chips.size, help="height and width of a chip")
    add(
        "--mask",
        type=Mask | None,
        metavar=f"{{{','.join(get_args(Mask))}}}",
        help="leave out cloud, shadow and snow as the tiles' quality layer says",
    )
    add("--strict", action="store_true", help="make whatever would be left out an error")
    add = group(parser, CHOOSE)
    add_settings(add, lambda name: name not in OF_RUNNING)
    add(
        "--no_early_stop",
        "--no-early-stop",
        action="store_true",
        help="use all samples, also where fewer settle the choice",
    )
    add = group(parser, RUN)
    add_settings(add, lambda name: name in OF_RUNNING)
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
    add_output(add, "NAME_simpler")
    add("--probe", action="store_true", help="then probe every depth with the labels of --config")
    add(
        "--convert",
        action="store_true",
        help="write the full config for EncoderDecoderFactory as well: TASK_full.yaml",
    )
    add_common(add)
    parser.set_defaults(samples=DEFAULT_SAMPLES, seed=0)
    return parser


def _profile() -> ArgumentParser:
    parser = command(
        "Measure what a backbone, or the model of a task, costs at every depth: parameters, FLOPs, "
        "time and peak memory of inference and of a training step.",
        "profile --config TASK.yaml [options]\nprofile --backbone NAME [options]",
        "profile --backbone prithvi_eo_v2_300 --accelerator gpu",
        "Writes profile.csv, parts.csv and profile.png into a folder.",
    )
    add = group(parser, READ)
    add_backbone(add)
    add("--plan", type=str | None, metavar="plan.json", help="a plan for it, whose depth is named")
    add("--with_loader", action="store_true", help="measure the training loader of --config")
    add = group(parser, RUN)
    add("--batch_size", type=int, metavar="N", default=2, help="images in a batch")
    add(
        "--size",
        type=int | None,
        metavar="PIXELS",
        help="height and width of random images; those of --config are read unless it is named",
    )
    add("--accelerator", type=str, metavar="NAME", default="auto", help="auto, cpu, gpu or mps")
    add(
        "--precision",
        type=str,
        metavar="NAME",
        default="32-true",
        help=", ".join(PRECISIONS[:-1]) + f" or {PRECISIONS[-1]}",
    )
    add("--compile", action="store_true", help="compile each depth with torch.compile")
    add("--every_depth", action="store_true", help="measure every depth, interpolate none")
    add("--rounds", type=int, metavar="N", default=5, help="times that each depth is timed")
    add = group(parser, WRITE)
    add_output(add, "NAME_profile")
    add_common(add)
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
    add_output(add, "NAME_probe")
    add_common(add)
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
    add_common(add)
    return parser


def _export() -> ArgumentParser:
    parser = command(
        "Write the model of a checkpoint in another format, and prove it: it is loaded in a fresh "
        "process, and its output for a tile held against the checkpoint's. Of a config it is the "
        "model with which 'terratorch fit' would begin.",
        "export CHECKPOINT --to FORMAT --output PATH [options]",
        "export last.ckpt --to onnx --output model.onnx --config burn_scars.yaml",
        "Writes a file (onnx with what it expects beside it as JSON, pt2) or a folder (terratorch "
        "for plain TerraTorch, safetensors for a model hub, vllm), or nothing where the proof "
        "fails.",
    )
    add = group(parser, READ)
    add(
        "checkpoint",
        type=str,
        help="what a trainer saved of a TerraTorch task, pruned or full; or a config (.yaml), for "
        "the backbone's weights and an untrained decoder and head",
    )
    add(
        "--config",
        type=str | None,
        metavar="TASK.yaml",
        help="the checkpoint's config: its data gives the tile, and is written along",
    )
    add("--size", type=int | None, metavar="PIXELS", help="side of the tile, without a config")
    add = group(parser, CHOOSE)
    add(
        "--to",
        type=Format,
        required=True,
        metavar=f"{{{','.join(get_args(Format))}}}",
        help="the format (required)",
    )
    add("--merge", action="store_true", help="write LoRA's adapters into the weights")
    add(
        "--quantize",
        type=Quantized | None,
        metavar=f"{{{','.join(get_args(Quantized))}}}",
        help="int8 for onnx, bf16 for pt2; needs --config, for the accuracy before and after",
    )
    add("--opset", type=int | None, metavar="N", help="version of ONNX's operators")
    add(
        "--dynamic_size",
        action="store_true",
        help="let ONNX take images of any height and width, where the backbone can",
    )
    add = group(parser, WRITE)
    add("--output", type=str, required=True, metavar="PATH", help="file or folder (required)")
    add_common(add)
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
    add("--epochs", type=int, metavar="N", default=8, help="epochs of each fine-tuning")
    add = group(parser, WRITE)
    add("--output", type=str, default="demo", metavar="FOLDER", help="where to")
    add_common(add)
    return parser


def _predict() -> ArgumentParser:
    parser = command(
        "Make maps of whole scenes from an exported model, window by window, with onnxruntime: "
        "without torch, in memory that does not grow with the height of a scene.",
        "predict EXPORT.onnx SCENE.tif --output MAP.tif [options]\n"
        "predict EXPORT.onnx SCENE ... --output FOLDER [options]",
        "predict burn_scars.onnx scene.tif --output map.tif",
        "Writes a GeoTIFF for each scene. A run that was stopped goes on where it was: finished "
        "parts are kept in a hidden folder beside the map until it is complete.",
    )
    add = group(parser, READ)
    add("model", type=str, metavar="EXPORT.onnx", help="a model that 'export --to onnx' wrote")
    add(
        "scenes",
        type=str,
        nargs="+",
        metavar="SCENE",
        help="files, globs, folders, archives or .txt lists of scenes",
    )
    several(add, "--dataset_bands", str, "BAND", "bands that the scenes hold, in order")
    add = group(parser, RUN)
    add(
        "--crop",
        type=int | None,
        metavar="PIXELS",
        help="height and width of a window, if the export takes any (default: its own)",
    )
    add(
        "--stride",
        type=int | None,
        metavar="PIXELS",
        help="from one window to the next (default: 192 of 224, in proportion)",
    )
    add(
        "--delta",
        type=int | None,
        metavar="PIXELS",
        help="border of a window that does not count (default: 8 of 224, in proportion)",
    )
    add("--padding", type=bool, default=True, help="reflect the scene at its edges (the default)")
    add("--batch_size", type=int, metavar="N", default=4, help="windows in a run of the model")
    add("--num_threads", type=int, metavar="N", default=0, help="threads, 0 for all cores")
    add = group(parser, WRITE)
    add(
        "--output",
        type=str,
        required=True,
        metavar="MAP.tif",
        help="the map of one scene, or a folder for maps named after their scenes (required)",
    )
    add("--probabilities", action="store_true", help="a band of probabilities for each class")
    add("--resume", action="store_true", help="keep maps that are there if they are the same")
    add_common(add)
    return parser


COMMANDS: dict[str, tuple[Callable[[], ArgumentParser], str]] = {
    "select": (_select, "choose a depth from unlabelled tiles"),
    "probe": (_probe, "measure what every depth offers, with labels"),
    "profile": (_profile, "measure what every depth costs"),
    "report": (_report, "write the report of a plan again"),
    "export": (_export, "write a trained model in another format, proven"),
    "predict": (_predict, "make maps of scenes from an exported model"),
    "demo": (_demo, "do the main job on the embedded sample"),
    "backbones": (_backbones, "list which backbones can be cut"),
}
"""Every command: what builds its parser, and what it does."""
