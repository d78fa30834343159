"""How much of a task's whole model the blocks are, from one pass of one tile."""

from __future__ import annotations

from terratorch_simpler.messages import one_line
from terratorch_simpler.profiling.profiled import detects, profiled_task_model
from terratorch_simpler.profiling.runs import Example
from terratorch_simpler.profiling.share import count_share
from terratorch_simpler.results.share import BlockShare
from terratorch_simpler.task.build import Task


def share_sentence(task: Task, example: Example, kept: list[int]) -> str:
    """What the blocks that are kept make of the whole model, or why this is not known.

    Args:
        task: The task, whose model has the full backbone.
        example: One tile as the backbone takes it.
        kept: 0-based indices of the kept blocks.
    """
    if task.backbone.by_frame:
        reason = "TerraTorch's temporal wrapper runs the backbone once a date"
    else:
        try:
            counted = "backbone and necks" if detects(task.model) else "the whole model"
            return measure_share(task, example).sentence(kept, counted)
        except Exception as error:
            # The model is the user's own: a finished selection does not fail with it.
            reason = one_line(error, most=200)
    return f"What the cut saves of the whole model is left out: {reason}."


def measure_share(task: Task, example: Example) -> BlockShare:
    """Count the FLOPs of the model and of each block in one forward pass on the CPU."""
    backbone = task.backbone
    profiled = profiled_task_model(task.model, backbone.blocks, backbone.name, backbone.arguments)
    return count_share(profiled, example)
