from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch
import wrapt
from torch import Tensor, nn

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.registry import register, register_when_imported
from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import Hub

Build = Callable[..., Any]
MakePlan = Callable[..., PruningPlan]
TINY = "prithvi_eo_v2_tiny_tl"
TERRATORCH = "terratorch.registry"


@pytest.fixture(scope="module")
def registry(build: Build) -> Any:
    del build  # imports TerraTorch
    return sys.modules[TERRATORCH].BACKBONE_REGISTRY


@pytest.fixture
def unregistered(registry: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The registry as it is without this package."""
    monkeypatch.delitem(registry._sources, "simpler")
    return registry


def test_package_registers_at_once_after_terratorch(unregistered: Any) -> None:
    register_when_imported()
    assert "simpler" in unregistered.keys()  # noqa: SIM118 - `in` looks for names


def test_package_registers_when_terratorch_comes_later(
    unregistered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[TERRATORCH]
    with monkeypatch.context() as before:
        before.delitem(sys.modules, TERRATORCH)
        register_when_imported()
        assert TERRATORCH not in sys.modules
    assert "simpler" not in unregistered.keys()  # noqa: SIM118
    wrapt.notify_module_loaded(module)
    assert "simpler" in unregistered.keys()  # noqa: SIM118


def test_second_registration_changes_nothing(registry: Any) -> None:
    source = registry["simpler"]
    register()
    register_when_imported()
    assert registry["simpler"] is source


def test_names_that_can_be_cut_are_listed_with_the_prefix(registry: Any) -> None:
    listed = [name for name in registry if name.startswith("simpler_")]
    for name in ("prithvi_eo_v2_300", "terramind_v1_base_tim", "dofa_base_patch16_224"):
        assert f"simpler_{name}" in listed
    assert "simpler_terramind_v1_tokenizer_dem" not in listed
    assert len(registry["simpler"]) == len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("simpler_prithvi_eo_v2_300", True),
        ("simpler_terratorch_prithvi_eo_v2_300", True),
        ("simpler_prithvi_eo_v9", False),
        ("simpler_simpler_prithvi_eo_v2_300", False),
        ("prithvi_eo_v9", False),
        ("prithvi_eo_v2_300", True),
    ],
)
def test_registry_contains_the_pruned_name_of_what_it_contains(
    registry: Any, name: str, held: bool
) -> None:
    assert (name in registry) is held


@pytest.mark.parametrize("name", ["prithvi_eo_v9", "", "nothing_like_it"])
def test_unknown_names_without_prefix_get_the_error_of_terratorch(
    registry: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(Exception, match="could not be instantiated") as ours:
        registry.build(name)
    monkeypatch.delitem(registry._sources, "simpler")
    with pytest.raises(Exception, match="could not be instantiated") as theirs:
        registry.build(name)
    assert type(ours.value) is type(theirs.value)
    assert str(ours.value) == str(theirs.value)


def test_full_backbone_is_still_built_without_prefix(tiny_prithvi: nn.Module) -> None:
    assert type(tiny_prithvi).__name__ == "PrithviViT"


def test_pruned_backbone_is_the_full_one_cut(
    build: Build, tiny_prithvi: Any, images: Tensor
) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=3)
    assert torch.equal(pruned(images)[0], tiny_prithvi(images)[0])
    assert (len(pruned.blocks), len(pruned.out_channels)) == (3, 12)


def test_arguments_of_the_full_backbone_pass_through(build: Build) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=3, bands=["RED", "BLUE"], drop_path=0.1)
    assert pruned.in_chans == 2
    assert pruned.blocks[0].drop_path1.drop_prob == 0.1


def test_outputs_are_chosen_by_name(build: Build) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=[0, 5], outputs="kept")
    assert pruned.output_blocks == [0, 1]


@pytest.mark.parametrize("name", ["simpler_terratorch_prithvi_eo_tiny"])
def test_prefix_of_the_full_source_may_be_given(build: Build, name: str) -> None:
    assert len(build(name, keep_blocks=2).blocks) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "simpler_prithvi_eo_v2_30",
            "no backbone 'prithvi_eo_v2_30': did you mean .*prithvi_eo_v2_300",
        ),
        ("simpler_", "no backbone '': see 'terratorch-simpler backbones'"),
        ("simpler_simpler_prithvi_eo_tiny", "pruned backbone already: give the full one"),
        ("simpler_prithvi_swin_B", "hierarchical or convolutional: its 4 stages are 128, 256"),
        ("simpler_timm_resnet18", "the depth of timm_resnet18 cannot be cut: .*hierarchical or"),
    ],
)
def test_name_that_cannot_be_cut_is_refused_with_the_reason(
    registry: Any, name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        registry.build(name, keep_blocks=2)


def test_no_depth_is_refused_with_the_three_ways_to_give_one(build: Build) -> None:
    message = "does not say how deep: .*keep_blocks .*backbone_plan .*backbone_calibration"
    with pytest.raises(ValueError, match=message):
        build(f"simpler_{TINY}")


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (0, "keep_blocks is 0"),
        (13, "keep_blocks is 13, but this backbone has 12 blocks"),
        ([3, 1], "must be sorted"),
        (True, "must be a number or a list"),
    ],
)
def test_wrong_depth_is_refused(build: Build, keep: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(f"simpler_{TINY}", keep_blocks=keep)


def test_unknown_outputs_are_refused(build: Build) -> None:
    with pytest.raises(ValueError, match="outputs must be one of full_depth, kept, got 'all'"):
        build(f"simpler_{TINY}", keep_blocks=3, outputs="all")


def test_calibration_is_not_run_where_keep_blocks_is_given(build: Build, tmp_path: Path) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=3, calibration={"tiles": str(tmp_path / "gone")})
    assert len(pruned.blocks) == 3


@pytest.fixture
def plan_path(make_plan: MakePlan, tmp_path: Path) -> Path:
    """A plan that keeps the first 4 blocks of the small Prithvi."""
    path = tmp_path / "plan.json"
    make_plan(moving=4).save(path)
    return path


@pytest.mark.parametrize("keep", [None, 4, [0, 1, 2, 3]])
@pytest.mark.parametrize("kind", [Path, str])
def test_plan_decides_where_keep_blocks_agrees(
    build: Build, plan_path: Path, keep: Any, kind: Callable[[Path], Any]
) -> None:
    pruned = build(f"simpler_{TINY}", plan=kind(plan_path), keep_blocks=keep)
    assert pruned.kept_blocks == [0, 1, 2, 3]
    assert pruned.plan == PruningPlan.load(plan_path)


@pytest.mark.parametrize("keep", [3, [0, 1, 2, 4]])
def test_plan_and_keep_blocks_that_disagree_are_refused(
    build: Build, plan_path: Path, keep: Any
) -> None:
    with pytest.raises(ValueError, match=r"keep_blocks says .* says 4: give one of them"):
        build(f"simpler_{TINY}", plan=plan_path, keep_blocks=keep)


def test_keep_blocks_decides_where_the_plan_is_gone(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pruned = build(f"simpler_{TINY}", plan=tmp_path / "gone.json", keep_blocks=3)
    assert pruned.kept_blocks == [0, 1, 2]
    assert "gone.json: keep_blocks=3 decides" in caplog.text


def test_missing_plan_alone_is_refused(build: Build, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no plan at .*gone\.json.*backbone_keep_blocks"):
        build(f"simpler_{TINY}", plan=tmp_path / "gone.json")


def test_plan_for_another_backbone_is_refused(build: Build, plan_path: Path) -> None:
    with pytest.raises(ValueError, match=f"another backbone: {TINY} in the plan, prithvi_eo_tiny"):
        build("simpler_prithvi_eo_tiny", plan=plan_path)


def test_plan_for_another_depth_is_refused(build: Build, plan_path: Path) -> None:
    with pytest.raises(ValueError, match="another depth: 12 in the plan, 6 here"):
        build(f"simpler_{TINY}", plan=plan_path, depth=6)


@pytest.fixture(scope="module")
def checkpoint(tiny_prithvi: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "weights.pt"
    torch.save(tiny_prithvi.state_dict(), path)
    return path


def test_plan_for_other_pretrained_weights_is_refused(
    build: Build, plan_path: Path, checkpoint: Path
) -> None:
    with pytest.raises(ValueError, match="another weights: 000000000000 in the plan, "):
        build(f"simpler_{TINY}", plan=plan_path, pretrained=True, ckpt_path=str(checkpoint))


def test_plan_for_these_pretrained_weights_is_accepted(
    build: Build, make_plan: MakePlan, tiny_prithvi: nn.Module, checkpoint: Path, tmp_path: Path
) -> None:
    make_plan(fingerprint=load_backbone(tiny_prithvi).fingerprint()).save(tmp_path / "plan.json")
    pruned = build(
        f"simpler_{TINY}",
        seed=9,
        plan=tmp_path / "plan.json",
        pretrained=True,
        ckpt_path=str(checkpoint),
    )
    full = tiny_prithvi.state_dict()
    assert all(torch.equal(weight, full[name]) for name, weight in pruned.state_dict().items())


def test_missing_checkpoint_is_named(build: Build, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.pt"):
        build(
            f"simpler_{TINY}", keep_blocks=2, pretrained=True, ckpt_path=str(tmp_path / "gone.pt")
        )


def test_checkpoint_that_terratorch_does_not_read_is_not_asked_for(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without pretrained the full backbone never opens it."""
    gone = {"pretrained": False, "ckpt_path": str(tmp_path / "gone.pt")}
    build(TINY, **gone)
    build(f"simpler_{TINY}", keep_blocks=2, **gone)
    assert f"ckpt_path of {TINY} is not read: TerraTorch reads it with pretrained" in caplog.text


def test_checkpoint_without_the_blocks_is_refused(
    build: Build, tiny_prithvi: nn.Module, tmp_path: Path
) -> None:
    weights = tiny_prithvi.state_dict()
    path = tmp_path / "half.pt"
    torch.save({name: weights[name] for name in weights if "blocks.7." not in name}, path)
    with pytest.raises(ValueError, match=r"does not hold .*: 12 of 144 .*first is blocks\.7\."):
        build(f"simpler_{TINY}", keep_blocks=2, pretrained=True, ckpt_path=str(path))


def official_weights(registry: Any, name: str) -> dict[str, Tensor]:
    """A state dict laid out as the published one, every tensor filled with a number of its own."""
    with torch.device("meta"):
        shapes = registry.build(f"{name}_mae", num_frames=4).state_dict()
    # One stored number a tensor keeps the file small.
    return {
        key: torch.tensor(number / 1024).expand(weight.shape)
        for number, (key, weight) in enumerate(shapes.items())
    }


@pytest.fixture(scope="module")
def full_models(registry: Any) -> Any:
    del registry  # imports TerraTorch
    return sys.modules[TERRATORCH].FULL_MODEL_REGISTRY


@pytest.fixture(scope="module")
def official_300m(full_models: Any) -> dict[str, Tensor]:
    return official_weights(full_models, "prithvi_eo_v2_300")


@pytest.fixture(scope="module")
def pruned_300m(build: Build, hub: Hub, official_300m: dict[str, Tensor]) -> Any:
    hub("ibm-nasa-geospatial/Prithvi-EO-2.0-300M", "Prithvi_EO_V2_300M.pt", official_300m)
    return build("simpler_prithvi_eo_v2_300", pretrained=True, keep_blocks=5, img_size=224)


@pytest.mark.slow
def test_published_300m_keeps_the_parameters_reported_for_5_blocks(pruned_300m: Any) -> None:
    """The paper reports 64.57 M, 79 % fewer."""
    parameters = sum(weight.numel() for weight in pruned_300m.parameters())
    assert parameters == pytest.approx(64.558e6, abs=500)


@pytest.mark.slow
def test_published_300m_keeps_its_24_outputs(pruned_300m: Any) -> None:
    assert len(pruned_300m.blocks) == 5
    assert pruned_300m.out_channels == [1024] * 24


def assert_holds(pruned: Any, official: dict[str, Tensor], kept: list[int]) -> None:
    for name, weight in pruned.state_dict().items():
        if name == "pos_embed":  # fixed, and made for the frames
            continue
        _, found, rest = name.partition("blocks.")
        position, _, parameter = rest.partition(".")
        source = f"blocks.{kept[int(position)]}.{parameter}" if found else name
        assert torch.equal(weight, official[f"encoder.{source}"]), name


@pytest.mark.slow
def test_published_300m_keeps_the_weights_of_its_first_blocks(
    pruned_300m: Any, official_300m: dict[str, Tensor]
) -> None:
    assert_holds(pruned_300m, official_300m, [0, 1, 2, 3, 4])


def test_published_weights_are_loaded_before_blocks_are_removed(
    build: Build, hub: Hub, full_models: Any
) -> None:
    official = official_weights(full_models, TINY)
    hub("ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL", "Prithvi_EO_V2_tiny_TL.pt", official)
    pruned = build(f"simpler_{TINY}", pretrained=True, keep_blocks=[2, 11], img_size=224)
    assert_holds(pruned, official, [2, 11])


def test_arguments_that_terratorch_swallows_are_ignored_with_a_guess(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = {"drop_path_rate": 0.1, "in_channels": 6, "window_size": 8, "padding": "reflect"}
    build("prithvi_eo_tiny", **arguments)
    assert build("simpler_prithvi_eo_tiny", keep_blocks=2, **arguments).kept_blocks == [0, 1]
    said = "takes no argument 'drop_path_rate': TerraTorch ignores it (did you mean drop_path?)"
    assert said in caplog.text
    assert "'in_channels': TerraTorch ignores it" in caplog.text
    assert "'window_size': TerraTorch ignores it" in caplog.text
    assert "padding" not in caplog.text


def test_values_of_the_command_line_are_text(build: Build) -> None:
    """jsonargparse hands on --model.init_args.model_args.backbone_keep_blocks=5 unread."""
    assert build("simpler_prithvi_eo_tiny", keep_blocks="2").kept_blocks == [0, 1]
    assert build("simpler_prithvi_eo_tiny", keep_blocks="[0, 3]").kept_blocks == [0, 3]
    with pytest.raises(ValueError, match=r"keep_blocks must be a number .* got 'two'"):
        build("simpler_prithvi_eo_tiny", keep_blocks="two")
    with pytest.raises(ValueError, match=r"calibration of .* is 'tiles': give"):
        build("simpler_prithvi_eo_tiny", calibration="tiles")


def test_pretrained_false_reaches_every_builder(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extension may load weights unless it is told not to, and a sketch of it must not."""
    from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY

    asked: list[Any] = []

    def their_tiny(pretrained: bool = True, **arguments: Any) -> Any:
        asked.append(pretrained)
        return build("prithvi_eo_tiny", pretrained=False, **arguments)

    monkeypatch.setitem(TERRATORCH_BACKBONE_REGISTRY._registry, "their_tiny", their_tiny)
    build("simpler_their_tiny", keep_blocks=2, pretrained=False)
    assert asked == [False, False]
    asked.clear()
    build("simpler_their_tiny", keep_blocks=2)
    assert asked == [False, True]


@pytest.fixture
def second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the second of several processes that a launcher started."""
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)


@pytest.mark.usefixtures("second_process")
def test_other_processes_wait_for_the_plan_of_the_first(
    build: Build, make_plan: MakePlan, tmp_path: Path
) -> None:
    plan, path = make_plan(), tmp_path / "plan.json"
    Timer(1, plan.save, [path]).start()
    # Tiles that are gone: whoever selected here would fail.
    pruned = build(f"simpler_{TINY}", plan=str(path), calibration={"tiles": str(tmp_path / "gone")})
    assert pruned.kept_blocks == plan.kept_blocks


@pytest.mark.usefixtures("second_process")
def test_waiting_has_an_end(build: Build, tmp_path: Path) -> None:
    calibration = {"tiles": str(tmp_path), "timeout": 0.5}
    with pytest.raises(ValueError, match=r"no plan at .* after 0 s: the first process selects"):
        build(f"simpler_{TINY}", plan=str(tmp_path / "plan.json"), calibration=calibration)


@pytest.mark.usefixtures("second_process")
def test_without_a_file_other_processes_cannot_learn_the_plan(build: Build, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on several devices needs backbone_plan as well"):
        build(f"simpler_{TINY}", calibration={"tiles": str(tmp_path)})


def test_a_plan_saved_meanwhile_decides(
    build: Build, make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process of another machine was faster."""
    theirs, path = make_plan(), tmp_path / "plan.json"

    def calibrate(_full: Any, _calibration: Any) -> PruningPlan:
        theirs.save(path)
        return theirs.model_copy(update={"confidence": 0.5})

    monkeypatch.setattr("terratorch_simpler.selection.select.calibrate", calibrate)
    pruned = build(f"simpler_{TINY}", plan=str(path), calibration={"tiles": "x"})
    assert pruned.plan == theirs
