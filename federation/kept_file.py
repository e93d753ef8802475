"""A small file of the data folder that is written whole, and only when what belongs in it has changed.

Used by the gateway's process; save() waits for the disk, and is for a thread.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.core.durable import disk_faults, write_durably


class KeptFile:
    def __init__(self, file: Path) -> None:
        self.path = file
        self._saved = True

    def changed(self) -> None:
        """What belongs in it is not what was written last."""
        self._saved = False

    def save(self, content: Callable[[], object]) -> None:
        """Writes what `content` gives as JSON, durably, if that changed since it was last written. A change
        meanwhile is for the next time, and so is all where the disk cannot: IngleError is raised then."""
        if self._saved:
            return
        self._saved = True
        # After the mark: what changes while this is made is marked anew.
        encoded = msgspec.json.encode(content())
        try:
            with disk_faults(self.path.parent):
                write_durably(self.path, encoded)
        except BaseException:
            self._saved = False
            raise
