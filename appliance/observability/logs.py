"""How this program's processes write their logs: one line a record on stderr, a time, a level, who, what, and fields.

    2026-03-01T08:15:30.123Z info deploys a model was deployed model=me/x version=1.0.0

Run in any process. Fields come by logging's own `extra`. What a caller sent cannot begin a new line or steer a
terminal: control characters are written escaped, and a traceback is folded into its record's line.
"""

import json
import logging
import sys
import time
from typing import TextIO

# What every record has; anything else on it came by `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+/:@%")


class OneLine(logging.Formatter):
    """A record as one printable line."""

    def format(self, record: logging.LogRecord) -> str:
        seconds, milliseconds = divmod(int(record.created * 1000), 1000)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        name = record.name.removeprefix("ingle.").removeprefix("appliance.")
        words = [f"{at}.{milliseconds:03d}Z", record.levelname.lower(), name, printable(record.getMessage())]
        words += (f"{key}={_value(value)}" for key, value in vars(record).items() if key not in _OWN)
        if record.exc_info and record.exc_info[0]:
            words.append(f"traceback={_value(self.formatException(record.exc_info))}")
        return " ".join(words)


def printable(text: str) -> str:
    """The text on one line: what cannot be printed is written as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _value(value: object) -> str:
    text = str(value)
    return text if text and _BARE.issuperset(text) else printable(json.dumps(text, ensure_ascii=False))


def set_up_logs(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send this process's logs, of `level` and above, to `stream` (stderr), and nowhere else. Again replaces."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What each request did is counted and remembered elsewhere; a line for each would cost more than the call.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
