"""Shared by the tests of the alignment."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """Let wrong shapes and types through to the library's own checks, which are all that a user has."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
