"""What tests of the mesh share: a LAN of real network namespaces, where this machine and user can make them."""

from collections.abc import Iterator

import pytest

from tests.mesh.lan import Lan
from tests.mesh.namespaces import why_not


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips what asks for it, and says why, where no namespaces can be made."""
    if reason := why_not():
        pytest.skip(f"no LAN can be made here: {reason}")


@pytest.fixture
def lan(namespaces: None) -> Iterator[Lan]:
    """A LAN of one test's own, which may break it."""
    with Lan() as made:
        yield made
