"""What zeroconf says of a refused multicast is said once, and in words."""

import logging

import pytest

from federation.zeroconf_log import put_in_words


def test_a_multicast_that_is_refused_is_told_of_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    put_in_words()
    zeroconf, refusal = logging.getLogger("zeroconf"), PermissionError(1, "Operation not permitted, as tested")
    for number in (1, 2):
        zeroconf.warning("Error with socket %d (%s))", number, ("127.0.0.1", 5353), exc_info=refusal)
    zeroconf.warning("of another kind")
    told, other = caplog.records
    assert "Operation not permitted, as tested" in told.getMessage()
    assert "--join" in told.getMessage()
    assert (told.name, told.exc_info) == ("ingle.mesh", None)
    assert (other.name, other.getMessage()) == ("zeroconf", "of another kind")
