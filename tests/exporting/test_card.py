"""The model card: what a stranger has to know, from the record alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from terratorch_simpler.exporting.card import Parent, render_card
from terratorch_simpler.results.deployment import ModelRecord
from tests.conftest import MakePlan
from tests.predicting.models import deployment

MODEL = ModelRecord(name="prithvi_eo_v2_300", kept_blocks=(0, 1, 2), full_depth=24)


@pytest.mark.parametrize(
    ("task", "channels", "said"),
    [
        ("segmentation", 3, "logits [B, 3, 32, 32]; the largest is the class."),
        ("segmentation", 1, "logits [B, 1, 32, 32]; above 0 is the second of two classes."),
        ("regression", 1, "values [B, 32, 32]."),
        ("classification", 4, "logits [B, 4]; the largest is the class."),
        ("multilabel", 4, "logits [B, 4]; a class is there where its own is above 0."),
    ],
)
def test_it_says_what_the_output_is(task: Any, channels: int, said: str) -> None:
    card = render_card(deployment(task, classes=channels), Parent())
    assert f"The output: {said}" in card


def test_it_says_how_pixels_become_numbers(make_plan: MakePlan) -> None:
    known = deployment(means=(1.0,) * 6, stds=(2.0,) * 6, no_data_replace=0, model=MODEL)
    card = render_card(known, Parent("them/weights", "apache-2.0"), make_plan(3))
    assert "(pixel - mean) / standard deviation" in card
    assert "Pixels without data become 0.0 before that." in card
    assert "3 of its 24\ntransformer blocks (0-2, counted from 0)" in card
    assert "Fine-tuned from the weights of them/weights." in card
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "them/weights"
    # Nothing is left open: of what nobody recorded the card says just that.
    unknown = render_card(deployment(bands=None, channels=6), Parent(file="mine.pt"))
    assert "not recorded" in unknown
    assert "(pixel - mean)" not in unknown
    assert "How accurate the model is, its checkpoint does not say" in unknown


def test_one_that_was_not_trained_does_not_look_like_one_that_was() -> None:
    untrained = deployment(trained=False, model=MODEL)
    for parent, said in (
        (Parent(), "The backbone has random weights as well."),
        (Parent("them/weights"), "The backbone has the weights of them/weights."),
    ):
        card = render_card(untrained, parent)
        assert "not trained yet: its decoder and head have random weights." in card
        assert said in card
        assert "ine-tuned" not in card
        assert "How accurate" not in card
