"""Pre-train a small vision transformer on RGB pictures as a masked autoencoder.

The encoder is timm's ``vit_tiny_patch16_224`` (12 blocks, 192 wide, 3 heads) for patches of 8 px
and pictures of 64 px, trained from random weights as in He et al. (2022): 75 % of the patches are
hidden, and a light decoder, thrown away afterwards, predicts their normalised pixels. Labels are
not used. The budget is wall-clock time, so a repeated run takes as many steps as the machine allows
and gives similar, not equal, weights. Pictures come from tar files of jpg files::

    python scripts/pretrain_pictures.py part1.tar part2.tar --output RUN --minutes 7

``RUN`` receives the encoder (``encoder.pt``, float16), the loss curve, a summary, and the
checkpoint from which ``--resume`` goes on. TerraTorch builds the encoder by the name
``timm_vit_tiny_patch16_224`` with ``pretrained=True``,
``pretrained_cfg_overlay={"file": "RUN/encoder.pt"}``, ``patch_size=8`` and ``img_size=64``.
``score_pictures.py`` measures the accuracy at each depth of it.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import math
import sys
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

SIDE, PATCH, WIDTH = 64, 8, 192
GRID = SIDE // PATCH
MASK_RATIO = 0.75
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 128, 4, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CURVE_COLUMNS = ("step", "epochs", "minutes", "train_loss", "held_out_loss")


@dataclass
class Progress:
    """Where a run stands; ``minutes`` counts all its parts."""

    step: int = 0
    minutes: float = 0.0
    rows: list[list[float]] = field(default_factory=list)


def decode(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode one picture to uint8 of shape (64, 64, 3)."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.uint8)
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"a picture has {pixels.shape[:2]} pixels, expected {SIDE} x {SIDE}")
    return pixels


def read_pictures(archives: Sequence[Path], threads: int) -> tuple[list[str], Tensor]:
    """Read every jpg file of some tar files.

    Args:
        archives: The tar files.
        threads: Threads that decode.

    Returns:
        Names in alphabetical order, and pixels as uint8 of shape (count, 3, 64, 64).
    """
    found: dict[str, bytes] = {}
    for path in archives:
        with tarfile.open(path) as archive:
            for member in archive:
                handle = archive.extractfile(member) if member.name.endswith(".jpg") else None
                if handle is not None:
                    found[member.name] = handle.read()
    if not found:
        raise ValueError(f"no jpg file in {', '.join(str(path) for path in archives)}")
    names = sorted(found)
    with ThreadPoolExecutor(threads) as pool:
        pixels = np.stack(list(pool.map(decode, (found[name] for name in names), chunksize=64)))
    return names, torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


@functools.cache
def constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return ImageNet's mean and deviation and the eight turns and flips, kept on the device."""
    turns = torch.tensor(
        [[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]]
    )
    turns = torch.cat([turns, turns * torch.tensor([-1, 1])]).float()
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return mean.to(device), std.to(device), turns.to(device)


