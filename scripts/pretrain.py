r"""Pre-train a small Prithvi backbone as a masked autoencoder: the sample's, or that of a study.

The encoder is TerraTorch's ``prithvi_eo_v2_tiny_tl`` (12 blocks, 192 wide, unless said otherwise),
trained from random weights on the scenes of a YAML file with TerraTorch's own ``PrithviMAE`` under
a light decoder, which is thrown away afterwards. Acquisition dates and places are not used, so the
encoder knows none: do not pass coordinates to it. The budget is wall-clock time, so a repeated run
takes as many steps as the machine allows and gives similar, not equal, weights::

    python scripts/pretrain.py --root SCENES --output RUN --minutes 85

``RUN`` receives the checkpoint and the loss curve; at the end the encoder (float16) and the curve
are written into the sample, or where ``--export`` says. Go on after an interruption with
``--resume``; write the weights from the checkpoint alone with ``--export-only``. The deeper encoder
of the studies, of another seed and without two of the places::

    python scripts/pretrain.py --root SCENES --output RUN --minutes 75 --depth 24 --width 128 \
        --seed 1 --scenes scripts/pretrain_scenes_mae24.yaml --export studies/weights/mae24.pt
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
import yaml
from rasterio.errors import NotGeoreferencedWarning
from rasterio.merge import merge
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKBONE = "prithvi_eo_v2_tiny_tl"
BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
DECODER: dict[str, Any] = {
    "decoder_embed_dim": 192,
    "decoder_depth": 2,
    "decoder_num_heads": 3,
    "norm_pix_loss": True,
    "mask_ratio": 0.75,
}
HERE = Path(__file__).resolve().parent
CURVE_COLUMNS = ("step", "minutes", "train_loss", "held_out_loss")

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """Scenes of one origin and their share of the crops."""

    name: str
    weight: float
    scenes: list[FloatArray]


@dataclass
class Settings:
    """Everything that one run needs, from the command line."""

    root: Path
    scenes: Path
    sample: Path
    output: Path
    export: Path
    depth: int
    width: int
    minutes: float
    batch: int
    learning_rate: float
    threads: int
    seed: int
    log_minutes: float
    checkpoint_minutes: float
    resume: bool


@dataclass
class Progress:
    """Where a run stands; ``minutes`` counts all its parts."""

    step: int = 0
    minutes: float = 0.0
    rows: list[tuple[float, ...]] = field(default_factory=list)


def statistics() -> tuple[FloatArray, FloatArray]:
    """Return the means and standard deviations Prithvi-EO-2 normalises with, shape (6, 1, 1)."""
    from terratorch.models.backbones.prithvi_vit import PRITHVI_V2_MEAN, PRITHVI_V2_STD

    mean = np.asarray(PRITHVI_V2_MEAN, np.float32)[:, None, None]
    std = np.asarray(PRITHVI_V2_STD, np.float32)[:, None, None]
    return mean, std


def expand(source: dict[str, Any], settings: Settings) -> list[Path]:
    """List the files of one source of the YAML file, its split applied."""
    base = settings.sample if source.get("in_sample", False) else settings.root
    paths = [path for pattern in source["paths"] for path in sorted(base.glob(pattern))]
    if not paths:
        raise FileNotFoundError(f"source {source['name']}: no file {source['paths']} under {base}")
    split = source.get("split")
    if split is None:
        return paths
    with (base / split["file"]).open(newline="") as handle:
        rows = csv.DictReader(handle)
        wanted = {row[split["key"]] for row in rows if row[split["column"]] == split["value"]}
    return [path for path in paths if path.stem in wanted]


def read_scene(paths: list[Path], source: dict[str, Any]) -> FloatArray:
    """Read one scene (several files are joined), normalised, shape (6, rows, columns)."""
    if len(paths) == 1:
        with rasterio.open(paths[0]) as dataset:
            data = dataset.read(source["bands"])
    else:
        data, _ = merge(paths, indexes=source["bands"])
    values = np.asarray(data, np.float32)
    missing = ~np.isfinite(values)
    if source.get("nodata") is not None:
        missing |= values == source["nodata"]
    mean, std = statistics()
    normalised = (values - source.get("offset", 0) - mean) / std
    return np.where(missing, np.float32(0), normalised).astype(np.float32)


def read_sources(settings: Settings) -> list[Source]:
    """Read every scene of the YAML file into memory."""
    if not settings.scenes.is_file():
        raise FileNotFoundError(f"list of scenes {settings.scenes} not found")
    listed = yaml.safe_load(settings.scenes.read_text())["sources"]
    sources = []
    for entry in listed:
        paths = expand(entry, settings)
        groups = [paths] if entry.get("mosaic", False) else [[path] for path in paths]
        scenes = [read_scene(group, entry) for group in groups]
        sources.append(Source(entry["name"], float(entry["weight"]), scenes))
        print(f"{entry['name']}: {len(paths)} files, {sum(s[0].size for s in scenes)} px")
    return sources


def read_held_out(sample: Path) -> Tensor:
    """Read the sample's validation tiles, normalised, as one batch."""
    paths = sorted((sample / "val" / "images").glob("*.tif"))
    if not paths:
        raise FileNotFoundError(f"no validation tiles under {sample}; run make_sample.py first")
    entry = {"bands": list(range(1, len(BANDS) + 1))}
    return torch.from_numpy(np.stack([read_scene([path], entry) for path in paths]))


