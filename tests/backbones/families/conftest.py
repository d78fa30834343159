"""One backbone of each kind is tested quickly; its variants, which refine its class, are slow."""

from __future__ import annotations

import pytest

from tests.backbones.families.tester import BackboneTester


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the promises of variants as slow."""
    for item in items:
        tester = item.cls if isinstance(item, pytest.Function) else None
        if tester is None or not issubclass(tester, BackboneTester):
            continue
        if BackboneTester not in tester.__bases__:
            item.add_marker(pytest.mark.slow)
