"""What should not be slow and is: each finding says its cause, a figure and the way out in a line.

The functions read what was seen of a run and import no torch: what only a GPU does is recognised by
the names of the operators that its profiler records.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from terratorch_simpler.results.parts import BLOCKS, PATCH, Split
from terratorch_simpler.results.profile import Loader

SHARE = 0.1
"""Share of a forward pass from which on a slow operator is worth a line."""
SLOW_CONVOLUTION = re.compile(r"slow_conv|thnn_conv|vol2col")
FUSED = "scaled_dot_product"
PLAIN = "aten::_scaled_dot_product_attention_math"
TF32 = (8, 0)
"""Compute capability from which on CUDA devices multiply in TF32."""


@dataclass(frozen=True)
class Operator:
    """One call of an operator in a forward pass, as torch's profiler records it.

    Attributes:
        name: Its name, as ``aten::conv3d``.
        seconds: Time of it and of what it calls: on CUDA that of the device.
        within: Names of the operators that called it.
    """

    name: str
    seconds: float
    within: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What was seen of a run at full depth.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: In what it computed, in Lightning's words.
        operators: Those of a forward pass.
        split: What each part costs.
        batch_size: Images in a batch.
        step_seconds: A training step at full depth, compiled where the depths are.
        named: Another depth, and the seconds of a training step there.
        capability: Compute capability of a CUDA device.
        products: ``torch.get_float32_matmul_precision()``.
        idle: A GPU of this machine that was not used.
        loader: How fast the training images come.
    """

    device: str
    precision: str
    operators: Sequence[Operator]
    split: Split
    batch_size: int
    step_seconds: float
    named: tuple[int, float]
    capability: tuple[int, int] | None = None
    products: str = "highest"
    idle: str | None = None
    loader: Loader | None = None

    def share(self, operators: Sequence[Operator]) -> float:
        """Share of some operators in the forward pass."""
        whole = sum(one.seconds for one in self.operators if not one.within)
        return sum(one.seconds for one in operators) / whole if whole else 0.0


def slow_convolution(seen: Seen) -> str | None:
    """A convolution that runs without the library that is made for it."""
    slow = [
        one
        for one in seen.operators
        if SLOW_CONVOLUTION.search(one.name)
        # One of them calls the next.
        and not any(SLOW_CONVOLUTION.search(name) for name in one.within)
    ]
    share = seen.share(slow)
    if share < SHARE:
        return None
    names = ", ".join(sorted({one.name for one in slow}))
    if seen.device == "cuda":
        return (
            f"convolutions run without cuDNN ({names}): {share:.0%} of a forward pass; builds of "
            "torch 2.9 to 2.11 do so in 16 bits (pytorch#166643): take another build, or "
            "--precision 32-true"
        )
    way = (
        "set torch.backends.mkldnn.enabled, or take larger batches"
        if seen.precision == "32-true"
        else "a CPU without units for 16 bits is faster with --precision 32-true"
    )
    return f"convolutions run without oneDNN ({names}): {share:.0%} of a forward pass; {way}"


def costly_patch_embedding(seen: Seen) -> str | None:
    """A patch embedding that takes longer than all blocks."""
    patch, blocks = (seen.split.part(name).inference_seconds for name in (PATCH, BLOCKS))
    if patch <= blocks:
        return None
    return (
        f"the patch embedding takes {1e3 * patch:.1f} ms of a forward pass, the blocks "
        f"{1e3 * blocks:.1f} ms: no depth changes that; try another --precision, larger patches or "
        "fewer bands"
    )


def plain_attention(seen: Seen) -> str | None:
    """Attention without a fused kernel."""
    math = [one for one in seen.operators if one.name == PLAIN]
    if seen.device == "cuda" and math:
        return (
            f"attention falls back to the plain kernel ({PLAIN}, {len(math)} times): "
            f"{seen.share(math):.0%} of a forward pass; the fused ones take --precision bf16-mixed "
            "and heads of a width that 8 divides"
        )
    names = [one.name for one in seen.operators]
    softmax = names.count("aten::_softmax")
    fused = any(FUSED in name for name in names)
    if fused or softmax < seen.split.depth or "aten::bmm" not in names:
        return None
    return (
        f"attention is computed step by step ({softmax} times aten::_softmax between products): "
        "have it call torch's scaled_dot_product_attention (timm: TIMM_FUSED_ATTN=1)"
    )


def without_tf32(seen: Seen) -> str | None:
    """Products of 32 bits that leave the units for TF32 idle."""
    able = seen.capability is not None and seen.capability >= TF32
    if not able or seen.precision != "32-true" or seen.products != "highest":
        return None
    return (
        "products of 32 bits run without TF32 on a GPU that has it (float32_matmul_precision is "
        f"{seen.products}): call torch.set_float32_matmul_precision('high'), or take --precision "
        "bf16-mixed"
    )


def idle_gpu(seen: Seen) -> str | None:
    """A GPU that is there while the CPU is measured."""
    if seen.device != "cpu" or seen.idle is None:
        return None
    return f"measured on the CPU while {seen.idle} is there: take --accelerator gpu"


def starved(seen: Seen) -> str | None:
    """A loader that delivers fewer images than the training step takes."""
    loader = seen.loader
    if loader is None:
        return None
    depth, seconds = seen.named
    full, cut = seen.batch_size / seen.step_seconds, seen.batch_size / seconds
    if loader.images_per_second >= max(full, cut):
        return None
    kept = f"{depth} of {seen.split.depth} blocks"
    takes = (
        f"the training step takes {full:.0f} ({kept}: {cut:.0f})"
        if loader.images_per_second < full
        else f"that is enough for all blocks ({full:.0f}), not for {kept} ({cut:.0f})"
    )
    return (
        f"the loader delivers {loader.images_per_second:.0f} images a second, {takes}: set "
        f"num_workers (now {loader.workers}) to the cores that are free, or make reading cheaper "
        "(fewer transforms, tiles as they are used)"
    )


FINDINGS = (
    *(slow_convolution, costly_patch_embedding, plain_attention),
    *(without_tf32, idle_gpu, starved),
)
"""Every finding, in the order in which they are printed."""


def findings(seen: Seen) -> tuple[str, ...]:
    """The lines of all that is slow and should not be."""
    return tuple(line for find in FINDINGS if (line := find(seen)) is not None)
