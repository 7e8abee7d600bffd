"""What all tests share: slow tests run in CI or on demand, and real recordings are used where they lie beside the clone."""

import os
from pathlib import Path

import pytest

REAL = Path(__file__).parents[2] / "shared" / "real"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take more than 20 seconds, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or os.environ.get("CI") == "true":
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow, or CI=true"))


@pytest.fixture(scope="session")
def real_recordings() -> Path:
    """The folder of real recordings beside the clone."""
    if not REAL.is_dir():
        pytest.skip(f"no real recordings at {REAL}")
    return REAL
