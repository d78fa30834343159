"""Mistakes with ``probe`` and ``select --probe``: status 2, one line, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.cli import main
from terratorch_simpler.probing.labels import Labels
from terratorch_simpler.probing.probe import ProbeSettings, run_probe
from terratorch_simpler.results.plan import PruningPlan
from tests.cli.test_errors import (
    CONFIG,
    OUTPUT,
    Case,
    Options,
    check,
    command,
    config,
    folder,
    mistake_in,
    no_gpu_for_fabric,
    text_config,
)
from tests.conftest import MakePlan

__all__ = ["folder"]

TASK = "--config task.yaml --accelerator cpu"
TWO = config(classes=2)
DETECTION_NECKS = (
    "        - {name: ReshapeTokensToImage}\n        - {name: LearnedInterpolateToPyramidal}\n"
    "        - {name: FeaturePyramidNetworkNeck, out_channel: 32}"
)


SCALAR = config(
    ("tasks.SemanticSegmentationTask", "tasks.ScalarRegressionTask"),
    ("    loss: ce\n    ignore_index: -1\n", "    loss: mse\n"),
    ("decoder: FCNDecoder\n      num_classes: 2", "decoder: IdentityDecoder"),
    ("        - name: ReshapeTokensToImage", "        - name: AggregateTokens"),
    ("      necks", "      num_outputs: 1\n      necks"),
)
DECIDE = ("--criterion", "probe", "--output", OUTPUT, "--accelerator", "cpu", "--quiet")

probing = partial(mistake_in, "probe")
"""A mistake in ``probe``, by what is typed after it."""


def labelled(*edits: tuple[str, str], **how: Any) -> Callable[[], Options]:
    """A config of two classes, but for these edits."""
    return config(*edits, **{"classes": 2} | how)


def deciding(
    what: str, says: tuple[str, ...], *typed: str, made: Callable[[], Options] = TWO
) -> Case:
    """A mistake where labels decide."""
    arguments = ("select", "--config", "task.yaml", *DECIDE, *typed)
    return Case(what, made, says, arguments=arguments)


def one_validation_tile() -> Options:
    """A config of two classes and one tile to validate on."""
    roots = ("tiles", "masks")
    edits = [
        (f"val_{kind}data_root: {root}", f"val_{kind}data_root: one/{root}")
        for kind, root in zip(("", "label_"), roots, strict=True)
    ]
    options = labelled(*edits)()
    for root in roots:
        Path("one", root).mkdir(parents=True)
        shutil.copy(Path(root, "tile_0.tif"), Path("one", root))
    return options


def planned(make: Callable[[], object], path: str = "plan.json") -> Callable[[], Options]:
    """A good config, and a file in the place of a plan."""

    def prepare() -> Options:
        TWO()
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(json.dumps(make()))
        return {}

    return prepare


CASES = [
    probing("no config", "", "config", "--help"),
    probing("config missing", "--config task.yaml", "no config at task.yaml"),
    probing(
        "config without a model",
        TASK,
        "task.yaml is no TerraTorch task config",
        prepare=text_config("trainer: {max_epochs: 1}\n"),
    ),
    probing(
        "config without data",
        TASK,
        "task.yaml has no data: a probe needs its labelled tiles",
        prepare=config((CONFIG[CONFIG.index("data:") : CONFIG.index("model:")], "")),
    ),
    probing(
        "task whose labels are no masks or classes",
        TASK,
        "task.yaml has the task ScalarRegressionTask, whose labels a probe cannot read",
        "SemanticSegmentationTask, PixelwiseRegressionTask",
        prepare=SCALAR,
    ),
    probing(
        "task of object detection",
        TASK,
        "task.yaml has the task ObjectDetectionTask, whose labels a probe cannot read",
        prepare=config(
            ("tasks.SemanticSegmentationTask", "tasks.ObjectDetectionTask"),
            ("factory: EncoderDecoderFactory", "factory: ObjectDetectionModelFactory"),
            ("decoder: FCNDecoder", "framework: fcos"),
            ("        - name: ReshapeTokensToImage", DETECTION_NECKS),
            ("    loss: ce\n    ignore_index: -1\n", ""),
        ),
    ),
    probing(
        "one class only",
        TASK,
        "the training labels hold class 0 only",
        "use more tiles",
        prepare=config(),
    ),
    probing(
        "class that the task does not have",
        TASK,
        "the labels hold class 2, but num_classes is 2 (0 to 1) and ignore_index -1",
        prepare=config(classes=3),
    ),
    probing(
        "all labels ignored",
        TASK,
        "no pixel of the training tiles is labelled",
        "ignore_index 0",
        prepare=config(("ignore_index: -1", "ignore_index: 0")),
    ),
    probing(
        "tiles that are no multiple of the patch",
        TASK,
        "prithvi_eo_tiny cuts tiles into patches of 16 px, and 72 x 72 px are no multiple",
        "make the sides of the tiles a multiple",
        prepare=labelled(size=72),
    ),
    probing(
        "too few training tiles",
        TASK,
        "3 training tiles, at least 4 are needed",
        prepare=labelled(count=3),
    ),
    probing(
        "no validation images",
        TASK,
        "cannot give its validation images",
        "check its folders and files",
        "val_dataset has length 0",
        prepare=labelled(("val_data_root: tiles", "val_data_root: gone")),
    ),
    probing("samples", f"{TASK} --samples 3", "samples must be at least 4, got 3", prepare=TWO),
    probing("seed", f"{TASK} --seed -1", "seed must be at least 0, got -1", prepare=TWO),
    probing(
        "unknown accelerator",
        "--config task.yaml --accelerator abacus",
        "'abacus'",
        "auto, cpu, gpu",
        prepare=TWO,
    ),
    probing(
        "accelerator that is not there",
        "--config task.yaml --accelerator gpu",
        "no accelerator 'gpu' on this machine",
        prepare=TWO,
        patch=no_gpu_for_fabric,
    ),
    probing("blocks that are not there", f"{TASK} --blocks layers", "blocks='layers'", prepare=TWO),
    probing("plan missing", f"{TASK} --plan gone.json", "no plan at gone.json", prepare=TWO),
    probing(
        "no plan",
        f"{TASK} --plan plan.json",
        "plan.json is not a plan",
        prepare=planned(lambda: [1, 2]),
    ),
    probing(
        "the user's plan in the output folder",
        f"{TASK} --plan out/plan.json",
        "--plan out/plan.json is where the plan with the probe would be written",
        "choose another --output",
        prepare=planned(dict, "out/plan.json"),
    ),
    probing(
        "results in the output folder",
        TASK,
        "out/probe.csv already there",
        "--overwrite",
        prepare=planned(dict, "out/probe.csv"),
    ),
    Case(
        "select --probe without a config",
        dict,
        ("--probe needs labels", "--config"),
        arguments=("select", "--backbone", "prithvi_eo_tiny", "--tiles", "t", "--probe"),
    ),
    Case(
        "select --probe on two devices",
        dict,
        ("--probe runs on one device",),
        arguments=("select", "--config", "task.yaml", "--devices", "2", "--probe"),
    ),
    Case(
        "labels decide without a config",
        dict,
        ("--criterion probe needs labels", "--config"),
        arguments=("select", "--backbone", "prithvi_eo_tiny", "--tiles", "t", *DECIDE),
    ),
    deciding("labels decide on two devices", ("--criterion probe runs on one",), "--devices", "2"),
    deciding(
        "labels decide at a named depth", ("'probe' chooses the depth itself",), "--depth", "3"
    ),
    deciding("labels of one class decide", ("training labels hold class 0 only",), made=config()),
    deciding(
        "ignored labels decide",
        ("no pixel of the training tiles is labelled", "ignore_index 0"),
        made=config(("ignore_index: -1", "ignore_index: 0")),
    ),
    deciding(
        "missing labels decide",
        ("task.yaml has no data: a probe needs its labelled tiles",),
        *("--tiles", "tiles"),
        made=labelled((CONFIG[CONFIG.index("data:") : CONFIG.index("model:")], "")),
    ),
    deciding(
        "labels that no probe reads decide",
        ("task.yaml has the task ScalarRegressionTask, whose labels a probe cannot read",),
        made=SCALAR,
    ),
    deciding(
        "one validation tile decides",
        ("no bootstrap is possible", "Use more", "--share 0.98"),
        made=one_validation_tile,
    ),
    deciding("share of nothing", ("share must be above 0 and at most 1, got 0",), "--share", "0"),
    deciding("share of more", ("share must be above 0 and at most 1, got 1.1",), "--share", "1.1"),
    Case(
        "share without labels",
        TWO,
        ("share goes with criterion 'probe', not with 'simpler'", "leave it out"),
        arguments=("select", "--config", "task.yaml", "--share", "0.98"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_mistake(
    case: Case,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    check(case, folder, monkeypatch, capfd)


def test_the_command_that_the_cases_change_works() -> None:
    TWO()
    main(["probe", *TASK.split(), "--output", OUTPUT, "--quiet"])
    assert {path.name for path in Path(OUTPUT).iterdir()} == {
        "probe.csv",
        "probe.json",
        "probe.png",
    }


def test_a_share_decides_where_one_validation_tile_cannot_be_resampled() -> None:
    one_validation_tile()
    with pytest.warns(UserWarning, match="fewer than two labelled validation tiles leave nothing"):
        main(["select", "--config", "task.yaml", *DECIDE, "--share", "0.9", "--debug"])
    plan = PruningPlan.load(f"{OUTPUT}/plan.json")
    assert plan.probe is not None
    assert plan.depth == plan.probe.reaches(0.9)
    assert (plan.confidence, plan.depth_shares, plan.depth_interval) == (None, {}, None)
    assert plan.probe.errors is None


def test_the_plan_of_another_backbone(
    make_plan: MakePlan, capsys: pytest.CaptureFixture[str]
) -> None:
    TWO()
    make_plan().save("plan.json")
    with pytest.raises(SystemExit, match="2"):
        main(["probe", *TASK.split(), "--plan", "plan.json", "--output", OUTPUT, "--quiet"])
    said = capsys.readouterr().err
    assert "made for another backbone: prithvi_eo_v2_tiny_tl in the plan, prithvi_eo_tiny" in said
    assert not Path(OUTPUT).exists()


def test_a_plan_that_labels_chose_has_its_probe(
    make_plan: MakePlan, tiny_prithvi: nn.Module
) -> None:
    backbone = load_backbone(tiny_prithvi)
    named = make_plan(name=backbone.label, fingerprint=backbone.fingerprint())
    plan = named.model_copy(update={"criterion": "probe"})
    with pytest.raises(ValueError, match=r"chosen by labels .* give one that was chosen without"):
        run_probe(backbone, [], [], Labels("regression"), ProbeSettings(progress=False), plan)


def test_a_failed_probe_loses_no_selection(capsys: pytest.CaptureFixture[str]) -> None:
    """What can be known before the selection is said before it."""
    options = labelled((CONFIG[CONFIG.index("data:") : CONFIG.index("model:")], ""))()
    with pytest.raises(SystemExit, match="2"):
        main([*command(options | {"tiles": "tiles"}), "--probe"])
    assert "has no data: a probe needs its labelled tiles" in capsys.readouterr().err
