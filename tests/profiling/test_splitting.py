"""What every part of a model costs: the parts add up, and each cost is that of its part."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from terratorch_simpler.profiling import costs, timeline
from terratorch_simpler.profiling.bench import Bench, BenchSettings
from terratorch_simpler.profiling.boundaries import Boundaries
from terratorch_simpler.profiling.profiled import ProfiledModel, profiled_model
from terratorch_simpler.profiling.runs import Example
from terratorch_simpler.profiling.splitting import _flops_and_owners, measure_split
from terratorch_simpler.profiling.timeline import Timeline
from terratorch_simpler.results.limits import limit_lines
from terratorch_simpler.results.parts import BLOCKS, DECODER, HEAD, NECKS, NORM, PATCH, Part, Split
from terratorch_simpler.results.profile import Profile, Row
from terratorch_simpler.results.tables import part_rows, whole_sentence
from tests.conftest import TINY

CPU = torch.device("cpu")
ALL = [PATCH, BLOCKS, NORM, NECKS, DECODER, HEAD]


def split_of(profiled: ProfiledModel, example: Example, rounds: int = 1) -> Split:
    with profiled.lent_to(CPU):
        return measure_split(Bench(profiled, example, CPU, BenchSettings(rounds=rounds)))


@pytest.fixture(scope="module")
def unet() -> Callable[..., Any]:
    """The model of a task, as TerraTorch builds it."""
    from terratorch.models import EncoderDecoderFactory

    def build(**arguments: Any) -> Any:
        given: dict[str, Any] = {
            "task": "segmentation",
            "backbone": TINY,
            "backbone_img_size": 32,
            "necks": [
                {"name": "SelectIndices", "indices": [1, 3, 5, 7]},
                {"name": "ReshapeTokensToImage"},
                {"name": "LearnedInterpolateToPyramidal"},
            ],
            "decoder": "UNetDecoder",
            "decoder_channels": [16, 8, 8, 4],
            "num_classes": 3,
        }
        return EncoderDecoderFactory().build_model(**given | arguments)

    return build


NOW = [0.0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still unless a model moves it."""
    for module in (costs, timeline):
        monkeypatch.setattr(module, "perf_counter", lambda: NOW[0])


def take(seconds: float) -> None:
    NOW[0] += seconds


