"""What the blocks' share of the time allows a cut to win, in a line."""

from __future__ import annotations

from terratorch_simpler.results.profile import Profile

KINDS = {"inference": "inference", "step": "a training step"}


def limit_lines(profile: Profile) -> list[str]:
    """One line for inference and one for a training step; none without a split by part.

    The limit is that of a model without any block. What a depth wins is what was measured there, or
    interpolated: the depth of a plan, or else a third of the blocks.
    """
    split = profile.split
    if split is None:
        return []
    row, full = profile.row(profile.named_depth), profile.rows[-1]
    lines = []
    for kind, words in KINDS.items():
        share = split.inference_share if kind == "inference" else split.step_share
        allowed = "all of it can be won"
        if share < 1:
            allowed = f"no depth can make it more than {1 / (1 - share):.1f}x as fast"
        factor = getattr(full, f"{kind}_seconds") / getattr(row, f"{kind}_seconds")
        won = f"{row.depth} of {split.depth} blocks make it {factor:.1f}x"
        if profile.compiled:
            # The parts were timed without compiling, the depths with it.
            words, won = f"{words} that is not compiled", f"compiled, {won}"
        lines.append(f"Blocks are {100 * share:.0f} % of {words}: {allowed}; {won}.")
    return lines
