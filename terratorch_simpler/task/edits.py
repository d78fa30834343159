"""Edits of a YAML text by where its nodes stand: entries added, renamed and taken out."""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

Edit = tuple[int, int, str]
"""Start and end of a piece of the text, and what it becomes."""

_ALIAS = re.compile(r"\s*:\s*(\*[^\s,\]}]+)")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
"""An anchor or a tag, which stand before a value and are none of it."""
_COMMENTS = re.compile(r"(?:\s*\n[ \t]*#[^\n]*)*\s*\Z")
"""Comments on lines of their own, and blank lines, at the end."""


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; none may overlap another."""
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def get(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The value of a key that stands in a mapping itself; None if it is merged in, or not there."""
    found = _entry(node, key)
    return None if found is None else found[1]


def _entry(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next(((name, value) for name, value in node.value if name.value == key), None)


def _own(node: yaml.MappingNode, key: str) -> tuple[yaml.Node, yaml.Node]:
    found = _entry(node, key)
    assert found is not None
    return found


def rename(text: str, mapping: yaml.MappingNode, key: str, new: str) -> Edit:
    """An edit that gives an entry another key, in the quotes that the old one has."""
    name, _ = _own(mapping, key)
    start, end = name.start_mark.index, name.end_mark.index
    quote = text[start] if text[start] in "\"'" else ""
    return start, end, f"{quote}{new}{quote}"


def replace(text: str, mapping: yaml.MappingNode, key: str, new: str) -> Edit:
    """An edit that gives an entry another scalar value."""
    start, end = _span(text, *_own(mapping, key))
    properties = _PROPERTIES.match(text, start, end)
    assert properties is not None
    return properties.end(), end, new


def put(text: str, mapping: yaml.MappingNode, entries: list[str], after: str | None = None) -> Edit:
    """An edit that adds entries to a mapping.

    Args:
        text: The YAML.
        mapping: The mapping.
        entries: What to add, each as ``key: value``.
        after: Key of an entry with a scalar value to put them after; None to put them first.
    """
    if after is None:
        first = mapping.value[0][0].start_mark
        joint = ", " if mapping.flow_style else f"\n{' ' * first.column}"
        return first.index, first.index, "".join(f"{entry}{joint}" for entry in entries)
    key, value = _own(mapping, after)
    end = _span(text, key, value)[1]
    if mapping.flow_style:
        return end, end, "".join(f", {entry}" for entry in entries)
    indent = " " * key.start_mark.column
    end = _line_end(text, end)
    return end, end, "".join(f"\n{indent}{entry}" for entry in entries)


def take_out(text: str, mapping: yaml.MappingNode, key: str, beside: str) -> Edit:
    """An edit that takes an entry out of a mapping.

    Args:
        text: The YAML.
        mapping: The mapping.
        key: Key of the entry.
        beside: Key of an entry that stays: several edits of one mapping do not overlap then.
    """
    keys = [name.value for name, _ in mapping.value]
    index = keys.index(key)
    name, value = mapping.value[index]
    if not mapping.flow_style:
        start = name.start_mark.index - name.start_mark.column
        return start, min(_line_end(text, _span(text, name, value)[1]) + 1, len(text)), ""
    if index < keys.index(beside):
        return name.start_mark.index, mapping.value[index + 1][0].start_mark.index, ""
    return _span(text, *mapping.value[index - 1])[1], _span(text, name, value)[1], ""


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _span(text: str, key: yaml.Node, value: yaml.Node) -> tuple[int, int]:
    """Where a value stands: an alias where it is used, a block without comments behind it."""
    if value.start_mark.index < key.start_mark.index:
        alias = _ALIAS.match(text, key.end_mark.index)
        assert alias is not None
        return alias.span(1)
    start, end = value.start_mark.index, value.end_mark.index
    if isinstance(value, yaml.CollectionNode) and not value.flow_style:
        # The mark of a block is where the next token is found.
        end = start + len(_COMMENTS.sub("", text[start:end]))
    return start, end
