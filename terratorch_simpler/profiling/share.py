"""How much of a model the blocks are, from one pass of a batch."""

from __future__ import annotations

from itertools import pairwise

from terratorch_simpler.profiling.costs import flops_by_depth
from terratorch_simpler.profiling.profiled import ProfiledModel
from terratorch_simpler.profiling.runs import Example, inference
from terratorch_simpler.results.share import BlockShare


def count_share(profiled: ProfiledModel, example: Example) -> BlockShare:
    """Count the FLOPs of a model and of each of its blocks in one forward pass.

    Args:
        profiled: The model, at full depth.
        example: The batch, on the model's device.
    """
    # Before the first block stands one of nothing, so that the first count is of all the rest.
    blocks = [[], *profiled.backbone.called_blocks]
    counts = flops_by_depth(inference(profiled.whole, example), blocks)
    return BlockShare(counts[-1], tuple(after - before for before, after in pairwise(counts)))
