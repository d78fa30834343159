"""One backbone of each kind compiles and exports in the quick tests; its variants are slow."""

from __future__ import annotations

import pytest

from tests.backbones.families.tester import BackboneTester

TRACED = ("test_compile", "test_export")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what a class that refines another one would trace once more."""
    for item in items:
        tester = item.cls if isinstance(item, pytest.Function) else None
        if tester is None or not issubclass(tester, BackboneTester):
            continue
        if item.name in TRACED and BackboneTester not in tester.__bases__:
            item.add_marker(pytest.mark.slow)
