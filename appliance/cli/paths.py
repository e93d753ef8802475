"""Files and folders that the command line names and that must be there: one that is not is exit code 3, for every verb
alike. One of the other kind, or that this user may not read, is a wrong command line.
"""

from pathlib import Path
from typing import Any

import click

from appliance.core.errors import NotFoundError


class ExistingPath(click.Path):
    """A path that is there, as a Path. Its conversion raises NotFoundError where it is not."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(exists=True, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            if _is_there(Path(value)):
                raise
        asked_by = f" ({param.opts[-1]})" if isinstance(param, click.Option) else ""
        what = "a file or folder" if self.dir_okay else "a file"
        raise NotFoundError(f"{value} is not there: expected {what}{asked_by}")


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):  # a folder that may not be entered, a name that cannot be one
        return True
    return True


EXISTING_PATH = ExistingPath()
EXISTING_FILE = ExistingPath(dir_okay=False)
