"""The lines of a TerraTorch config that say how deep a backbone is."""

from __future__ import annotations

import yaml

from terratorch_simpler.results import SOURCE

CALLBACK = "terratorch_simpler.SimplerCallback"


def depth_lines(keep_blocks: int | list[int], plan: str, blocks: str | None) -> list[str]:
    """What stands beside the backbone's name.

    Args:
        keep_blocks: What the plan keeps.
        plan: Path of the plan as the config is to name it.
        blocks: Dotted name of the list of blocks, where it was named.
    """
    # Quoted as in a flow list, so that it can stand in flow and block mappings alike.
    scalar = yaml.safe_dump([plan], width=10**6, default_flow_style=True).strip()[1:-1]
    lines = [f"backbone_keep_blocks: {keep_blocks}", f"backbone_plan: {scalar}"]
    return lines + ([f"backbone_blocks: {blocks}"] if blocks is not None else [])


def config_lines(
    name: str, keep_blocks: int | list[int], plan: str, blocks: str | None = None
) -> str:
    """The lines for somebody who edits a config by hand."""
    lines = [f"backbone: {SOURCE}_{name}", *depth_lines(keep_blocks, plan, blocks)]
    indented = "".join(f"      {line}\n" for line in lines)
    return (
        f"trainer:\n  callbacks:\n    - class_path: {CALLBACK}\n"
        f"model:\n  init_args:\n    model_args:\n{indented}"
    )
