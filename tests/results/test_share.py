"""What the blocks' share of a model allows, in a sentence."""

from __future__ import annotations

from terratorch_simpler.results.share import BlockShare


def test_the_sentence_says_share_limit_and_gain() -> None:
    share = BlockShare(total=1000, blocks=(100, 200, 300))
    assert share.sentence([0, 1]) == (
        "Blocks are 60% of the FLOPs of the whole model: at most 2.5x fewer, 2 of 3 blocks make it "
        "1.4x fewer."
    )
    # Which ones are kept counts where they differ.
    assert "2 of 3 blocks make it 1.1x fewer" in share.sentence([1, 2])
