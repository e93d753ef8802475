"""What unit tests share."""

import pytest

from tests.unit.box import Box


@pytest.fixture
def driven_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The box that was made last tells the time."""
    made: list[Box] = []
    before = Box.__init__

    def remember(self: Box, **how: object) -> None:
        before(self, **how)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Box, "__init__", remember)
    for module in ("appliance.routing.scheduler", "appliance.workers.pool"):
        monkeypatch.setattr(f"{module}.time.monotonic", lambda: made[-1].now_s if made else 1000.0)