def augment(pixels: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Normalise, crop, flip and turn every picture of a batch at random, in one resampling.

    Args:
        pixels: uint8 of shape (count, 3, rows, columns).
        smallest: Least area of a crop, as a share of the picture; 1 does not crop.
        generator: Source of randomness, on the device of the pixels.

    Returns:
        Normalised pictures of the same shape.
    """
    count, device = len(pixels), pixels.device
    turns = constants(device)[2]
    chosen = turns[torch.randint(8, (count,), generator=generator, device=device)]
    draws = torch.rand(count, 3, generator=generator, device=device)
    scale = (smallest + (1 - smallest) * draws[:, :1]).sqrt()
    shift = (2 * draws[:, 1:] - 1) * (1 - scale)
    theta = torch.cat([chosen * scale[:, :, None], shift[:, :, None]], dim=2)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(
        normalise(pixels), grid, padding_mode="border", align_corners=False
    )


def normalise(pixels: Tensor) -> Tensor:
    """Turn uint8 pixels into floats with ImageNet's mean and standard deviation."""
    mean, std, _ = constants(pixels.device)
    return (pixels / 255 - mean) / std


def positions(width: int) -> Tensor:
    """Return 2-D sine-cosine embeddings of the class token (zeros) and the patches."""
    rates = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(GRID)[:, None] * rates
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis[:, None].expand(-1, GRID, -1), axis[None].expand(GRID, -1, -1)
    patches = torch.cat([columns, rows], dim=2).reshape(1, GRID**2, width)
    return torch.cat([torch.zeros(1, 1, width), patches], dim=1)


def initialise(module: nn.Module) -> None:
    """Draw the weights of linear layers as masked autoencoders do."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build_encoder() -> VisionTransformer:
    """Build the encoder with random weights and sine-cosine positions, which it may then learn."""
    encoder = timm.create_model(
        "vit_tiny_patch16_224", patch_size=PATCH, img_size=SIDE, num_classes=0
    )
    if not isinstance(encoder, VisionTransformer):
        raise TypeError(f"timm built {type(encoder).__name__}, not its vision transformer")
    encoder.apply(initialise)
    nn.init.xavier_uniform_(encoder.get_parameter("patch_embed.proj.weight").view(WIDTH, -1))
    nn.init.normal_(encoder.get_parameter("cls_token"), std=0.02)
    encoder.get_parameter("pos_embed").data.copy_(positions(WIDTH))
    return encoder


def embed(encoder: VisionTransformer, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
    """Embed the class token and the patches, or only the ``kept`` ones, shape (count, kept)."""
    places = encoder.get_parameter("pos_embed")
    tokens = encoder.patch_embed(pixels) + places[:, 1:]
    if kept is not None:
        tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, WIDTH))
    first = encoder.get_parameter("cls_token") + places[:, :1]
    return torch.cat([first.expand(len(tokens), -1, -1), tokens], dim=1)


class MaskedAutoencoder(nn.Module):
    """The encoder under a light decoder."""

    places: Tensor

    def __init__(self) -> None:
        """Build both with random weights."""
        super().__init__()
        self.encoder = build_encoder()
        self.narrow = nn.Linear(WIDTH, DECODER_WIDTH)
        self.mask_token = nn.Parameter(torch.empty(1, 1, DECODER_WIDTH).normal_(std=0.02))
        self.register_buffer("places", positions(DECODER_WIDTH), persistent=False)
        self.decoder = nn.Sequential(
            *(Block(DECODER_WIDTH, DECODER_HEADS, qkv_bias=True) for _ in range(DECODER_DEPTH)),
            nn.LayerNorm(DECODER_WIDTH),
            nn.Linear(DECODER_WIDTH, 3 * PATCH**2),
        )
        for part in (self.narrow, self.decoder):
            part.apply(initialise)

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Return the loss on the hidden patches.

        Args:
            pixels: Normalised pictures.
            noise: One number a patch, shape (count, 64); the patches of the smallest are kept.

        Returns:
            Mean squared error of the pixels, normalised within each patch.
        """
        visible = round((1 - MASK_RATIO) * GRID**2)
        order = noise.argsort(dim=1)
        tokens = embed(self.encoder, pixels, order[:, :visible])
        tokens = self.narrow(self.encoder.norm(self.encoder.blocks(tokens))).float()
        masks = self.mask_token.expand(len(tokens), GRID**2 - visible, -1)
        shuffled = torch.cat([tokens[:, 1:], masks], dim=1)
        back = order.argsort(dim=1)[:, :, None].expand(-1, -1, DECODER_WIDTH)
        tokens = torch.cat([tokens[:, :1], shuffled.gather(1, back)], dim=1) + self.places
        predicted = self.decoder(tokens)[:, 1:].float()
        patches = pixels.reshape(-1, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 3, 5, 1)
        patches = patches.reshape(len(pixels), GRID**2, -1)
        variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
        errors = (predicted - (patches - mean) / (variance + 1e-6).sqrt()).square().mean(dim=2)
        loss: Tensor = errors.gather(1, order[:, visible:]).mean()
        return loss


def build_optimizer(model: nn.Module, device: torch.device) -> torch.optim.AdamW:
    """Build AdamW without weight decay on biases, norms, tokens and positions."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        plain = parameter.ndim < 2 or name.endswith(("pos_embed", "_token"))
        (others if plain else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": 0.05},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=device.type == "cuda")


def schedule(progress: float) -> float:
    """Return the share of the peak learning rate: warm-up over 5 %, then cosine."""
    if progress < 0.05:
        return max(progress, 1e-3) / 0.05
    return 0.005 + 0.9975 * (1 + math.cos(math.pi * min(1.0, (progress - 0.05) / 0.95))) / 2


def autocast(device: torch.device) -> torch.autocast:
    """Return the context for bfloat16 arithmetic, which does nothing without a GPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def save(content: object, target: Path) -> None:
    """Write a file whole: a ``.pt`` file, a table of curve rows, or a JSON file."""
    partial = target.with_name(target.name + ".partial")
    if target.suffix == ".pt":
        torch.save(content, partial)
    elif target.suffix == ".json":
        partial.write_text(json.dumps(content, indent=2) + "\n")
    else:
        with partial.open("w", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows(content)  # type: ignore[arg-type]
    partial.replace(target)


def save_run(
    output: Path, model: MaskedAutoencoder, optimizer: torch.optim.AdamW, progress: Progress
) -> None:
    """Write the checkpoint and export the encoder (float16)."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), **vars(progress)}
    save(state, output / "checkpoint.pt")
    encoder = model.encoder.state_dict()
    save({key: value.half().cpu() for key, value in encoder.items()}, output / "encoder.pt")


def restore(path: Path, model: MaskedAutoencoder, optimizer: torch.optim.AdamW) -> Progress:
    """Load a checkpoint and return where its run stood."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(state["step"], state["minutes"], state["rows"])


def train(options: argparse.Namespace) -> None:
    """Pre-train until the budget of minutes is spent."""
    device, output = torch.device(options.device), Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists() and not options.resume:
        raise ValueError(f"{checkpoint} exists: give --resume to go on, or another --output")
    names, pixels = read_pictures(options.archives, options.threads)
    if not 0 < options.held_out < len(names):
        raise ValueError(f"--held-out {options.held_out} of {len(names)} pictures leaves none")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(options.seed))
    held_out = pixels[order[: options.held_out]].to(device)
    pixels = pixels[order[options.held_out :]].to(device)
    print(f"{len(pixels)} pictures to train on, {len(held_out)} held out, on {device}", flush=True)
    torch.manual_seed(options.seed)
    model = MaskedAutoencoder().to(device)
    optimizer = build_optimizer(model, device)
    progress = restore(checkpoint, model, optimizer) if options.resume else Progress()
    loop(options, model, optimizer, pixels, held_out, progress)
    seconds, shown = 60 * progress.minutes, progress.step * options.batch
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    summary = {
        "seconds": seconds,
        "steps": progress.step,
        "epochs": shown / len(pixels),
        "pictures": len(pixels),
        "held_out": len(held_out),
        "batch": options.batch,
        "train_loss": progress.rows[-1][3],
        "held_out_loss": progress.rows[-1][4],
        "device": name,
        "torch": torch.__version__,
        "images_per_second": shown / seconds,
    }
    save(summary, output / "summary.json")
    print(json.dumps(summary))


def loop(
    options: argparse.Namespace,
    model: MaskedAutoencoder,
    optimizer: torch.optim.AdamW,
    pixels: Tensor,
    held_out: Tensor,
    progress: Progress,
) -> None:
    """Run training steps, log and save until the budget is spent."""
    device, batch, peak = pixels.device, options.batch, options.learning_rate * options.batch / 256
    generator = torch.Generator(device).manual_seed(options.seed + progress.step)
    fixed = torch.rand(len(held_out), GRID**2, generator=torch.Generator().manual_seed(0))
    fixed = fixed.to(device)
    compute = torch.compile(model) if options.compile else model
    start = time.monotonic() - 60 * progress.minutes
    logged = saved = progress.minutes
    total, count = torch.zeros((), device=device), 0
    while progress.minutes < options.minutes:
        share = schedule(progress.minutes / options.minutes)
        for group in optimizer.param_groups:
            group["lr"] = peak * share
        drawn = torch.randint(len(pixels), (batch,), generator=generator, device=device)
        noise = torch.rand(batch, GRID**2, generator=generator, device=device)
        pictures = augment(pixels[drawn], 0.5, generator)
        with autocast(device):
            loss = compute(pictures, noise)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total += loss.detach()
        count += 1
        progress.step += 1
        progress.minutes = (time.monotonic() - start) / 60
        done = progress.minutes >= options.minutes
        if not (done or progress.step == 1 or progress.minutes - logged >= options.log_minutes):
            continue
        with torch.no_grad(), autocast(device):
            losses = [float(total) / count, float(model(normalise(held_out), fixed))]
        if not all(math.isfinite(value) for value in losses):
            raise ValueError(f"the loss is not finite at step {progress.step}")
        progress.minutes = logged = (time.monotonic() - start) / 60
        epochs = progress.step * batch / len(pixels)
        progress.rows.append([progress.step, round(epochs, 3), round(logged, 4), *losses])
        total.zero_()
        count = 0
        save([CURVE_COLUMNS, *progress.rows], options.output / "curve.csv")
        print(
            f"step {progress.step} epochs {epochs:.1f} minutes {logged:.2f}"
            f" train {losses[0]:.4f} held-out {losses[1]:.4f}",
            flush=True,
        )
        if 60 * (progress.minutes - saved) >= options.checkpoint_seconds:
            saved = progress.minutes
            save_run(options.output, model, optimizer, progress)
    save_run(options.output, model, optimizer, progress)


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("archives", type=Path, nargs="+", help="tar files of jpg files")
    result.add_argument("--output", type=Path, required=True, help="folder of the run")
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result.add_argument("--threads", type=int, default=16, help="threads that decode pictures")
    result.add_argument("--minutes", type=float, default=7.0, help="wall-clock budget")
    result.add_argument("--batch", type=int, default=2048)
    result.add_argument("--learning-rate", type=float, default=1.5e-4, help="peak, for 256 a batch")
    result.add_argument("--held-out", type=int, default=300, help="pictures for the second curve")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--log-minutes", type=float, help="default: a sixtieth of the budget")
    result.add_argument("--checkpoint-seconds", type=float, default=60.0)
    result.add_argument("--compile", action="store_true", help="use torch.compile")
    result.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    return result


def main() -> None:
    """Run the command line."""
    options = parser().parse_args()
    if options.log_minutes is None:
        options.log_minutes = options.minutes / 60
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    try:
        train(options)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