class Waits(nn.Module):
    """Takes some time in its forward pass, and twice as long in its backward pass."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.weight = seconds, nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        take(self.seconds)
        given: Tensor = self.weight(tokens).sin()
        if given.grad_fn is not None:
            # Its first and its last step backward.
            given.grad_fn.register_hook(lambda *_: take(self.seconds))
            first: Any = given.grad_fn.next_functions[0][0]
            first.register_hook(lambda *_: take(self.seconds))
        return given


class Slow(nn.Module):
    """A backbone each part of which waits a time of its own."""

    def __init__(self, last: bool = True, recompute: bool = False) -> None:
        super().__init__()
        self.last, self.recompute = last, recompute
        self.embed, self.position = nn.Conv2d(3, 8, 4, 4), Waits(0.01)
        self.blocks = nn.ModuleList(Waits(0.02) for _ in range(3))
        self.norm = nn.Sequential(Waits(0.015), nn.LayerNorm(8))

    def forward(self, image: Tensor) -> list[Tensor]:
        tokens: Tensor = self.position(self.embed(image).flatten(2).mT)
        outputs = []
        for block in self.blocks:
            again = self.recompute and self.training
            tokens = checkpoint(block, tokens, use_reentrant=False) if again else block(tokens)
            outputs.append(tokens)
        return [*outputs[:2], self.norm(tokens if self.last else outputs[0])]


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=1e-9)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("last", [True, False])
def test_time_belongs_to_the_part_that_takes_it(last: bool) -> None:
    profiled = profiled_model(Slow(last), "blocks")
    split = split_of(profiled, (torch.randn(2, 3, 8, 8), {}), rounds=3)
    times = {part.name: part for part in split.parts}
    assert list(times) == [PATCH, BLOCKS, NORM]
    run = 3 if last else 1
    assert times[PATCH].inference_seconds == near(0.01)
    assert times[BLOCKS].inference_seconds == near(0.06)
    assert times[NORM].inference_seconds == near(0.015)
    assert times[PATCH].forward_seconds == near(0.01)
    assert times[BLOCKS].forward_seconds == near(0.06)
    # Blocks whose output nothing reads have no backward pass.
    assert times[BLOCKS].backward_seconds == near(run * 0.04)
    assert times[NORM].backward_seconds == near(0.03)
    assert times[PATCH].backward_seconds == near(0.02)
    assert split.inference_sum == near(split.inference_seconds)
    assert split.step_sum == near(split.step_seconds)


@pytest.mark.usefixtures("clock")
def test_blocks_that_are_run_again_count_to_the_backward_pass() -> None:
    split = split_of(
        profiled_model(Slow(recompute=True), "blocks"), (torch.randn(2, 3, 8, 8), {}), rounds=3
    )
    assert split.part(BLOCKS).forward_seconds == near(0.06)
    assert split.part(BLOCKS).backward_seconds == near(0.06 + 0.12)
    assert split.part(PATCH).backward_seconds == near(0.02)


def test_parts_of_a_task_add_up(unet: Callable[..., Any], images: Tensor) -> None:
    model = unet(aux_decoders=None)
    profiled = profiled_model(model)
    split = split_of(profiled, (images, {}))
    assert [part.name for part in split.parts] == ALL
    assert sum(part.parameters for part in split.parts) == sum(
        p.numel() for p in model.parameters()
    )
    assert split.part(BLOCKS).parameters == sum(
        p.numel() for p in model.encoder.blocks.parameters()
    )
    assert split.part(NORM).parameters == sum(p.numel() for p in model.encoder.norm.parameters())
    assert split.part(NECKS).parameters == sum(p.numel() for p in model.neck.parameters())
    assert split.part(DECODER).parameters == sum(p.numel() for p in model.decoder.parameters())
    assert split.part(HEAD).parameters == sum(p.numel() for p in model.head.parameters())
    with profiled.lent_to(CPU):
        bench = Bench(profiled, (images, {}), CPU, BenchSettings())
        flops = bench.flops()
    assert sum(part.flops for part in split.parts) == flops[-1]
    assert split.part(BLOCKS).flops == (flops[-1] - flops[0]) * 12 // 11
    assert split.depth == 12
    assert len(model.encoder.blocks) == 12
    assert all(part.backward_seconds > 0 for part in split.parts if part.name != NORM)
    # No neck reads the last block's output, or the norm.
    assert split.part(NORM).backward_seconds == 0


def test_weights_of_a_decoder_itself_are_its_own() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))
            # Used, but never run.
            self.inner = nn.Linear(8, 8)

        def forward(self, features: list[Tensor]) -> Tensor:
            return features[-1] @ self.inner.weight * self.scale

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = Slow(), Scaled()

        def forward(self, image: Tensor) -> Any:
            return self.decoder(self.encoder(image))

    whole = Whole()
    profiled = replace(profiled_model(whole.encoder, "blocks"), model=whole, place="encoder")
    split = split_of(profiled, (torch.randn(2, 3, 8, 8), {}))
    assert split.part(DECODER).parameters == 8 + 64 + 8
    assert split.part(NECKS).parameters == split.part(HEAD).parameters == 0


def test_blocks_that_are_not_run() -> None:
    module = Slow()
    profiled = profiled_model(module, "blocks")
    spare = [Waits(0.0) for _ in range(3)]
    pruned = ProfiledModel("x", replace(profiled.backbone, module=module))
    bounds = Boundaries.of(pruned)
    with pruned.lent_to(CPU):
        bench = Bench(pruned, (torch.randn(2, 3, 8, 8), {}), CPU, BenchSettings(rounds=1))
        with pytest.raises(ValueError, match="none of its blocks is run: name another list"):
            _flops_and_owners(bench, replace(bounds, blocks=[[block] for block in spare]))


def test_memory_is_what_is_kept_for_the_backward_pass() -> None:
    class Linears(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 4, 4)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

        def forward(self, image: Tensor) -> Tensor:
            tokens: Tensor = self.embed(image).flatten(2).mT
            for block in self.blocks:
                tokens = block(tokens)
            return tokens

    split = split_of(profiled_model(Linears()), (torch.randn(2, 3, 8, 8), {}))
    # Each linear layer keeps its input: 2 x 4 tokens of width 8.
    assert split.part(BLOCKS).kept_bytes == 3 * 2 * 4 * 8 * 4
    assert split.part(PATCH).kept_bytes == 0
    assert split.part(BLOCKS).state_bytes == 4 * 4 * 3 * (64 + 8)


def test_frozen_weights_have_no_gradient_and_no_backward_pass(
    unet: Callable[..., Any], images: Tensor
) -> None:
    model = unet()
    model.freeze_encoder()
    split = split_of(profiled_model(model), (images, {}))
    for name in (PATCH, BLOCKS, NORM):
        part = split.part(name)
        assert (part.trained, part.backward_seconds, part.kept_bytes) == (0, 0, 0)
        assert split.update_seconds_of(part) == 0
    assert split.part(DECODER).backward_seconds > 0


@pytest.mark.slow
def test_lora_and_several_dates(unet: Callable[..., Any], images: Tensor) -> None:
    lora = {
        "method": "LORA",
        "replace_qkv": "qkv",
        "peft_config_kwargs": {"r": 2, "target_modules": ["qkv.q_linear"]},
    }
    split = split_of(
        profiled_model(unet(peft_config=lora, backbone_pretrained=False)), (images, {})
    )
    assert [part.name for part in split.parts] == ALL
    blocks = split.part(BLOCKS)
    assert 0 < blocks.trained < blocks.parameters / 10
    assert blocks.backward_seconds > 0
    assert split.part(PATCH).trained == 0
    one = split_of(profiled_model(unet()), (images, {}))
    dates = unet(backbone_use_temporal=True, backbone_temporal_pooling="mean")
    several = split_of(profiled_model(dates), (torch.stack([images] * 3, 2), {}))
    assert [part.name for part in several.parts] == ALL
    assert several.part(BLOCKS).flops == 3 * one.part(BLOCKS).flops
    assert several.part(PATCH).flops == 3 * one.part(PATCH).flops
    assert several.part(DECODER).flops == one.part(DECODER).flops


def test_a_backbone_that_runs_twice_in_one_pass(build: Callable[..., Any], images: Tensor) -> None:
    class Twice(nn.Module):
        """Runs what it wraps for each date in turn, as wrappers of several dates can."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.encoder = inner

        def forward(self, image: Tensor) -> list[Tensor]:
            found = [self.encoder(image[:, :, date])[-1] for date in range(2)]
            return [found[0] + found[1]]

    class Whole(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.encoder, self.decoder = Twice(inner), nn.Identity()

        def forward(self, image: Tensor) -> Any:
            return self.decoder(self.encoder(image))

    inner = build(num_frames=1)
    found = profiled_model(inner)
    alone = split_of(found, (images, {}))
    profiled = replace(found, model=Whole(inner), place="encoder.encoder")
    bounds = Boundaries.of(profiled)
    line: Timeline[str, int] = Timeline(lambda: 0)
    with bounds.watched(line.mark):
        bounds.whole(torch.stack([images] * 2, 2))
    names = [name for name, _ in line._marks]
    assert names == [PATCH, BLOCKS, NORM, PATCH, BLOCKS, NORM, NECKS, DECODER, HEAD]
    twice = split_of(profiled, (torch.stack([images] * 2, 2), {}))
    for name in (PATCH, BLOCKS):
        assert twice.part(name).flops == 2 * alone.part(name).flops
        assert twice.part(name).parameters == alone.part(name).parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("terramind_v1_tiny", {"modalities": ["S2L2A", "S1GRD"]}),
        ("timm_vit_tiny_patch16_224", {"img_size": 32}),
        ("dofa_small_patch16_224", {"model_bands": ["RED", "GREEN", "BLUE"]}),
    ],
)
def test_families_add_up(name: str, arguments: dict[str, Any]) -> None:
    from terratorch_simpler.profiling.batch import random_example

    profiled = profiled_model(name, **arguments)
    size = None if name.startswith("dofa") else 32
    example = random_example(profiled, 1, size)
    split = split_of(profiled, example)
    assert [part.name for part in split.parts] == [PATCH, BLOCKS, NORM]
    assert sum(part.parameters for part in split.parts) == sum(
        p.numel() for p in profiled.whole.parameters()
    )
    with profiled.lent_to(CPU):
        flops = Bench(profiled, example, CPU, BenchSettings()).flops()
    assert sum(part.flops for part in split.parts) == flops[-1]
    assert split.part(BLOCKS).backward_seconds > split.part(BLOCKS).forward_seconds / 4
    assert split.part(PATCH).backward_seconds > 0


