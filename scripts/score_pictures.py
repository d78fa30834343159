"""Measure the accuracy of an encoder of ``pretrain_pictures.py`` at every depth.

The first ``k`` blocks, the final norm and a linear head on the mean patch token are fine-tuned at
every depth ``k``, and from random weights at some; a ridge classifier probes every layer of the
frozen encoder. The tar holds labelled jpg files as ``train``, ``valid`` and ``test``, each with a
folder a class. The test accuracies go to ``finetuned.csv``, row by row, and ``probed.csv``::

    python -m scripts.score_pictures RUN/encoder.pt pictures.tar --output RUN
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from scripts.pretrain_pictures import (
    WIDTH,
    augment,
    autocast,
    build_encoder,
    embed,
    normalise,
    read_pictures,
    save,
    schedule,
)

COLUMNS = ("model", "depth", "seed", "accuracy", "seconds")


@dataclass(frozen=True)
class Split:
    """Labelled pictures: uint8 of shape (count, 3, 64, 64), and the class of each."""

    pixels: Tensor
    labels: Tensor


class Shallow(nn.Module):
    """The first blocks of an encoder, its norm, and a linear head on the mean patch token."""

    def __init__(self, encoder: VisionTransformer, depth: int, classes: int) -> None:
        """Copy the encoder, cut.

        Args:
            encoder: The encoder of full depth, left as it is.
            depth: Blocks to keep.
            classes: Outputs of the head.
        """
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.encoder.blocks = self.encoder.blocks[:depth]
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the scores of the classes."""
        tokens = self.encoder.norm(self.encoder.blocks(embed(self.encoder, pixels)))
        scores: Tensor = self.head(tokens[:, 1:].mean(dim=1))
        return scores


def read_splits(archive: Path, threads: int, device: torch.device) -> dict[str, Split]:
    """Read the labelled pictures of a tar of ``split/class/name.jpg``."""
    names, pixels = read_pictures([archive], threads)
    parts = [PurePosixPath(name).parts[-3:] for name in names]
    classes = sorted({part[-2] for part in parts})
    labels = torch.tensor([classes.index(part[-2]) for part in parts])
    splits = {}
    for split in ("train", "valid", "test"):
        chosen = torch.tensor([part[0] == split for part in parts])
        if not chosen.any():
            raise ValueError(f"{archive} holds no {split}/class/name.jpg")
        splits[split] = Split(pixels[chosen].to(device), labels[chosen].to(device))
    return splits


def fine_tune(
    model: Shallow, splits: dict[str, Split], seed: int, epochs: int, batch: int
) -> float:
    """Fine-tune a model whole on the training pictures and return its accuracy on the test."""
    data, device = splits["train"], splits["train"].pixels.device
    generator = torch.Generator(device).manual_seed(seed)
    groups = [
        {"params": list(model.head.parameters()), "peak": 1e-3},
        {"params": list(model.encoder.parameters()), "peak": 3e-4},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05, fused=device.type == "cuda")
    step, steps = 0, epochs * math.ceil(len(data.labels) / batch)
    for _ in range(epochs):
        order = torch.randperm(len(data.labels), generator=generator, device=device)
        for drawn in torch.split(order, batch):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule(step / steps)
            pictures = augment(data.pixels[drawn], 1.0, generator)
            with autocast(device):
                loss = functional.cross_entropy(model(pictures), data.labels[drawn])
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
    with torch.no_grad():
        scores = model(normalise(splits["test"].pixels))
    return float((scores.argmax(dim=1) == splits["test"].labels).double().mean())


def layer_means(encoder: VisionTransformer, pixels: Tensor) -> list[Tensor]:
    """Return the mean patch token before the first block and after every block, in float64."""
    found: list[list[Tensor]] = []
    with torch.no_grad():
        for part in torch.split(normalise(pixels), 256):
            tokens = embed(encoder, part)
            means = [tokens[:, 1:].mean(dim=1)]
            for block in encoder.blocks:
                tokens = block(tokens)
                means.append(tokens[:, 1:].mean(dim=1))
            found.append(means)
    return [torch.cat(layer).double() for layer in zip(*found, strict=True)]


