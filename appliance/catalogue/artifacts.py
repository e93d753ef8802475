"""Artifacts on disk: folders named by the digest of what is in them, put in place by one rename, never changed.

Runs in the gateway process, under the catalogue's lock. Knows neither names nor versions.
"""

import shutil
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path

from appliance.catalogue.staging import StagedArtifact
from appliance.core.digests import file_digest
from appliance.core.durable import sync_folder


class Artifacts:
    """`folder` holds the artifacts; `incoming`, on the same disk, what is not yet or no more one."""

    def __init__(self, folder: Path, incoming: Path) -> None:
        self.folder = folder
        self.incoming = incoming
        self._keepers = 0
        self._postponed: set[str] = set()

    def new_incoming(self) -> Path:
        """A fresh folder that only this node's user can enter."""
        self.incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=self.incoming))

    def place(self, staged: StagedArtifact) -> Path:
        """Moves a staged artifact to its address and returns it; on the disk when this returns.

        Where an intact one lies there already, that one stays. A damaged one is replaced.
        """
        target = artifact_path(self.folder, staged.digest)
        self._postponed.discard(staged.digest)
        if is_intact(target, staged.files):
            return target
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if target.exists():
            self._take_away(target)
        staged.folder.rename(target)
        sync_folder(target.parent)
        sync_folder(self.folder)
        return target

    def remove(self, digest: str) -> None:
        """Takes an artifact away at once, and then its bytes: half of one never lies at an address. Where all are to be
        kept for a while, it is done after that."""
        if self._keepers:
            self._postponed.add(digest)
            return
        target = artifact_path(self.folder, digest)
        if target.exists():
            self._take_away(target)

    def _take_away(self, target: Path) -> None:
        bin_ = self.new_incoming()
        target.rename(bin_ / target.name)
        sync_folder(target.parent)
        shutil.rmtree(bin_, ignore_errors=True)

    def keep_all(self) -> None:
        """From now on nothing is removed, until as many let_go() have followed."""
        self._keepers += 1

    @property
    def keeps_all(self) -> bool:
        return bool(self._keepers)

    def let_go(self) -> None:
        self._keepers -= 1
        if not self._keepers:
            postponed, self._postponed = self._postponed, set()
            for digest in postponed:
                self.remove(digest)

    def remove_all_but(self, wanted: Set[str]) -> None:
        """Takes away whatever no version names: what a deploy that was cut short had put there."""
        self._postponed -= wanted
        for path in self.folder.glob("*/*"):
            if path.name not in wanted:
                self.remove(path.name)

    def empty_incoming(self) -> None:
        """Removes what uploads that were cut short left."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir(parents=True, exist_ok=True, mode=0o700)

    def set_aside(self, but: Set[str] = frozenset()) -> None:
        """Moves artifacts out of the way and keeps them: the catalogue that named them is gone. Those in `but` stay."""
        doomed = [path for path in self.folder.glob("*/*") if path.name not in but]
        if doomed:
            number = 1
            while (aside := self.folder.with_name(f"{self.folder.name}-without-catalogue-{number}")).exists():
                number += 1
            for path in doomed:
                (aside / path.parent.name).mkdir(parents=True, exist_ok=True, mode=0o700)
                path.rename(aside / path.parent.name / path.name)


def artifact_path(folder: Path, digest: str) -> Path:
    """Where an artifact lies: two levels, so that no folder holds very many."""
    return folder / digest[:2] / digest


def is_intact(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether `folder` has these files (relative path to sha256), to the bit."""
    try:
        return all(file_digest(folder / path) == digest for path, digest in files.items())
    except OSError:
        return False