# What is said and written.


def part(name: str, seconds: float) -> Part:
    return Part(name, 10**6, 10**6, 10**9, seconds, seconds, 2 * seconds, 10**6, 16 * 10**6)


SPLIT = Split(3, (part(PATCH, 0.1), part(BLOCKS, 0.3), part(NORM, 0.1)), 0.3, 0.5, 1.8)
ROWS = tuple(
    Row(k, 10**6, 10**9, 0.2 + 0.1 * k, 2 / (0.2 + 0.1 * k), None, 0.6 + 0.4 * k, None, "measured")
    for k in (1, 2, 3)
)
PROFILE = Profile("x", "cpu", 2, "3 x 8 x 8", ROWS, None, SPLIT)


def test_what_the_blocks_allow() -> None:
    assert limit_lines(PROFILE) == [
        "Blocks are 60 % of inference: no depth can make it more than 2.5x as fast; 1 of 3 blocks "
        "make it 1.7x.",
        "Blocks are 56 % of a training step: no depth can make it more than 2.2x as fast; 1 of 3 "
        "blocks make it 1.8x.",
    ]
    assert "2 of 3 blocks" in limit_lines(replace(PROFILE, chosen=2))[0]
    assert limit_lines(replace(PROFILE, split=None)) == []
    alone = replace(SPLIT, parts=(part(BLOCKS, 0.3),))
    compiled = limit_lines(replace(PROFILE, compiled=True))[0]
    assert compiled.startswith("Blocks are 60 % of inference that is not compiled: no depth")
    assert "; compiled, 1 of 3 blocks make it" in compiled
    assert "all of it can be won" in limit_lines(replace(PROFILE, split=alone))[0]