def probe(encoder: VisionTransformer, splits: dict[str, Split]) -> Iterator[tuple[int, float]]:
    """Yield each layer and the test accuracy of a ridge classifier, its penalty chosen on valid."""
    layers = {name: layer_means(encoder, split.pixels) for name, split in splits.items()}
    labels = splits["train"].labels
    targets = functional.one_hot(labels).double()
    for layer in range(len(layers["train"])):
        std, mean = torch.std_mean(layers["train"][layer], dim=0)
        scaled = {name: (means[layer] - mean) / (std + 1e-8) for name, means in layers.items()}
        features = scaled["train"]
        gram, cross = features.T @ features, features.T @ (targets - targets.mean(dim=0))
        best = (-1.0, 0.0)
        for penalty in (1e-1, 1e0, 1e1, 1e2, 1e3):
            ridge = penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            weights = torch.linalg.solve(gram + ridge, cross)
            accuracy = {
                name: ((scaled[name] @ weights + targets.mean(dim=0)).argmax(dim=1) == split.labels)
                .double()
                .mean()
                .item()
                for name, split in splits.items()
            }
            best = max(best, (accuracy["valid"], accuracy["test"]), key=lambda pair: pair[0])
        yield layer, best[1]


def score(options: argparse.Namespace) -> None:
    """Probe every layer of an encoder and fine-tune it at every depth, seed after seed."""
    start, device = time.monotonic(), torch.device(options.device)
    options.output.mkdir(parents=True, exist_ok=True)
    splits = read_splits(options.archive, options.threads, device)
    classes = int(splits["train"].labels.max()) + 1
    saved = torch.load(options.encoder, map_location="cpu", weights_only=True)
    encoder = build_encoder()
    encoder.load_state_dict({key: value.float() for key, value in saved.items()})
    probed = list(probe(encoder.to(device).eval(), splits))
    save([("layer", "accuracy"), *probed], options.output / "probed.csv")
    print("probed", " ".join(f"{accuracy:.3f}" for _, accuracy in probed), flush=True)
    target: Path = options.output / "finetuned.csv"
    save([COLUMNS], target)
    runs = [
        (name, depth, seed)
        for seed in range(options.seeds)
        for name, depths in (("pretrained", options.depths), ("random", options.random_depths))
        for depth in depths
    ]
    for name, depth, seed in runs:
        began = time.monotonic()
        if began - start >= 60 * options.minutes:
            print(f"stopped before {name} depth {depth} seed {seed}: the minutes are spent")
            return
        torch.manual_seed(seed)
        base = encoder if name == "pretrained" else build_encoder()
        model = Shallow(base, depth, classes).to(device)
        accuracy = fine_tune(model, splits, seed, options.epochs, options.batch)
        seconds = time.monotonic() - began
        with target.open("a", newline="") as handle:
            row = (name, depth, seed, f"{accuracy:.5f}", f"{seconds:.2f}")
            csv.writer(handle, lineterminator="\n").writerow(row)
        print(f"{name} depth {depth} seed {seed}: {accuracy:.4f} in {seconds:.1f} s", flush=True)


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("encoder", type=Path, help="exported encoder")
    result.add_argument("archive", type=Path, help="tar file of split/class/name.jpg")
    result.add_argument("--output", type=Path, required=True, help="folder of the results")
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result.add_argument("--threads", type=int, default=16, help="threads that decode pictures")
    result.add_argument("--minutes", type=float, default=3.0, help="start nothing after these")
    result.add_argument("--seeds", type=int, default=3)
    result.add_argument("--epochs", type=int, default=30)
    result.add_argument("--batch", type=int, default=210)
    result.add_argument("--depths", type=int, nargs="*", default=list(range(1, 13)))
    result.add_argument("--random-depths", type=int, nargs="*", default=[1, 4, 8, 12])
    return result


def main() -> None:
    """Run the command line."""
    options = parser().parse_args()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    try:
        score(options)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
