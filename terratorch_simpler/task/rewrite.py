"""The text of a TerraTorch config, rewritten for the pruned backbone and otherwise untouched."""

from __future__ import annotations

import yaml

from terratorch_simpler.results.config_lines import CALLBACK, depth_lines
from terratorch_simpler.results.plan import SOURCE
from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.edits import Edit, apply_edits, get, put, replace


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
    arguments = get(get(get(root, "model"), "init_args"), "model_args")
    assert isinstance(arguments, yaml.MappingNode)
    name, lines = f"{SOURCE}_{config.backbone}", depth_lines(keep_blocks, plan, blocks)
    edits = list(config.edits)
    if get(arguments, "backbone") is None:
        # Merged in (<<): what stands in the mapping itself goes before.
        edits.append(put(text, arguments, [f"backbone: {name}", *lines]))
    else:
        edits.append(replace(text, arguments, "backbone", name))
        edits.append(put(text, arguments, lines, after="backbone"))
    if not _has_callback(root):
        edits.append(_callback_edit(text, root))
    return apply_edits(text, edits)


def _has_callback(root: yaml.Node) -> bool:
    callbacks = get(get(root, "trainer"), "callbacks")
    entries = callbacks.value if isinstance(callbacks, yaml.SequenceNode) else []
    paths = [get(entry, "class_path") for entry in entries]
    return any(path is not None and path.value == CALLBACK for path in paths)


def _callback_edit(text: str, root: yaml.Node) -> Edit:
    """An edit that adds the callback to the trainer's, whatever is there already."""
    trainer = get(root, "trainer")
    entry = f"class_path: {CALLBACK}"
    callbacks = get(trainer, "callbacks")
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
