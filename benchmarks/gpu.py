"""What a cut saves on a GPU, whole: ``python benchmarks/gpu.py --output FOLDER``.

One file that needs torch, TerraTorch and this package, and under 8 minutes on one H100. Every row
is printed and written to ``gpu.json`` at once, so that a run that is stopped leaves what it has.
With ``--accelerator cpu --quick`` all of it runs small, to try it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import terratorch_simpler as simpler
from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.backbones.patches import PatchConv2d, PatchConv3d, multiplied
from terratorch_simpler.selection.select import SelectionWarning, run_selection
from terratorch_simpler.selection.settings import Settings

PAPER = {"training": 2.1, "inference": 2.6}
"""What the paper reports for Prithvi at 5 of 24 blocks, whole, on a GPU."""
SECONDS, COMPILING = 400, 200
"""After which no further row of whole models or of selections is begun, or none compiled."""
PYRAMID = [{"name": "ReshapeTokensToImage"}, {"name": "LearnedInterpolateToPyramidal"}]
CLASSES = 7
Row = dict[str, Any]
Run = Callable[[], object]


@dataclass(frozen=True)
class Setup:
    """How large everything is, and where it runs.

    Attributes:
        device: Where.
        quick: Whether all of it runs small.
        start: When it began, in seconds.
    """

    device: torch.device
    quick: bool
    start: float = field(default_factory=time.monotonic)

    @property
    def large(self) -> tuple[str, int, int]:
        """The backbone that is cut, its blocks, and how many are kept."""
        return ("prithvi_eo_v2_tiny_tl", 12, 4) if self.quick else ("prithvi_eo_v2_300", 24, 5)

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return 32 if self.quick else 224

    @property
    def batch(self) -> int:
        """Images in a batch."""
        return 2 if self.quick else 16

    @property
    def rounds(self) -> int:
        """Pairs that are timed."""
        return 1 if self.quick else 5

    def compiled(self, model: nn.Module) -> Any:
        """The model compiled; where it is only tried, without a compiler of C++."""
        return torch.compile(model, backend="aot_eager" if self.quick else "inductor")

    def images(self, count: int | None = None, bands: int = 6) -> Tensor:
        """Random images in the memory of the CPU."""
        return torch.randn(count or self.batch, bands, self.size, self.size)

    def autocast(self, precision: str) -> Any:
        """Products in 16 bits, or as they are."""
        if precision == "bf16-mixed":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def is_late(self, seconds: float) -> bool:
        """Whether so many are over since it began; what is only tried takes its time."""
        return not self.quick and time.monotonic() - self.start > seconds

    def seconds(self, run: Run) -> float:
        """How long it takes, until the device is done."""
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def ratio(self, slow: Run, fast: Run) -> Row:
        """Both in turn, once to warm up: median and range of the pairs, and milliseconds."""
        times = [(self.seconds(slow), self.seconds(fast)) for _ in range(self.rounds + 1)][1:]
        ratios = [one / other for one, other in times]
        slows, fasts = zip(*times, strict=True)
        return {
            "ratio": round(median(ratios), 2),
            "range": [round(min(ratios), 2), round(max(ratios), 2)],
            "ms": [round(1e3 * median(slows), 2), round(1e3 * median(fasts), 2)],
        }


def machine(setup: Setup) -> Iterator[Row]:
    """Device, driver and versions."""
    cuda = setup.device.type == "cuda"
    said = ""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    yield {
        "device": torch.cuda.get_device_name(setup.device) if cuda else platform.machine(),
        "driver": said,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "terratorch", "torchgeo", "timm")},
        "terratorch-simpler": version("terratorch-simpler"),
    }


DECODERS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "UNet 256": ("UNetDecoder", True, {"decoder_channels": [256, 128, 64, 32]}),
    "UNet 512": ("UNetDecoder", True, {"decoder_channels": [512, 256, 128, 64]}),
    "FCN 256": ("FCNDecoder", False, {"decoder_channels": 256}),
    "Linear": (
        "LinearDecoder",
        False,
        {"decoder_upsampling_size": 16, "decoder_num_classes": CLASSES},
    ),
}
"""By name: a decoder, whether it reads a pyramid of four layers, and its arguments."""


def build_model(setup: Setup, decoder: str, keep: int | None) -> nn.Module:
    """A segmentation model with random weights, full or with some first blocks, on the device."""
    from terratorch.models import EncoderDecoderFactory

    name, depth, _ = setup.large
    kind, pyramid, arguments = DECODERS[decoder]
    if setup.quick and "decoder_channels" in arguments:
        arguments = {"decoder_channels": [16, 8, 8, 4] if pyramid else 8}
    arguments = arguments if keep is None else {**arguments, "backbone_keep_blocks": keep}
    layers = [depth * part // 4 - 1 for part in range(1, 5)] if pyramid else [depth - 1]
    model: nn.Module = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone=name if keep is None else f"simpler_{name}",
        backbone_pretrained=False,
        backbone_img_size=setup.size,
        necks=[{"name": "SelectIndices", "indices": layers}, *PYRAMID[: 1 + pyramid]],
        decoder=kind,
        num_classes=CLASSES,
        **arguments,
    )
    return model.to(setup.device)


def whole_models(setup: Setup) -> Iterator[Row]:
    """Full over cut, of whole models: eager first, then compiled, which takes minutes.

    The cut one multiplies its patches where the convolution is known to be slow. In 16 bits one
    with all blocks that does so as well is timed beside TerraTorch's own: what the cut alone saves.
    """
    images = setup.images().to(setup.device)
    _, depth, kept = setup.large
    built: dict[str, list[nn.Module]] = {}
    for compiled, precision in product((False, True), ("bf16-mixed", "32")):
        # Where it is only tried, one decoder is compiled.
        for decoder in ["Linear"] if setup.quick and compiled else DECODERS:
            if decoder not in built:
                built[decoder] = [build_model(setup, decoder, keep) for keep in (None, depth, kept)]
            full, every, cut = built[decoder]
            for kind in ("training", "inference"):
                row: Row = {"decoder": decoder, "precision": precision, "kind": kind}
                row |= {"compiled": compiled, "paper": PAPER[kind]}
                both = precision != "32" and not compiled
                for name, other in (("TerraTorch", full), ("all blocks", every))[: 1 + both]:
                    row["full"] = name
                    if setup.is_late(COMPILING if compiled else SECONDS):
                        yield row | {"left out": "the time is over"}
                        continue
                    torch.compiler.reset()
                    runs = [_runs(setup, model, images, row) for model in (other, cut)]
                    yield row | setup.ratio(*runs)


def _runs(setup: Setup, model: Any, images: Tensor, row: Row) -> Run:
    """A pass, or a step of training with AdamW."""
    training, precision = row["kind"] == "training", row["precision"]
    model.train(training)
    call = setup.compiled(model) if row["compiled"] else model
    if not training:

        def infer() -> None:
            with torch.no_grad(), setup.autocast(precision):
                call(images)

        return infer
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = torch.randint(CLASSES, (len(images), *images.shape[-2:]), device=setup.device)

    def step() -> None:
        optimizer.zero_grad()
        with setup.autocast(precision):
            loss = nn.functional.cross_entropy(call(images).output, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def split(setup: Setup) -> Iterator[Row]:
    """What ``profile`` says of the model with a UNet."""
    model = build_model(setup, "UNet 256", None).cpu()
    found = simpler.profile(
        model,
        size=setup.size,
        batch_size=setup.batch,
        rounds=setup.rounds,
        accelerator=_accelerator(setup),
    )
    print(found.summary())
    full, cut = found.row(setup.large[1]), found.row(setup.large[2])
    yield {
        "training": round(full.step_seconds / cut.step_seconds, 2),
        "inference": round(full.inference_seconds / cut.inference_seconds, 2),
        "flops": round(full.flops / cut.flops, 2),
        "inference ms by part": {
            part.name: round(1e3 * part.inference_seconds, 2) for part in found.parts
        },
    }


def selection(setup: Setup) -> Iterator[Row]:
    """``select`` and pytorch-cka over a forward pass that copies its batches as well."""
    small = "prithvi_eo_v2_tiny_tl"
    for name, tiles in ((setup.large[0], 512), (small, 2048)):
        if setup.is_late(SECONDS):
            yield {"backbone": name, "left out": "the time is over"}
            continue
        tiles = 16 if setup.quick else tiles
        backbone = load_backbone(name, img_size=setup.size)
        backbone.module.eval()
        batches = [setup.images() for _ in range(tiles // setup.batch)]
        settings = Settings(
            samples=tiles, early_stop=False, progress=False, accelerator=_accelerator(setup)
        )

        forward = partial(_forward, setup, backbone, batches)
        select = partial(_select, backbone, batches, settings)
        row = {"backbone": name, "tiles": tiles}
        yield row | {"what": "select over forward"} | setup.ratio(select, forward)
        row["what"] = "pytorch-cka over forward"
        try:
            version("pytorch-cka")
        except PackageNotFoundError:
            yield row | {"left out": "pytorch-cka is not installed"}
            continue
        peer = _pytorch_cka(setup, backbone, batches)
        yield row | setup.ratio(peer, forward)


def _select(backbone: Any, batches: list[Tensor], settings: Settings) -> None:
    with warnings.catch_warnings():
        # Random numbers and weights are what is measured here.
        warnings.simplefilter("ignore", SelectionWarning)
        run_selection(backbone, batches, settings)


def _forward(setup: Setup, backbone: Backbone, batches: list[Tensor]) -> None:
    """As select computes by itself."""
    precision = "bf16-mixed" if setup.device.type == "cuda" else "32"
    module = backbone.module.to(setup.device)
    with (
        torch.inference_mode(),
        setup.autocast(precision),
        multiplied(module, backbone.blocks),
    ):
        for batch in batches:
            module(batch.to(setup.device, non_blocking=True))


def _pytorch_cka(setup: Setup, backbone: Backbone, batches: list[Tensor]) -> Run:
    from cka import compute_cka
    from torch.utils.data import DataLoader

    module = backbone.module
    layers = [f"{backbone.blocks}.{block}" for block in range(backbone.depth)]
    loader: Any = DataLoader([(batch,) for batch in batches], batch_size=None)  # type: ignore[arg-type]

    def run() -> None:
        with (
            contextlib.redirect_stderr(io.StringIO()),
            setup.autocast("bf16-mixed"),
            multiplied(module, backbone.blocks),
        ):
            compute_cka(
                module, module, loader, layers=layers, progress=False, device=str(setup.device)
            )

    return run


def patch_embedding(setup: Setup) -> Iterator[Row]:
    """The convolution over the product."""
    cases: dict[str, Any] = {
        "Conv3d, Prithvi 300M": (nn.Conv3d, PatchConv3d, 6, (1, 16, 16)),
        "Conv2d, ViT large": (nn.Conv2d, PatchConv2d, 3, (16, 16)),
    }
    width = 64 if setup.quick else 1024
    for name, (*kinds, bands, patch) in cases.items():
        layers = [kind(bands, width, patch, stride=patch) for kind in kinds]
        layers[1].load_state_dict(layers[0].state_dict())
        layers[1].always = True
        images = setup.images(bands=bands).to(setup.device)
        images = images[:, :, None] if len(patch) == 3 else images
        for layer in layers:
            layer.to(setup.device)
        for precision in ("32", "bf16-mixed"):
            with torch.no_grad(), setup.autocast(precision):
                pair = [layer(images).float() for layer in layers]
            differs = float((pair[0] - pair[1]).abs().max())
            for backward in (False, True):
                runs = [_embed(setup, layer, images, precision, backward) for layer in layers]
                row: Row = {"layer": name, "precision": precision, "backward": backward}
                yield row | {"differs": differs} | setup.ratio(*runs)


def _embed(setup: Setup, layer: Any, images: Tensor, precision: str, backward: bool) -> Run:
    def run() -> None:
        with torch.set_grad_enabled(backward), setup.autocast(precision):
            tokens = layer(images).flatten(2).transpose(1, 2).contiguous()
        if backward:
            tokens.float().square().mean().backward()

    return run


class ByHand(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Casts for every operator, without autocast: products in 16 bits, norms and softmax in 32."""

    low = ("mm", "addmm", "bmm", "baddbmm", "convolution")
    high = ("native_layer_norm", "_softmax")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator."""
        name = func.overloadpacket.__name__
        dtype = {**dict.fromkeys(self.low, torch.bfloat16), **dict.fromkeys(self.high, torch.float)}

        def cast(value: Any) -> Any:
            floats = isinstance(value, Tensor) and value.is_floating_point()
            return value.to(dtype[name]) if floats and name in dtype else value

        return func(*tree_map(cast, args), **(kwargs or {}))


def dofa(setup: Setup) -> Iterator[Row]:
    """Which side rounds in bf16-mixed: largest differences behind each part of DOFA."""
    backbone: Any = load_backbone(
        "dofa_small_patch16_224", model_bands=["RED", "GREEN", "BLUE"], img_size=setup.size
    )
    module = backbone.module.eval().to(setup.device)
    cut = simpler.prune(module, 4, outputs="kept")
    inner = module.dofa_model
    images = setup.images(bands=3).to(setup.device)
    whole = _outputs(inner, lambda: module(images))

    def in_bf16(model: Any = module) -> None:
        with setup.autocast("bf16-mixed"):
            model(images)

    def by_hand() -> None:
        with ByHand():  # type: ignore[no-untyped-call]
            module(images.bfloat16())

    def embedding_in_32() -> None:
        with setup.autocast("bf16-mixed"):
            module(images)

    found = {
        "autocast": _outputs(inner, in_bf16),
        "autocast, pruned": _outputs(inner, lambda: in_bf16(cut)),
        "casts by hand": _outputs(inner, by_hand),
        "autocast, patch embedding in 32 bits": _outputs(inner, embedding_in_32, full=True),
    }
    for name, outputs in found.items():
        for other, reference in (("32 bits", whole), ("autocast", found["autocast"])):
            yield {
                "what": f"{name} against {other}",
                "patch embedding": _largest(outputs[0], reference[0]),
                "block 1": _largest(outputs[1], reference[1]),
                "block 4": _largest(outputs[4], reference[4]),
                "last": None if len(outputs) < 13 else _largest(outputs[-1], reference[-1]),
                "largest value": round(float(reference[4].abs().max()), 2),
            }


def _outputs(inner: Any, run: Run, full: bool = False) -> list[Tensor]:
    """What leaves the patch embedding and every block that is run.

    Args:
        inner: DOFA itself.
        run: A pass of it.
        full: Have the patch embedding computed without autocast.
    """
    seen: list[Tensor] = []
    handles = [inner.patch_embed.register_forward_hook(lambda _m, _i, out: seen.append(out[0]))]
    handles += [
        block.register_forward_hook(lambda _m, _i, out: seen.append(out)) for block in inner.blocks
    ]
    plain = inner.patch_embed.forward
    if full:

        def forward(*arguments: Tensor) -> Any:
            with torch.autocast(arguments[0].device.type, enabled=False):
                return plain(*arguments)

        inner.patch_embed.forward = forward
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    inner.patch_embed.__dict__.pop("forward", None)
    return [one.float() for one in seen]


def _largest(left: Tensor, right: Tensor) -> float:
    return round(float((left - right).abs().max()), 5)


def _accelerator(setup: Setup) -> str:
    return "cpu" if setup.device.type == "cpu" else "gpu"


SECTIONS: dict[str, Callable[[Setup], Iterator[Row]]] = {
    "machine": machine,
    "whole models, full over cut": whole_models,
    "profile": split,
    "selection": selection,
    "patch embedding, convolution over product": patch_embedding,
    "DOFA in bf16-mixed": dofa,
}


def measure(setup: Setup, output: Path) -> dict[str, Any]:
    """Run every section, and write what there is after every row.

    A section that fails is recorded with its error, and the others run.
    """
    results: dict[str, Any] = {}
    output.mkdir(parents=True, exist_ok=True)
    for name, section in SECTIONS.items():
        print(f"\n{name}")
        results[name] = {"rows": []}
        try:
            for row in section(setup):
                results[name]["rows"].append(row)
                print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
                _write(results, output)
        except Exception as error:
            results[name]["error"] = f"{type(error).__name__}: {error}"
            print(f"failed: {results[name]['error']}", flush=True)
        results[name]["seconds"] = round(time.monotonic() - setup.start)
        _write(results, output)
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()
    return results


def _write(results: dict[str, Any], output: Path) -> None:
    (output / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument("--accelerator", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--quick", action="store_true", help="all of it small, to try it")
    options = parser.parse_args(arguments)
    if options.accelerator == "gpu" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use: give --accelerator cpu --quick to try it")
    device = torch.device("cuda" if options.accelerator == "gpu" else "cpu")
    # What random weights and tiles are warned of is not what is measured.
    warnings.simplefilter("ignore")
    measure(Setup(device, options.quick), options.output)


if __name__ == "__main__":
    main()
