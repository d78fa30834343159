"""Block lists: how a config names the kept blocks, and how they are shown."""

from __future__ import annotations

from itertools import pairwise


def keep_spec(kept_blocks: list[int]) -> int | list[int]:
    """The shortest ``keep_blocks`` for these blocks: a number for the first ones, else the list."""
    count = len(kept_blocks)
    return count if kept_blocks == list(range(count)) else list(kept_blocks)


def check_kept_blocks(keep: int | list[int], total: int) -> list[int]:
    """Turn ``keep_blocks`` into a list of block indices.

    Args:
        keep: Number of first blocks, or sorted 0-based indices.
        total: Number of blocks of the full backbone.

    Returns:
        Sorted 0-based indices.

    Raises:
        ValueError: If the number is not in 1..total, or the list is empty, unsorted, has an index
            twice or one outside 0..total-1.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | list):
        raise ValueError(f"keep_blocks must be a number or a list of block indices, got {keep!r}")
    if isinstance(keep, int):
        if not 1 <= keep <= total:
            raise ValueError(
                f"keep_blocks is {keep}, but this backbone has {total} blocks: "
                f"choose from 1 to {total}"
            )
        return list(range(keep))
    wrong = [block for block in keep if isinstance(block, bool) or not isinstance(block, int)]
    if not keep or wrong:
        raise ValueError(f"keep_blocks must list whole numbers, got {keep!r}")
    if any(not 0 <= block < total for block in keep):
        raise ValueError(
            f"keep_blocks {keep} names a block outside 0..{total - 1} (indices are 0-based)"
        )
    if any(a >= b for a, b in pairwise(keep)):
        raise ValueError(f"keep_blocks {keep} must be sorted and without repeats")
    return list(keep)


def block_ranges(blocks: list[int]) -> str:
    """Block indices in words: ``0-4`` or ``0-2, 5, 7``."""
    runs = runs_of(blocks)
    return ", ".join(f"{start}-{end}" if end > start else str(start) for start, end in runs)


def runs_of(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers in a sorted list."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs
