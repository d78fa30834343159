from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from terratorch_simpler.backbones.backbone import count_parameters
from terratorch_simpler.cli import main
from terratorch_simpler.cli.profile import show
from terratorch_simpler.profiling import costs
from terratorch_simpler.profiling.batch import example_from, first_batch, random_example
from terratorch_simpler.profiling.bench import BenchSettings
from terratorch_simpler.profiling.interpolation import measure_and_interpolate
from terratorch_simpler.profiling.profile import profile, run_profile
from terratorch_simpler.profiling.profiled import ProfiledModel, profiled_model
from terratorch_simpler.profiling.runs import Run
from terratorch_simpler.report.costs import profile_figure
from terratorch_simpler.report.figures import to_png
from terratorch_simpler.results.profile import Profile, Row
from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.profiled import profiled_config_model
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
UNET: dict[str, Any] = {
    "task": "segmentation",
    "necks": [
        {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
        {"name": "ReshapeTokensToImage"},
        {"name": "LearnedInterpolateToPyramidal"},
    ],
    "decoder": "UNetDecoder",
    "decoder_channels": [16, 8, 8, 4],
    "num_classes": 3,
}


def flops_of(module: nn.Module, image: Any) -> int:
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        module.eval()(image)
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def unet() -> Callable[..., Any]:
    """The model of a task, as TerraTorch builds it."""
    from terratorch.models import EncoderDecoderFactory

    def build(backbone: str = TINY, **arguments: Any) -> Any:
        given = {"backbone": backbone, "backbone_img_size": 32}
        return EncoderDecoderFactory().build_model(**UNET | given | arguments)

    return build


# How few depths are measured.


class Depths:
    """Measures a made-up time, and remembers at which depths."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds = seconds
        self.asked: list[list[int]] = []

    def __call__(self, depths: list[int]) -> dict[int, dict[str, float]]:
        self.asked.append(depths)
        return {depth: {"bytes": 10.0, "seconds": self.seconds(depth)} for depth in depths}


def test_a_straight_line_is_measured_at_five_depths() -> None:
    measure = Depths(lambda depth: 3.0 + depth)
    found = measure_and_interpolate(24, measure, 0.05)
    assert measure.asked == [[1, 7, 12, 18, 24]]
    assert found.measured == {1, 7, 12, 18, 24}
    assert found.residual == pytest.approx(0, abs=1e-9)
    assert [found.values[depth]["seconds"] for depth in range(1, 25)] == pytest.approx(
        [3.0 + depth for depth in range(1, 25)]
    )


def test_a_curve_is_measured_at_more_depths_until_it_is_straight_between_them() -> None:
    measure = Depths(lambda depth: 1.0 + depth**2)
    found = measure_and_interpolate(24, measure, 0.05)
    assert len(measure.asked) > 1
    assert all(
        set(few) < set(more) for few, more in zip(measure.asked, measure.asked[1:], strict=False)
    )
    assert len(found.measured) < 24
    assert found.residual is not None
    assert found.residual <= 0.05
    for depth, values in found.values.items():
        assert values["seconds"] == pytest.approx(1.0 + depth**2, rel=0.05)


def test_a_step_is_measured_on_both_sides() -> None:
    found = measure_and_interpolate(24, Depths(lambda depth: 1.0 if depth < 16 else 2.0), 0.05)
    assert {15, 16} <= found.measured
    assert found.values[15]["seconds"] == 1.0
    assert found.values[16]["seconds"] == 2.0
    assert len(found.measured) < 24


def test_noise_is_not_interpolated() -> None:
    found = measure_and_interpolate(12, Depths(lambda depth: 1.0 + depth % 2), 0.05)
    assert found.measured == set(range(1, 13))
    assert found.residual is None


@pytest.mark.parametrize("total", range(1, 7))
def test_shallow_models(total: int) -> None:
    found = measure_and_interpolate(total, Depths(float), 0.05)
    assert [found.values[depth]["seconds"] for depth in found.values] == list(range(1, total + 1))
    assert found.measured == set(range(1, total + 1)) or total == 6


def test_every_depth_can_be_asked_for() -> None:
    measure = Depths(float)
    assert measure_and_interpolate(12, measure, 0.05, every_depth=True).residual is None
    assert measure.asked == [list(range(1, 13))]


# The clock.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless a test moves it."""
    now = [0.0]
    monkeypatch.setattr(costs, "perf_counter", lambda: now[0])
    return now


def tick(module: Any, clock: list[float], seconds: Callable[[int], float]) -> None:
    """Let each block take its time."""

    def move(*_: Any, index: int) -> None:
        clock[0] += seconds(index)

    for index, block in enumerate(module.blocks):
        block.register_forward_hook(lambda *_, index=index: move(index=index))


def test_equal_blocks_are_interpolated(build: Callable[..., Any], clock: list[float]) -> None:
    module = build()
    tick(module, clock, lambda _index: 2.0)
    found = profile(module, accelerator="cpu", rounds=1)
    assert [row.inference_seconds for row in found.rows] == pytest.approx(
        [2.0 * depth for depth in range(1, 13)]
    )
    assert [row.step_seconds for row in found.rows] == [row.inference_seconds for row in found.rows]
    assert [row.depth for row in found.rows if row.times == "measured"] == [1, 4, 6, 9, 12]
    assert found.row(3).images_per_second == pytest.approx(2 / 6.0)
    assert found.residual is not None
    assert found.residual <= 0.05


def test_unequal_blocks_are_measured(build: Callable[..., Any], clock: list[float]) -> None:
    module = build()
    tick(module, clock, lambda index: 1.0 + index % 3)
    found = profile(module, accelerator="cpu", rounds=1)
    expected = [1.0, 3.0, 6.0, 7.0, 9.0, 12.0, 13.0, 15.0, 18.0, 19.0, 21.0, 24.0]
    assert sum(row.times == "measured" for row in found.rows) > 5
    for row, seconds in zip(found.rows, expected, strict=True):
        assert row.times == "interpolated" or row.inference_seconds == seconds


def test_all_depths_are_timed_in_each_round(clock: list[float]) -> None:
    order = []

    def prepare(key: str) -> Run:
        clock[0] += 100.0

        def run() -> None:
            order.append(key)
            clock[0] += len(order)

        return run

    seconds = costs.time_in_rounds(prepare, ("a", "b"), 2, CPU)
    assert order == ["a", "b", "a", "b"]
    assert seconds == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


# Parameters, FLOPs and memory.


@pytest.mark.slow
def test_parameters_and_flops_are_those_of_the_pruned_backbone(
    build: Callable[..., Any], tiny_prithvi: nn.Module, images: Tensor
) -> None:
    found = profile(tiny_prithvi, images, accelerator="cpu", rounds=1)
    for row in found.rows:
        pruned = build(f"simpler_{TINY}", keep_blocks=row.depth)
        assert row.parameters == count_parameters(pruned)
        assert row.flops == flops_of(pruned, images)


class Local(nn.Module):
    """Attention in windows: equal weights, fewer FLOPs."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window, self.weight = window, nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = tokens.reshape(len(tokens), -1, self.window, 8)
        mixed = (parts @ parts.mT) @ self.weight(parts)
        after: Tensor = tokens + mixed.flatten(1, 2)
        return after


class LocalAndGlobal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.ModuleList([Local(4), Local(16), Local(4), Local(4), Local(16)])

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.embed(image).flatten(2).mT
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def test_flops_are_exact_where_blocks_differ() -> None:
    module = LocalAndGlobal()
    image = torch.randn(2, 3, 16, 16)
    found = profile(module, image, accelerator="cpu", rounds=1)
    for row in found.rows:
        shallow = LocalAndGlobal()
        shallow.blocks = shallow.blocks[: row.depth]
        assert row.flops == flops_of(shallow, image)
    steps = [b.flops - a.flops for a, b in zip(found.rows, found.rows[1:], strict=False)]
    assert len(set(steps)) == 2


def test_memory_is_that_of_the_weights_and_what_training_adds(
    tiny_prithvi: nn.Module, images: Tensor
) -> None:
    found = profile(tiny_prithvi, images, accelerator="cpu", rounds=1)
    for row in found.rows:
        assert row.inference_bytes is not None
        assert row.step_bytes is not None
        weights = 4 * row.parameters
        assert weights < row.inference_bytes < weights + 2_000_000
        # Weights, gradients and the two moments of AdamW.
        assert row.step_bytes > 3.9 * weights
    assert all(
        a.step_bytes < b.step_bytes  # type: ignore[operator]
        for a, b in zip(found.rows, found.rows[1:], strict=False)
    )


def test_growth_is_what_is_there_at_once_beyond_what_was() -> None:
    kept = torch.zeros(1000)

    def run() -> None:
        one = torch.zeros(1_000_000)
        two = one.clone()
        del one
        torch.zeros(500_000)
        del two
        kept.add_(kept)

    assert costs.peak_growth(run, CPU) == 8_000_000
    assert costs.peak_growth(lambda: None, CPU) == 0
    assert costs.peak_growth(run, torch.device("meta")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_growth_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    growth = costs.peak_growth(lambda: torch.zeros(1 << 20, device=device), device)
    assert growth == 4 << 20


def test_shared_memory_is_held_once() -> None:
    tensor = torch.zeros(10)
    assert costs.held_bytes([tensor, tensor[:5], tensor, torch.zeros(2)]) == 48


# Models of tasks, modalities, and what is left behind.


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config of the embedded sample, whose paths start at the root of the repository."""
    monkeypatch.chdir(ROOT)
    return Path("configs/sample/segmentation.yaml")


@pytest.mark.slow
def test_the_model_of_a_config(sample: Path) -> None:
    from terratorch.models import EncoderDecoderFactory

    profiled, datamodule = profiled_config_model(TaskConfig.read(sample))
    assert datamodule is not None
    image, inputs = first_batch(profiled, datamodule, 3)
    assert (image.shape, inputs) == ((3, 6, 128, 128), {})
    # Normalised, as the task sees it.
    assert image.abs().mean() < 10
    found = run_profile(profiled, (image, inputs), CPU, BenchSettings(batch_size=3, rounds=1))
    assert (found.label, found.images) == (f"segmentation ({TINY})", "6 x 128 x 128")
    for depth in (1, 5, 12):
        model = EncoderDecoderFactory().build_model(
            **UNET
            | {
                "backbone": f"simpler_{TINY}",
                "backbone_keep_blocks": depth,
                "decoder_channels": [128, 64, 32, 32],
                "num_classes": 7,
            }
        )
        assert found.row(depth).parameters == count_parameters(model)
        assert found.row(depth).flops == flops_of(model, image)


@pytest.mark.slow
def test_timm_with_chosen_outputs(tmp_path: Path, sample: Path) -> None:
    text = sample.read_text()
    for line in ("pretrained: true", "ckpt_path", "bands: ["):
        text = "\n".join(row for row in text.splitlines() if f"backbone_{line}" not in row)
    text = text.replace(f"backbone: {TINY}", "backbone: timm_vit_tiny_patch16_224")
    text = text.replace(
        "      necks:",
        "      backbone_in_chans: 6\n      backbone_img_size: 32\n"
        "      backbone_out_indices: [1, 3, 5, 7]\n      necks:",
    )
    text = text.replace("[2, 5, 8, 11]", "[0, 1, 2, 3]")
    text = text.replace("        - name: ReshapeTokensToImage\n", "")
    config = tmp_path / "task.yaml"
    config.write_text(text)
    profiled, _ = profiled_config_model(TaskConfig.read(config))
    assert profiled.backbone.depth == 12
    example = random_example(profiled, 2)
    found = run_profile(profiled, example, CPU, BenchSettings(rounds=1))
    assert len(found.rows) == 12
    # What is built anew, since TerraTorch built some of the blocks, is frozen as that was.
    assert all(weight.requires_grad for weight in profiled.backbone.module.parameters())
    place = "    model_factory:"
    assert place in text
    config.write_text(text.replace(place, f"    freeze_backbone: true\n{place}"))
    frozen, _ = profiled_config_model(TaskConfig.read(config))
    assert frozen.backbone.depth == 12
    assert not any(weight.requires_grad for weight in frozen.backbone.module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["terramind_v1_tiny", pytest.param("terramind_v1_tiny_tim", marks=pytest.mark.long)],
)
def test_several_modalities(name: str) -> None:
    found = profile(
        name,
        size=224 if name.endswith("_tim") else 32,
        batch_size=1,
        rounds=1,
        accelerator="cpu",
        modalities=["S2L2A", "S1GRD"],
    )
    assert found.images.startswith("S2L2A 12 x ")
    assert "S1GRD 2 x " in found.images
    assert [row.depth for row in found.rows] == list(range(1, 13))
    steps = {b.parameters - a.parameters for a, b in zip(found.rows, found.rows[1:], strict=False)}
    assert len(steps) == 1


@pytest.mark.slow
def test_frames_and_coordinates_of_prithvi() -> None:
    profiled = profiled_model(TINY, num_frames=3, coords_encoding=["time", "location"], img_size=32)
    image, inputs = random_example(profiled, 2)
    assert image.shape == (2, 6, 3, 32, 32)
    assert {key: value.shape for key, value in inputs.items()} == {
        "temporal_coords": (2, 3, 2),
        "location_coords": (2, 2),
    }
    assert run_profile(profiled, (image, inputs), CPU, BenchSettings(rounds=1)).row(12).flops > 0


@pytest.mark.slow
def test_a_model_with_lora(unet: Callable[..., Any]) -> None:
    lora = {
        "method": "LORA",
        "replace_qkv": "qkv",
        "peft_config_kwargs": {"r": 2, "target_modules": ["qkv.q_linear"]},
    }
    profiled = profiled_model(unet(peft_config=lora, backbone_pretrained=False))
    assert profiled.place == "encoder.base_model.model"
    found = run_profile(profiled, random_example(profiled, 2), CPU, BenchSettings(rounds=1))
    full = profiled_model(unet())
    plain = run_profile(full, random_example(full, 2), CPU, BenchSettings(rounds=1))
    assert found.row(12).parameters > plain.row(12).parameters
    # Frozen weights have no gradient and no moments.
    assert found.row(12).step_bytes < plain.row(12).step_bytes / 2  # type: ignore[operator]


@pytest.mark.slow
def test_a_model_that_sees_dates_one_by_one(unet: Callable[..., Any]) -> None:
    model = unet(backbone_use_temporal=True, backbone_temporal_pooling="mean")
    profiled = profiled_model(model)
    assert profiled.place == "encoder.encoder"
    with pytest.raises(ValueError, match="several frames"):
        random_example(profiled, 2)
    example = example_from(profiled, torch.randn(1, 6, 2, 32, 32), 2)
    assert run_profile(profiled, example, CPU, BenchSettings(rounds=1)).images == "6 x 2 x 32 x 32"


@pytest.mark.slow
def test_a_model_is_left_as_it_was(unet: Callable[..., Any], images: Tensor) -> None:
    model = unet().train()
    model.decoder.eval()
    encoder = model.encoder
    model(images).output.sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {name: value.grad for name, value in model.named_parameters()}
    modes = {name: layer.training for name, layer in model.named_modules()}
    seed = torch.get_rng_state()
    profile(model, images, accelerator="cpu", rounds=1)
    assert model.encoder is encoder
    assert len(encoder.blocks) == 12
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is gradients[name] for name, value in model.named_parameters())
    assert {name: layer.training for name, layer in model.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), seed)


