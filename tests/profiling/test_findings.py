"""What should not be slow: each fault set up, and the line that is printed.

What only a GPU does is recognised in operators' names as torch's profiler records them there; where
the CPU has the same fault, it is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from terratorch_simpler.cli import main
from terratorch_simpler.lightning import find_precision
from terratorch_simpler.profiling import loading
from terratorch_simpler.profiling.findings import FINDINGS, Operator, Seen, findings
from terratorch_simpler.profiling.loading import measure_loader
from terratorch_simpler.profiling.profile import profile
from terratorch_simpler.results.parts import BLOCKS, NORM, PATCH, Part, Split
from terratorch_simpler.results.profile import Loader, Profile
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]


def part(name: str, seconds: float) -> Part:
    return Part(name, 10**6, 10**6, 10**9, seconds, seconds, 2 * seconds, 10**6, 16 * 10**6)


FUSED = [Operator("aten::_scaled_dot_product_flash_attention", 0.1)] * 3
SPLIT = Split(3, (part(PATCH, 0.1), part(BLOCKS, 0.3), part(NORM, 0.0)), 0.1, 0.4, 0.5)
FINE = Seen("cuda", "32-true", FUSED, SPLIT, 8, 0.5, (1, 0.25), (9, 0), "high", "a GPU")
"""A GPU on which nothing is wrong."""


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert findings(FINE) == ()
    fast = replace(FINE, loader=Loader(100.0, 32, 4))
    assert findings(fast) == ()


CONVOLUTION = [
    *FUSED,
    Operator("aten::conv3d", 1.0),
    Operator("aten::convolution", 1.0, ("aten::conv3d",)),
    Operator("aten::slow_conv_dilated3d", 0.9, ("aten::convolution", "aten::conv3d")),
]
"""What a convolution in 16 bits is that is not taken to cuDNN (pytorch#166643)."""


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (
            replace(FINE, precision="bf16-mixed", operators=CONVOLUTION),
            "convolutions run without cuDNN (aten::slow_conv_dilated3d): 69% of a forward pass; "
            "builds of torch 2.9 to 2.11 do so in 16 bits (pytorch#166643): take another build, or "
            "--precision 32-true",
        ),
        (
            replace(FINE, split=replace(SPLIT, parts=(part(PATCH, 0.15), part(BLOCKS, 0.01)))),
            "the patch embedding takes 150.0 ms of a forward pass, the blocks 10.0 ms: no depth "
            "changes that; try another --precision, larger patches or fewer bands",
        ),
        (
            replace(
                FINE,
                operators=[
                    *[Operator("aten::scaled_dot_product_attention", 0.2)] * 3,
                    *[
                        Operator(
                            "aten::_scaled_dot_product_attention_math",
                            0.2,
                            ("aten::scaled_dot_product_attention",),
                        )
                    ]
                    * 3,
                    Operator("aten::linear", 0.4),
                ],
            ),
            "attention falls back to the plain kernel (aten::_scaled_dot_product_attention_math, "
            "3 times): 60% of a forward pass; the fused ones take --precision bf16-mixed and "
            "heads of a width that 8 divides",
        ),
        (
            replace(FINE, products="highest"),
            "products of 32 bits run without TF32 on a GPU that has it "
            "(float32_matmul_precision is highest): call "
            "torch.set_float32_matmul_precision('high'), or take --precision bf16-mixed",
        ),
        (
            replace(FINE, device="cpu", capability=None, idle="NVIDIA H100"),
            "measured on the CPU while NVIDIA H100 is there: take --accelerator gpu",
        ),
        (
            replace(FINE, loader=Loader(4.0, 32, 0)),
            "the loader delivers 4 images a second, the training step takes 16 (1 of 3 blocks: "
            "32): set num_workers (now 0) to the cores that are free, or make reading cheaper "
            "(fewer transforms, tiles as they are used)",
        ),
        (
            replace(FINE, loader=Loader(20.0, 32, 2)),
            "the loader delivers 20 images a second, that is enough for all blocks (16), not for 1 "
            "of 3 blocks (32): set num_workers (now 2) to the cores that are free, or make reading "
            "cheaper (fewer transforms, tiles as they are used)",
        ),
    ],
)
def test_each_fault_has_its_line(seen: Seen, line: str) -> None:
    assert findings(seen) == (line,)


