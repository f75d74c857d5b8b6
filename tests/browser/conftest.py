"""A tab for the pages of a module, which names the one that every test begins with: ``home``."""

import pytest

from tests.browser.chromium import browser


@pytest.fixture(scope="module")
def tab():
    with browser() as opened:
        yield opened


@pytest.fixture(autouse=True)
def fresh(tab, home):
    """The page as new; it complains of nothing and asks for nothing but what was opened."""
    tab.width(1180)
    tab.scheme("light")
    for noted in (tab.complaints, tab.requests, tab.opened):
        noted.clear()
    tab.open(home)
    yield
    assert tab.complaints == []
    assert tab.requests == tab.opened
