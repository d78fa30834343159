"""One backbone of each kind is held to all promises quickly; of its variants those that differ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backbones.families.tester import BackboneTester

OF_THE_KIND = (
    *("test_state_dict", "test_parameters", "test_pickle", "test_deepcopy", "test_compile"),
    *("test_export", "test_gradients", "test_memory", "test_freeze", "test_checkpoint"),
)
"""Promises of the pruned class, which are the same for each backbone of a kind: its first shows
them, and its variants show what blocks and tokens of their own could break."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the promises of variants as slow, and leave out those that their kind shows."""
    shown = []
    for item in items:
        tester = item.cls if isinstance(item, pytest.Function) else None
        if tester is None or not issubclass(tester, BackboneTester):
            continue
        if BackboneTester not in tester.__bases__:
            item.add_marker(pytest.mark.slow)
            if item.name in OF_THE_KIND and not tester.whole and item.name not in vars(tester):
                shown.append(item)
    if shown:
        items[:] = [item for item in items if item not in shown]
        config.hook.pytest_deselected(items=shown)


@pytest.fixture(scope="class", autouse=True)
def _nothing_stays_built(request: pytest.FixtureRequest) -> Iterator[None]:
    """A tester gives back the backbones that it keeps to copy them."""
    yield
    if request.cls is not None and issubclass(request.cls, BackboneTester):
        request.cls.built.clear()
