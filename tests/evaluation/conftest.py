"""Shape types are checked before a function's own checks; a test of those has to go without the types."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def without_shape_types() -> Iterator[None]:
    """Call functions as a user does, without jaxtyping's checks."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
