"""Formats that a model is exported to, each in a file: what is written, and what is refused."""

from __future__ import annotations

from typing import Literal

Format = Literal["terratorch", "safetensors", "onnx", "pt2", "vllm"]
Quantized = Literal["int8", "bf16"]

FOLDERS: tuple[Format, ...] = ("terratorch", "safetensors", "vllm")
"""Formats that are folders; the others are files."""
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "pt2": ".pt2"}
"""What the name of a file has to end in."""
QUANTIZED: dict[Format, tuple[Quantized, ...]] = {"onnx": ("int8",), "pt2": ("bf16",)}
"""What each format can be quantised to."""
