"""The text of a TerraTorch config, rewritten for the pruned backbone and otherwise untouched."""

from __future__ import annotations

import yaml

from terratorch_simpler.results import SOURCE
from terratorch_simpler.results.lines import CALLBACK, depth_lines
from terratorch_simpler.task.config import TaskConfig

Edit = tuple[int, int, str]
"""Start and end of a piece of the text, and what it becomes."""


def simpler_config(
    config: TaskConfig, keep_blocks: int | list[int], plan: str, blocks: str | None = None
) -> str:
    """Rewrite a config for the pruned backbone, touching nothing but its lines.

    Args:
        config: The config of the full task.
        keep_blocks: What the plan keeps.
        plan: Path of the plan as the config is to name it.
        blocks: Dotted name of the list of blocks, where it was named.

    Returns:
        The YAML with ``simpler_`` before the backbone's name, the lines that say how deep, and the
        callback.
    """
    text, root = config.text, config.node
    backbone = _get(_get(_get(_get(root, "model"), "init_args"), "model_args"), "backbone")
    assert backbone is not None
    arguments = _get(_get(_get(root, "model"), "init_args"), "model_args")
    edits = [(backbone.start_mark.index, backbone.end_mark.index, f"{SOURCE}_{backbone.value}")]
    edits.append(_after(text, arguments, backbone, depth_lines(keep_blocks, plan, blocks)))
    if not _has_callback(root):
        edits.append(_callback_edit(text, root))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _get(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _after(text: str, mapping: yaml.Node | None, value: yaml.Node, lines: list[str]) -> Edit:
    """An edit that adds entries to a mapping after one of its scalar values."""
    assert isinstance(mapping, yaml.MappingNode)
    if mapping.flow_style:
        end = value.end_mark.index
        return end, end, "".join(f", {line}" for line in lines)
    key = next(name for name, found in mapping.value if found is value)
    indent = " " * key.start_mark.column
    end = text.find("\n", value.end_mark.index)
    end = len(text) if end < 0 else end
    return end, end, "".join(f"\n{indent}{line}" for line in lines)


def _has_callback(root: yaml.Node) -> bool:
    callbacks = _get(_get(root, "trainer"), "callbacks")
    entries = callbacks.value if isinstance(callbacks, yaml.SequenceNode) else []
    paths = [_get(entry, "class_path") for entry in entries]
    return any(path is not None and path.value == CALLBACK for path in paths)


def _callback_edit(text: str, root: yaml.Node) -> Edit:
    """An edit that adds the callback to the trainer's, whatever is there already."""
    trainer = _get(root, "trainer")
    entry = f"class_path: {CALLBACK}"
    callbacks = _get(trainer, "callbacks")
    if isinstance(callbacks, yaml.SequenceNode) and callbacks.value:
        first = callbacks.value[0].start_mark
        if callbacks.flow_style:
            return first.index, first.index, f"{{{entry}}}, "
        dash = callbacks.start_mark
        return dash.index, dash.index, f"- {entry}\n{' ' * dash.column}"
    if callbacks is not None:
        # `callbacks: null`, `[]` or nothing at all.
        start, end = callbacks.start_mark.index, callbacks.end_mark.index
        return start, end, f"{'' if end > start else ' '}[{{{entry}}}]"
    if isinstance(trainer, yaml.MappingNode) and trainer.value:
        first = trainer.value[0][0].start_mark
        if trainer.flow_style:
            return first.index, first.index, f"callbacks: [{{{entry}}}], "
        indent = " " * first.column
        return first.index, first.index, f"callbacks:\n{indent}  - {entry}\n{indent}"
    if isinstance(root, yaml.MappingNode) and root.flow_style:
        if trainer is not None:
            start, end = trainer.start_mark.index, trainer.end_mark.index
            return start, end, f"{{callbacks: [{{{entry}}}]}}"
        start = root.value[0][0].start_mark.index
        return start, start, f"trainer: {{callbacks: [{{{entry}}}]}}, "
    lines = f"trainer:\n  callbacks:\n    - {entry}\n"
    if trainer is not None:
        key = next(name for name, value in root.value if value is trainer)
        return key.start_mark.index, trainer.end_mark.index, lines.rstrip("\n")
    return len(text), len(text), lines if text.endswith("\n") else f"\n{lines}"
