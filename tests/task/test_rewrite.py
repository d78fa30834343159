from __future__ import annotations

import copy
import difflib
from pathlib import Path
from typing import Any

import pytest
import yaml

from terratorch_simpler.results.config_lines import CALLBACK, config_lines
from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.rewrite import simpler_config

ENTRY = {"class_path": CALLBACK}

MODEL = """\
model:
  class_path: terratorch.tasks.SemanticSegmentationTask
  init_args:
    model_args:
      backbone: prithvi_eo_v2_300
      decoder: UperNetDecoder
      necks:
        - name: SelectIndices
          indices: [5, 11, 17, 23]
    model_factory: EncoderDecoderFactory
data:
  class_path: GenericNonGeoSegmentationDataModule
"""

TRAINERS = {
    "no trainer": "",
    "block trainer": "trainer:\n  accelerator: cpu\n  max_epochs: 3\n",
    "flow trainer": "trainer: {accelerator: cpu, max_epochs: 3}\n",
    "empty flow trainer": "trainer: {}\n",
    "empty trainer": "trainer:\n",
    "null trainer": "trainer: null\n",
    "null trainer with a comment": "trainer: null  # the defaults\n",
    "block callbacks": (
        "trainer:\n  callbacks:\n    - class_path: RichProgressBar\n"
        "    - class_path: LearningRateMonitor\n      init_args:\n        logging_interval: epoch\n"
        "  max_epochs: 3\n"
    ),
    "callbacks that are not indented": (
        "trainer:\n  callbacks:\n  - class_path: RichProgressBar\n  - class_path: Timer\n"
        "  max_epochs: 3\n"
    ),
    "callbacks under a comment": (
        "trainer:\n  callbacks:\n    # shows progress\n    - class_path: RichProgressBar  # here\n"
    ),
    "flow callbacks": (
        "trainer:\n  callbacks: [{class_path: RichProgressBar}, {class_path: Timer}]\n"
    ),
    "flow callbacks over several lines": (
        "trainer:\n  callbacks: [\n    {class_path: RichProgressBar},\n"
        "    {class_path: Timer}\n  ]\n"
    ),
    "empty flow callbacks": "trainer:\n  callbacks: []  # none yet\n  max_epochs: 3\n",
    "empty callbacks": "trainer:\n  callbacks:\n  max_epochs: 3\n",
    "empty callbacks with a comment": "trainer:\n  callbacks:  # none\n  max_epochs: 3\n",
    "null callbacks": "trainer:\n  callbacks: null\n  max_epochs: 3\n",
    "callbacks in a flow trainer": (
        "trainer: {callbacks: [{class_path: RichProgressBar}], max_epochs: 3}\n"
    ),
    "empty callbacks in a flow trainer": "trainer: {callbacks: [], max_epochs: 3}\n",
    "the callback already": (
        f"trainer:\n  callbacks:\n    - class_path: {CALLBACK}\n    - class_path: Timer\n"
    ),
}

MODELS = {
    "block": MODEL,
    "comments": MODEL.replace(
        "_300\n", "_300  # 24 blocks\n      # the decoder: reads all\n"
    ).replace("model:", "# a model\nmodel:  # here"),
    "quoted": MODEL.replace("prithvi_eo_v2_300", '"prithvi_eo_v2_300"'),
    "backbone last": MODEL.replace("      backbone: prithvi_eo_v2_300\n", "").replace(
        "    model_factory", "      backbone: prithvi_eo_v2_300\n    model_factory"
    ),
    "flow": (
        "model:\n  class_path: SemanticSegmentationTask\n  init_args:\n"
        "    model_args: {backbone: prithvi_eo_v2_300, decoder: UperNetDecoder}\n"
    ),
    "flow, backbone last": (
        "model: {init_args: {model_args: {decoder: UperNetDecoder, backbone: prithvi_eo_v2_300}}}\n"
    ),
    "flow over several lines": (
        "model:\n  init_args:\n    model_args: {\n      backbone: prithvi_eo_v2_300,  # 24 blocks\n"
        "      decoder: UperNetDecoder\n    }\n"
    ),
    "no newline at the end": (
        "model:\n  init_args:\n    model_args:\n      backbone: prithvi_eo_v2_300"
    ),
    "merged keys": (
        "base: &base {backbone: resnet, decoder: UperNetDecoder}\n"
        "model:\n  init_args:\n    model_args:\n      <<: *base\n"
        "      backbone: prithvi_eo_v2_300\n"
    ),
    "backbone merged in": (
        "base: &base {backbone: prithvi_eo_v2_300, decoder: UperNetDecoder}\n"
        "model:\n  init_args:\n    model_args:\n      # all of it\n      <<: *base\n"
        "      decoder: FCNDecoder\n"
    ),
    "backbone merged into flow": (
        "base: &base {backbone: prithvi_eo_v2_300}\n"
        "model: {init_args: {model_args: {<<: *base, decoder: FCNDecoder}}}\n"
    ),
    "backbone by an alias": (
        "name: &name prithvi_eo_v2_300\nmodel:\n  init_args:\n    model_args:\n"
        "      backbone: *name  # 24 blocks\n      decoder: FCNDecoder\n"
    ),
    "backbone with an anchor": (
        "model:\n  init_args:\n    model_args:\n      decoder: FCNDecoder\n"
        "      backbone: &name prithvi_eo_v2_300\n"
    ),
    "windows newlines": MODEL.replace("\n", "\r\n"),
    "comment at the end": f"{MODEL}# that is all",
}

DEPTHS: list[int | list[int]] = [5, [0, 1, 2, 7]]