def test_the_table_of_parts_fits_a_terminal() -> None:
    assert "…" not in PROFILE.summary()
    rows = part_rows(SPLIT)
    assert rows[1][:5] == (BLOCKS, "1.00", "1.00", "300.0", "60")
    assert rows[-1][0] == "sum"
    assert rows[-1][3:5] == ("500.0", "100")
    assert "(the parts come to +0.0%)" in whole_sentence(SPLIT)
    assert "by part" in {axes.get_title().rpartition(", ")[2] for axes in PROFILE.plot().axes}
    assert "patch embedding" in PROFILE._repr_html_()
    assert "patch embedding" not in replace(PROFILE, split=None)._repr_html_()


def test_the_csv_of_parts() -> None:
    rows = list(csv.DictReader(io.StringIO(SPLIT.to_csv())))
    assert [row["name"] for row in rows] == [PATCH, BLOCKS, NORM, "whole"]
    assert float(rows[1]["step_seconds"]) == pytest.approx(0.3 + 0.6 + 0.1)
    assert float(rows[-1]["update_seconds"]) == pytest.approx(0.3)
    assert float(rows[-1]["step_seconds"]) == 1.8
    assert rows[-1]["parameters"] == "3000000"


def test_a_part_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no part 'head': there are patch embedding, blocks"):
        SPLIT.part(HEAD)
