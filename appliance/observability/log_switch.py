"""What this process logs, as it can be changed while it runs. Source of the words: Triton's logging extension.

Runs in the gateway. Levels are turned on and off one by one; where the log goes and how it looks is not changed here.
"""

import logging
from collections.abc import Mapping

import msgspec

from appliance.core.errors import BadInputError

OURS = "ingle"  # above all our loggers
MOST_VERBOSE = 1


class LogSettings(msgspec.Struct, frozen=True):
    """As the extension has them. `log_verbose_level` 1 adds a line for each call."""

    log_file: str = ""
    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose_level: int = 0
    log_format: str = "ISO8601"


class LogSwitch(logging.Filter):
    """The settings, and the filter of each of the root logger's handlers that makes them so."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = LogSettings()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return self.settings.log_error
        if record.levelno >= logging.WARNING:
            return self.settings.log_warning
        return self.settings.log_info or record.levelno < logging.INFO

    def update(self, changed: Mapping[str, object]) -> LogSettings:
        """The settings after these changes. Raises BadInputError, and changes nothing, where one cannot be."""
        values = msgspec.structs.asdict(self.settings)
        for name, value in changed.items():
            _check(name, value, values)
            values[name] = value
        self.settings = LogSettings(**values)
        for handler in logging.getLogger().handlers:
            if self not in handler.filters:
                handler.addFilter(self)
        logging.getLogger(OURS).setLevel(logging.DEBUG if self.settings.log_verbose_level else logging.NOTSET)
        return self.settings


def _check(name: str, value: object, values: Mapping[str, object]) -> None:
    if name not in values:
        raise BadInputError(f"there is no log setting '{name[:100]}': expected {', '.join(values)}")
    if name in ("log_file", "log_format"):
        if value != values[name]:
            where = "where the node was started" if name == "log_file" else "as lines that begin with ISO 8601 times"
            raise BadInputError(f"{name} cannot be changed on this node: it logs {where}")
    elif name == "log_verbose_level":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_VERBOSE:
            raise BadInputError(
                f"log_verbose_level is {value!r:.40}: expected 0, or {MOST_VERBOSE} for a line for each call"
            )
    elif not isinstance(value, bool):
        raise BadInputError(f"{name} is {value!r:.40}: expected true or false")
