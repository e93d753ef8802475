"""What zeroconf logs of a multicast that the system refuses, in words for the box's owner.

Used by the gateway's process.
"""

import logging

_ZEROCONF = logging.getLogger("zeroconf")


class _InWords(logging.Filter):
    """Each reason once; other records pass as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if not isinstance(error, OSError):
            return True
        reason = error.strerror or str(error)
        if reason in self._said:
            return False
        self._said.add(reason)
        record.name, record.exc_info = "ingle.mesh", None
        record.args = (reason,)
        record.msg = (
            "multicast DNS cannot be sent from this box (%s): a firewall on it? Nodes then meet this one by --join "
            "HOST:PORT alone; `ingle doctor mesh` says more"
        )
        return True


_IN_WORDS = _InWords()


def put_in_words() -> None:
    """From now on; again is no more."""
    _ZEROCONF.addFilter(_IN_WORDS)