PATHS = [
    "runs/plan.json",
    "my runs/plan.json",
    "runs: new/plan.json",
    "runs #3/plan.json",
    "C:\\runs\\plan.json",
    "'runs'/\"plan\".json",
    "runs/plän.json",
    "runs [1], {2}/plan.json",
    "runs, old/plan.json",
    "@runs/plan.json",
    "- runs/plan.json",
    "2026",
    "null",
    "y" * 300,
]


def rewrite(text: str, keep_blocks: int | list[int], plan: str) -> str:
    """The text of a config, rewritten."""
    return simpler_config(TaskConfig.parse(text, Path("task.yaml")), keep_blocks, plan)


def expected(text: str, keep_blocks: int | list[int], plan: str) -> dict[str, Any]:
    """What the rewritten config must mean: the old structure with the few entries it names."""
    config: dict[str, Any] = copy.deepcopy(yaml.safe_load(text))
    arguments = config["model"]["init_args"]["model_args"]
    arguments["backbone"] = f"simpler_{arguments['backbone']}"
    arguments["backbone_keep_blocks"] = keep_blocks
    arguments["backbone_plan"] = plan
    trainer = config.get("trainer") or {}
    callbacks = trainer.get("callbacks") or []
    others = [callback for callback in callbacks if callback != ENTRY]
    config["trainer"] = trainer | {"callbacks": [ENTRY, *others]}
    return config


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
@pytest.mark.parametrize("trainer_first", [True, False])
def test_callback_joins_any_trainer(trainer: str, trainer_first: bool) -> None:
    text = trainer + MODEL if trainer_first else MODEL + trainer
    assert yaml.safe_load(rewrite(text, 5, "p.json")) == expected(text, 5, "p.json")


@pytest.mark.parametrize("keep_blocks", DEPTHS, ids=str)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_backbone_becomes_the_pruned_one(model: str, keep_blocks: int | list[int]) -> None:
    rewritten = rewrite(model, keep_blocks, "p.json")
    assert yaml.safe_load(rewritten) == expected(model, keep_blocks, "p.json")


@pytest.mark.parametrize("plan", PATHS)
@pytest.mark.parametrize("style", ["block", "flow"])
def test_any_path_of_the_plan_is_read_back(style: str, plan: str) -> None:
    rewritten = rewrite(MODELS[style], 5, plan)
    assert yaml.safe_load(rewritten) == expected(MODELS[style], 5, plan)


@pytest.mark.parametrize(
    "trainer",
    [
        "",
        '"trainer": {}, ',
        '"trainer": null, ',
        '"trainer": {"max_epochs": 3}, ',
        '"trainer": {"callbacks": [{"class_path": "Timer"}]}, ',
    ],
)
def test_config_that_is_one_flow_mapping_is_rewritten(trainer: str) -> None:
    text = f'{{{trainer}"model": {{"init_args": {{"model_args": {{"backbone": "prithvi"}}}}}}}}\n'
    assert yaml.safe_load(rewrite(text, 5, "p.json")) == expected(text, 5, "p.json")


@pytest.mark.parametrize(
    ("merged", "where"),
    [
        (
            "m: &m {init_args: {model_factory: EncoderDecoderFactory, model_args: {backbone: x}}}\n"
            "model: {<<: *m, class_path: SemanticSegmentationTask}\n",
            "init_args in .* comes from a merge key .* write model.init_args.model_args out",
        ),
        (
            f"t: &t {{callbacks: [{{class_path: Timer}}]}}\n{MODEL}trainer: {{<<: *t}}\n",
            "callbacks in .* comes from a merge key .* write trainer.callbacks out",
        ),
        (
            f"t: &t {{trainer: {{max_epochs: 3}}}}\n<<: *t\n{MODEL}",
            "trainer in .* comes from a merge key .* write trainer.callbacks out",
        ),
    ],
)
def test_what_is_merged_in_as_a_whole_is_refused(merged: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(merged)
    with pytest.raises(ValueError, match=where):
        TaskConfig.read(tmp_path / "task.yaml")


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines taken out and lines put in, without their indentation."""
    delta = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return (
        [line[2:].strip() for line in delta if line.startswith("- ")],
        [line[2:].strip() for line in delta if line.startswith("+ ")],
    )


@pytest.mark.parametrize(
    "trainer", ["", TRAINERS["block trainer"], TRAINERS["block callbacks"]], ids=["none", "no", "2"]
)
@pytest.mark.parametrize("model", ["block", "comments", "backbone last"])
def test_no_other_line_is_touched(trainer: str, model: str) -> None:
    before = f"# My config\n\n{trainer}\n{MODELS[model]}"
    gone, new = changed_lines(before, rewrite(before, 5, "p.json"))
    comment = "  # 24 blocks" if model == "comments" else ""
    assert gone == [f"backbone: prithvi_eo_v2_300{comment}"]
    frame = ["trainer:"] * (not trainer) + ["callbacks:"] * ("callbacks" not in trainer)
    assert sorted(new) == sorted(
        [
            f"backbone: simpler_prithvi_eo_v2_300{comment}",
            "backbone_keep_blocks: 5",
            "backbone_plan: p.json",
            f"- class_path: {CALLBACK}",
            *frame,
        ]
    )


def test_lines_to_edit_by_hand_say_the_same_as_a_rewritten_config() -> None:
    shown = yaml.safe_load(config_lines("prithvi_eo_v2_300", [0, 3], "runs: new/plan.json"))
    text = "model: {init_args: {model_args: {backbone: prithvi_eo_v2_300}}}\n"
    assert shown == expected(text, [0, 3], "runs: new/plan.json")
