"""Files of weights: whether they are read, what they hold, and what tells weights apart."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from terratorch_simpler.backbones.families import Family


def weights_file(arguments: Mapping[str, Any], argument: str) -> Any:
    """The file of weights that arguments name, if they name one."""
    value = arguments.get(argument)
    return value.get("file") if isinstance(value, Mapping) else value


def reads_weights(family: Family[Any], arguments: Mapping[str, Any]) -> bool:
    """Whether the registry's builder, given these arguments, loads pre-trained weights."""
    pretrained = bool(arguments.get("pretrained", False))
    return pretrained or (
        family.weights_always and weights_file(arguments, family.weights) is not None
    )


def names_of_weights(path: Path, name: str, argument: str) -> Set[str]:
    """Names of the weights in a file, which is mapped into memory where its format allows.

    Args:
        path: The file.
        name: Registry name of the backbone that it is for.
        argument: The builder's argument that names the file.

    Raises:
        ValueError: If it is no file of weights.
    """
    try:
        mapped = zipfile.is_zipfile(path)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # A file that torch did not write raises all kinds of things.
        raise ValueError(
            f"the checkpoint {path} of {name} is no file of weights, or is damaged (torch.load: "
            f"{type(error).__name__}): give another one as {argument}"
        ) from error
    if not isinstance(weights, Mapping):
        raise ValueError(
            f"the checkpoint {path} of {name} holds a {type(weights).__name__}, not weights by "
            f"name: give another one as {argument}"
        )
    return {str(key) for key in weights}


def check_stored(
    path: str | Path, stored: Set[str], label: str, blocks: str, block_list: nn.Module
) -> None:
    """Refuse a checkpoint without the blocks' weights, which TerraTorch would only log.

    Args:
        path: The checkpoint.
        stored: Names of the weights in it.
        label: What to call the backbone.
        blocks: Dotted name of its list of blocks.
        block_list: The list.

    Raises:
        ValueError: With the first of the weights that are missing.
    """
    # A wrapper of TerraTorch adds a level of names that a file of weights does not have.
    own = blocks.rpartition(".")[2]
    held = {key.rpartition(f"{own}.")[2] for key in stored}
    wanted = [key for key, _ in block_list.named_parameters()]
    missing = [key for key in wanted if key not in held]
    if missing:
        raise ValueError(
            f"the checkpoint {path} does not hold {label}: {len(missing)} of {len(wanted)} block "
            f"weights are missing, the first is {own}.{missing[0]}"
        )


def fingerprint(blocks: nn.Module) -> str:
    """SHA-256 over the names and shapes of some blocks' weights, and sums of their bits."""
    digest = hashlib.sha256()
    for name, weight in blocks.named_parameters():
        digest.update(f"{name}{list(weight.shape)}".encode())
        for sums in _sums_of_bits(weight.detach()):
            digest.update(sums.cpu().numpy().data)
    return digest.hexdigest()


def _sums_of_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the rows and columns of a weight's bits, taken as integers modulo 2^64.

    They are exact, so that they do not depend on device, threads or order, and are taken where the
    weight is: only they have to be fetched and hashed.
    """
    data = weight.contiguous().reshape(-1).view(torch.uint8)
    if len(data) % 8:
        data = torch.nn.functional.pad(data, (0, -len(data) % 8))
    bits = data.view(torch.int64)
    rows = weight.shape[0] if weight.ndim > 1 and len(bits) % weight.shape[0] == 0 else 1
    table = bits.view(rows, -1)
    return table.sum(0), table.sum(1)