@pytest.mark.parametrize(
    "seen",
    [
        # Small parts of a pass, other devices, devices without TF32.
        replace(FINE, operators=[*CONVOLUTION[:-1], replace(CONVOLUTION[-1], seconds=0.05)]),
        replace(FINE, capability=(7, 0), products="highest"),
        replace(FINE, precision="bf16-mixed", products="highest"),
        replace(FINE, device="cpu", capability=None, idle=None),
        # A softmax of a head is no attention.
        replace(FINE, operators=[Operator("aten::_softmax", 1), Operator("aten::bmm", 1)]),
        replace(FINE, operators=[]),
    ],
)
def test_what_is_no_fault(seen: Seen) -> None:
    assert findings(seen) == ()


def test_every_finding_is_asked() -> None:
    asked = [find.__name__ for find in FINDINGS]
    assert asked == [
        *("slow_convolution", "costly_patch_embedding", "plain_attention"),
        *("without_tf32", "idle_gpu", "starved"),
    ]


# Faults that the CPU has as well, run.


class Plain(nn.Module):
    """Attention as a textbook writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).chunk(3, -1)
        after: Tensor = tokens + torch.bmm(torch.bmm(q, k.mT).softmax(-1), v)
        return after


class Backbone(nn.Module):
    def __init__(self, block: Callable[[], nn.Module], embed: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(block() for _ in range(3))

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.embed(image).flatten(2).mT
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def small(module: nn.Module, **options: Any) -> Profile:
    image = torch.randn(2, 3, 64, 64)
    return profile(module, image, accelerator="cpu", rounds=1, blocks="blocks", **options)


def test_attention_step_by_step() -> None:
    found = small(Backbone(Plain, nn.Conv2d(3, 16, 16, 16)))
    (line,) = [line for line in found.findings if "attention" in line]
    assert line.startswith("attention is computed step by step (3 times aten::_softmax")
    assert f"slow: {line}" in " ".join(found.summary().split())
    assert line.split(":")[0] in found._repr_html_()


def test_a_patch_embedding_that_costs_more_than_the_blocks() -> None:
    embed = nn.Sequential(nn.Conv2d(3, 128, 7, 1, 3), nn.Conv2d(128, 16, 16, 16))
    found = small(Backbone(Plain, embed))
    assert any(line.startswith("the patch embedding takes") for line in found.findings)


def test_a_convolution_without_onednn() -> None:
    module = Backbone(Plain, nn.Conv2d(3, 16, 7, 1, 3))
    module.embed = nn.Sequential(nn.Conv2d(3, 64, 7, 1, 3), nn.Conv2d(64, 16, 16, 16))
    with torch.backends.mkldnn.flags(enabled=False):
        found = small(module)
    (line,) = [line for line in found.findings if "oneDNN" in line]
    assert re.search(r"\(aten::(thnn_conv2d|_slow_conv2d_forward)\): \d+% of a forward", line)
    assert "torch.backends.mkldnn.enabled" in line
    assert not any("oneDNN" in line for line in small(module).findings)


# Precision.


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_sixteen_bits(precision: str) -> None:
    module = Backbone(Plain, nn.Conv2d(3, 16, 16, 16))
    module.embed.register_buffer("scale", torch.tensor(0.1))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    seen: list[torch.dtype] = []

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen.append(output.dtype)

    block: Any = module.blocks[0]
    handle = block.qkv.register_forward_hook(note)
    found = small(module, precision=precision)
    handle.remove()
    # At first its blocks are looked for, in 32 bits.
    assert seen[-1] == torch.bfloat16
    assert found.precision == precision
    assert f"on cpu, {precision}" in found.summary()
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert found.split is not None
    full = small(module).split
    assert full is not None
    ratio = full.part(BLOCKS).state_bytes / found.split.part(BLOCKS).state_bytes
    assert ratio == (2 if precision == "bf16-true" else 1)


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("16-mixed", "precision 16-mixed needs a GPU: on the CPU choose bf16-mixed"),
        ("8-true", "unknown precision '8-true': choose one of 32-true, bf16-mixed, 16-mixed, bf16"),
    ],
)
def test_a_precision_that_the_device_does_not_take(
    tiny_prithvi: nn.Module, precision: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        profile(tiny_prithvi, accelerator="cpu", precision=precision)


def test_a_gpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "an old GPU")
    with pytest.raises(
        ValueError, match="an old GPU does not compute in bfloat16: choose 16-mixed"
    ):
        find_precision("bf16-mixed", torch.device("cuda", 0))


@pytest.mark.slow
def test_compiled(monkeypatch: pytest.MonkeyPatch, images: Tensor) -> None:
    from terratorch.models import EncoderDecoderFactory

    model = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone="prithvi_eo_tiny",
        backbone_img_size=32,
        decoder="FCNDecoder",
        decoder_channels=8,
        necks=[{"name": "SelectIndices", "indices": [3]}, {"name": "ReshapeTokensToImage"}],
        num_classes=2,
    )
    encoder = model.encoder
    # Traced as ever, and not written in C++, which takes minutes and is torch's own.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found = profile(model, images, accelerator="cpu", rounds=1, compile=True)
    assert model.encoder is encoder
    assert found.compiled
    assert all((row.compile_seconds or 0) > 0 for row in found.rows if row.times == "measured")
    said = found.summary()
    assert "on cpu, compiled" in said
    assert "start s" in said
    assert "not compiled" in said
    assert "…" not in said


# The loader.


class Images(Dataset[Any]):
    def __init__(self, count: int, broken: bool = False) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self.broken:
            raise OSError("no such file: a.tif")
        NOW[0] += 0.25
        return {"image": torch.zeros(3, 4, 4), "mask": torch.zeros(4, 4)}


NOW = [0.0]


class Data(LightningDataModule):
    def __init__(self, images: Images) -> None:
        super().__init__()
        self.images = images

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.images, batch_size=4)


def test_the_loader_is_timed_after_its_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "perf_counter", lambda: NOW[0])
    assert measure_loader(Data(Images(14))) == Loader(4.0, 3, 0)
    assert measure_loader(Data(Images(1000))) == Loader(4.0, 32, 0)
    monkeypatch.setattr(loading, "SECONDS", 2.5)
    assert measure_loader(Data(Images(1000))) == Loader(4.0, 3, 0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (Images(4), "Data has one training batch"),
        (Images(8, broken=True), "Data cannot give .* --with_loader: .*no such file: a.tif"),
    ],
)
def test_a_loader_that_cannot_be_timed(images: Images, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_loader(Data(images))


@pytest.mark.slow
def test_the_command_measures_the_loader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(loading, "perf_counter", iter(range(0, 10**6, 10)).__next__)
    config = "configs/sample/segmentation.yaml"
    given = ["--accelerator", "cpu", "--rounds", "1", "--output", str(tmp_path), "--with_loader"]
    main(["profile", "--config", config, "--size", "32", *given])
    said = " ".join(capsys.readouterr().out.split())
    assert "slow: the loader delivers 0 images a second, the training step takes" in said
    assert "set num_workers (now 0)" in said
    assert "decoder" in (tmp_path / "parts.csv").read_text()


def test_a_loader_needs_a_config() -> None:
    with pytest.raises(SystemExit):
        main(["profile", "--backbone", TINY, "--with_loader"])