def test_a_batch_is_repeated_or_cut(tiny_prithvi: nn.Module, images: Tensor) -> None:
    profiled = profiled_model(tiny_prithvi)
    image, _ = example_from(profiled, {"image": images, "mask": images[:, 0]}, 3)
    assert torch.equal(image, images[[0, 1, 0]])
    image, _ = example_from(profiled, [images], 1)
    assert torch.equal(image, images[:1])


# Mistakes.


def test_nothing_to_train(build: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        profile(build().requires_grad_(False), accelerator="cpu")


def test_a_batch_that_does_not_fit(tiny_prithvi: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match="reads 6 bands"):
        profile(tiny_prithvi, images[:, :4], accelerator="cpu")
    with pytest.raises(ValueError, match="holds no image"):
        profile(tiny_prithvi, torch.zeros(3), accelerator="cpu")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "give a smaller batch_size or size"),
        (RuntimeError("bad shapes"), r"does not run with 2 images of 6 x 32 x 32 .* bad shapes"),
    ],
)
def test_what_a_model_raises_is_about_the_batch(
    build: Callable[..., Any], error: Exception, message: str
) -> None:
    module = build()

    def fail(*_: Any) -> None:
        raise error

    module.blocks[3].register_forward_hook(fail)
    with pytest.raises(ValueError, match=message):
        profile(module, accelerator="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"size": 40}, "multiple of it, 32 or 48, got 40"),
        ({"size": 8}, "multiple of it, 16 or 32, got 8"),
        ({"accelerator": "abacus"}, "unknown accelerator 'abacus': choose one of auto, cpu"),
        ({"bands": ["RED"]}, "only go with a name"),
    ],
)
def test_wrong_arguments(tiny_prithvi: nn.Module, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(tiny_prithvi, **{"accelerator": "cpu"} | arguments)


# What is written and shown.


def made_up(depth: int, times: str = "measured") -> Row:
    return Row(
        depth, 10**6 * depth, 10**9 * depth, 0.1 * depth, 20 / depth, 10**7, 0.3, 10**8, times
    )


PROFILE = Profile(
    "x", "cpu", 2, "6 x 32 x 32", (made_up(1), made_up(2, "interpolated"), made_up(3)), 0.012
)
SILENT = replace(
    PROFILE,
    residual=None,
    rows=tuple(replace(row, inference_bytes=None, step_bytes=None) for row in PROFILE.rows),
)


SPREAD = replace(
    PROFILE,
    rows=tuple(
        row
        if row.times == "interpolated"
        else replace(
            row,
            inference_fastest=0.9 * row.inference_seconds,
            inference_slowest=1.25 * row.inference_seconds,
            step_fastest=0.8 * row.step_seconds,
            step_slowest=row.step_seconds,
        )
        for row in PROFILE.rows
    ),
)


COMPILED = replace(
    PROFILE, compiled=True, rows=tuple(replace(row, compile_seconds=9.5) for row in PROFILE.rows)
)


@pytest.mark.parametrize("found", [PROFILE, SILENT, SPREAD, COMPILED])
def test_csv_holds_everything(found: Profile) -> None:
    read = list(csv.DictReader(io.StringIO(found.to_csv())))
    columns = len(fields(Row)) - (0 if found.compiled else 1)
    assert list(read[0]) == [field.name for field in fields(Row)][:columns]
    kinds = (int, int, int, float, float, int, float, int, str, float, float, float, float, float)
    rows = [
        tuple(
            kind(text) if text else None for kind, text in zip(kinds, line.values(), strict=False)
        )
        for line in read
    ]
    assert rows == [astuple(row)[:columns] for row in found.rows]


@pytest.mark.parametrize("found", [PROFILE, SILENT, SPREAD, COMPILED])
def test_the_figure_and_the_table(found: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    assert to_png(profile_figure(found)).startswith(b"\x89PNG")
    show(Console(width=80), found)
    said = capsys.readouterr().out
    assert "interpolated" in said
    assert ("start s" in said) == found.compiled
    assert "…" not in said
    assert ("1.2%" in said) == (found is not SILENT)
    assert ("one took 0.80 to 1.25 times as long" in said) == (found is SPREAD)


@pytest.mark.parametrize("depth", [0, 4])
def test_a_row_that_is_not_there(depth: int) -> None:
    assert PROFILE.row(3).depth == 3
    with pytest.raises(ValueError, match=f"depth must be 1 to 3, got {depth}"):
        PROFILE.row(depth)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--backbone", "prithvi_eo_tiny", "--backbone_args.img_size", "32"]
    arguments = ["--accelerator", "cpu", "--rounds", "1", "--output", str(tmp_path)]
    main(["profile", *given, *arguments])
    assert {path.name for path in tmp_path.iterdir()} == {"profile.csv", "parts.csv", "profile.png"}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "profile.csv").read_text())))
    assert [row["depth"] for row in rows] == ["1", "2", "3", "4"]
    # Of one round.
    assert all(row["step_fastest"] == row["step_seconds"] == row["step_slowest"] for row in rows)
    assert "6 x 32 x 32, on cpu" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_with_a_config(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made" / "here"
    arguments = ["--accelerator", "cpu", "--rounds", "1", "--output", str(folder)]
    main(["profile", "--config", str(sample), "--size", "64", "--every_depth", *arguments])
    assert {path.name for path in folder.iterdir()} == {"profile.csv", "parts.csv", "profile.png"}
    rows = list(csv.DictReader(io.StringIO((folder / "profile.csv").read_text())))
    assert [row["times"] for row in rows] == ["measured"] * 12
    assert "6 x 64 x 64, on cpu" in capsys.readouterr().out
    given = ["--backbone", TINY, "--backbone_args.img_size", "32", "--overwrite", "--quiet"]
    main(["profile", *given, *arguments])
    again = list(csv.DictReader(io.StringIO((folder / "profile.csv").read_text())))
    assert int(again[0]["parameters"]) < int(rows[0]["parameters"])
    assert capsys.readouterr().out == ""


def test_a_subject_swaps_the_backbone(unet: Callable[..., Any]) -> None:
    profiled: ProfiledModel = profiled_model(unet())
    assert len(profiled.pruned(3).encoder.blocks) == 3  # type: ignore[union-attr, arg-type]
    assert len(profiled.whole.encoder.blocks) == 12  # type: ignore[union-attr, arg-type]