class Crops:
    """Endless random crops of the sources, flipped and turned at random."""

    def __init__(self, sources: list[Source], batch: int, generator: np.random.Generator) -> None:
        """Keep the sources.

        Args:
            sources: Scenes with their weights.
            batch: Crops of 128 px a batch; batches of 224 px hold a third of that.
            generator: Source of all randomness.
        """
        self.sources = sources
        self.batch = batch
        self.generator = generator

    def pick(self, size: int) -> FloatArray:
        """Draw a scene of at least ``size`` pixels a side, by source weight and then by area."""
        large = [
            (source.weight, [scene for scene in source.scenes if min(scene.shape[1:]) >= size])
            for source in self.sources
        ]
        large = [(weight, scenes) for weight, scenes in large if scenes]
        weights = np.array([weight for weight, _ in large])
        scenes = large[self.generator.choice(len(large), p=weights / weights.sum())][1]
        areas = np.array([scene[0].size for scene in scenes], float)
        return scenes[self.generator.choice(len(scenes), p=areas / areas.sum())]

    def crop(self, size: int) -> Tensor:
        """Draw one crop; half of them are cut smaller and enlarged to ``size``."""
        scene = self.pick(size)
        side = size
        if self.generator.random() < 0.5:
            side = int(self.generator.integers(round(0.6 * size), size + 1))
        top = int(self.generator.integers(scene.shape[1] - side + 1))
        left = int(self.generator.integers(scene.shape[2] - side + 1))
        window = scene[:, top : top + side, left : left + side]
        window = np.rot90(window, int(self.generator.integers(4)), axes=(1, 2))
        if self.generator.random() < 0.5:
            window = window[:, :, ::-1]
        crop = torch.from_numpy(np.ascontiguousarray(window))
        if side == size:
            return crop
        return nn.functional.interpolate(crop[None], (size, size), mode="bilinear")[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches: nine in ten of 128 px crops, the others of 224 px."""
        while True:
            size = 224 if self.generator.random() < 0.1 else 128
            count = self.batch if size == 128 else max(1, self.batch // 3)
            yield torch.stack([self.crop(size) for _ in range(count)])


def build_model(depth: int, width: int) -> nn.Module:
    """Build TerraTorch's masked autoencoder around the backbone, with heads of 64 channels."""
    from terratorch.registry import FULL_MODEL_REGISTRY

    encoder = {"depth": depth, "embed_dim": width, "num_heads": width // 64}
    model: nn.Module = FULL_MODEL_REGISTRY.build(
        f"{BACKBONE}_mae", pretrained=False, bands=BANDS, **encoder, **DECODER
    )
    return model


def build_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """Build AdamW without weight decay on biases, norms and tokens."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.squeeze().ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in trained if p.squeeze().ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95))


def schedule(progress: float, peak: float) -> float:
    """Return the learning rate at a share of the budget: warm-up over 5 %, then cosine."""
    if progress < 0.05:
        return peak * max(progress, 1e-3) / 0.05
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.05) / 0.95)))
    return peak * (0.01 + 0.99 * cosine)


def held_out_loss(model: nn.Module, tiles: Tensor) -> float:
    """Return the loss on the validation tiles under four fixed masks each."""
    model.eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        losses = [float(model(tiles)[0]["loss"]) for _ in range(4)]
    model.train()
    return sum(losses) / len(losses)


def train_step(
    model: nn.Module, optimizer: torch.optim.AdamW, batch: Tensor, learning_rate: float
) -> float:
    """Take one optimiser step and return the loss."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    # On one CPU thread bfloat16 and plain attention (the sequences are short) together are twice
    # as fast as float32 and the fused kernel.
    with sdpa_kernel(SDPBackend.MATH):
        with torch.autocast("cpu", torch.bfloat16):
            loss: Tensor = model(batch)[0]["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def replace_atomically(path: Path, content: Any) -> None:
    """Save with torch to a temporary file beside ``path``, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.AdamW, progress: Progress, crops: Crops
) -> None:
    """Write everything that a resumed run needs."""
    replace_atomically(
        path,
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": progress.step,
            "minutes": progress.minutes,
            "rows": progress.rows,
            "torch_rng": torch.get_rng_state(),
            "crops_rng": crops.generator.bit_generator.state,
        },
    )


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this script."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}; run without --resume or --export-only")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def restore(path: Path, model: nn.Module, optimizer: torch.optim.AdamW, crops: Crops) -> Progress:
    """Set model, optimiser and random states to those of a checkpoint."""
    saved = load_checkpoint(path)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["torch_rng"])
    crops.generator.bit_generator.state = saved["crops_rng"]
    rows = [tuple(row) for row in saved["rows"]]
    return Progress(saved["step"], saved["minutes"], rows)


def write_curve(path: Path, rows: list[tuple[float, ...]]) -> None:
    """Write the loss curve."""
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(CURVE_COLUMNS)
        for step, minutes, train, held_out in rows:
            writer.writerow([int(step), f"{minutes:.2f}", f"{train:.4f}", f"{held_out:.4f}"])


def export(checkpoint: Path, target: Path) -> None:
    """Write the encoder in float16, and the loss curve beside it.

    Args:
        checkpoint: Checkpoint of this script.
        target: File for the encoder's weights, keyed as TerraTorch's ``PrithviViT``.
    """
    saved = load_checkpoint(checkpoint)
    prefix = "encoder."
    encoder = {
        key.removeprefix(prefix): value.half().contiguous()
        for key, value in saved["model"].items()
        if key.startswith(prefix)
    }
    replace_atomically(target, encoder)
    write_curve(target.parent / "pretraining.csv", [tuple(row) for row in saved["rows"]])


def train(settings: Settings) -> Path:
    """Train until the budget of minutes is spent.

    Args:
        settings: The run's settings.

    Returns:
        The last checkpoint.
    """
    torch.manual_seed(settings.seed)
    settings.output.mkdir(parents=True, exist_ok=True)
    checkpoint = settings.output / "checkpoint.pt"
    if checkpoint.exists() and not settings.resume:
        raise ValueError(f"{checkpoint} exists: give --resume to go on, or another --output")
    generator = np.random.default_rng(settings.seed)
    crops = Crops(read_sources(settings), settings.batch, generator)
    held_out = read_held_out(settings.sample)
    model = build_model(settings.depth, settings.width)
    optimizer = build_optimizer(model)
    progress = Progress()
    if settings.resume:
        progress = restore(checkpoint, model, optimizer, crops)
    loop(settings, model, optimizer, crops, held_out, progress)
    return checkpoint


def loop(
    settings: Settings,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    crops: Crops,
    held_out: Tensor,
    progress: Progress,
) -> None:
    """Run training steps, log and save until the budget is spent."""
    checkpoint = settings.output / "checkpoint.pt"
    start = time.monotonic() - 60 * progress.minutes
    logged = saved = progress.minutes
    losses: list[float] = []
    model.train()
    for batch in crops:
        rate = schedule(progress.minutes / settings.minutes, settings.learning_rate)
        losses.append(train_step(model, optimizer, batch, rate))
        progress.step += 1
        progress.minutes = (time.monotonic() - start) / 60
        done = progress.minutes >= settings.minutes
        if done or progress.step == 1 or progress.minutes - logged >= settings.log_minutes:
            logged = progress.minutes
            mean = sum(losses) / len(losses)
            row = (progress.step, progress.minutes, mean, held_out_loss(model, held_out))
            progress.rows.append(row)
            losses.clear()
            write_curve(settings.output / "curve.csv", progress.rows)
            print(f"step {row[0]} minutes {row[1]:.2f} train {row[2]:.4f} held-out {row[3]:.4f}")
        if done or progress.minutes - saved >= settings.checkpoint_minutes:
            saved = progress.minutes
            save_checkpoint(checkpoint, model, optimizer, progress, crops)
        if done:
            return


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    sample = HERE.parent / "terratorch_simpler" / "samples"
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--root", type=Path, default=Path(), help="folder the scenes lie in")
    result.add_argument("--scenes", type=Path, default=HERE / "pretrain_scenes.yaml")
    result.add_argument("--sample", type=Path, default=sample, help="folder of the sample")
    result.add_argument("--output", type=Path, required=True, help="folder of the run")
    weights = sample / f"{BACKBONE}.pt"
    result.add_argument("--export", type=Path, default=weights, help="file for the encoder")
    result.add_argument("--depth", type=int, default=12, help="blocks of the encoder")
    result.add_argument("--width", type=int, default=192, help="its channels, a multiple of 64")
    result.add_argument("--minutes", type=float, default=85.0, help="wall-clock budget")
    result.add_argument("--batch", type=int, default=64)
    result.add_argument("--learning-rate", type=float, default=8e-4)
    result.add_argument("--threads", type=int, default=1)
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--log-minutes", type=float, default=1.0)
    result.add_argument("--checkpoint-minutes", type=float, default=5.0)
    result.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    result.add_argument("--export-only", action="store_true", help="export the checkpoint and stop")
    return result


def main() -> None:
    """Run the command line."""
    arguments = vars(parser().parse_args())
    export_only = arguments.pop("export_only")
    settings = Settings(**arguments)
    torch.set_num_threads(settings.threads)
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    try:
        if settings.width < 64 or settings.width % 64:
            raise ValueError(f"--width must be a multiple of 64, got {settings.width}")
        checkpoint = settings.output / "checkpoint.pt" if export_only else train(settings)
        export(checkpoint, settings.export)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {settings.export}")


if __name__ == "__main__":
    main()
