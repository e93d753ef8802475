"""Artifacts on disk: folders named by the digest of what is in them, put in place by one rename, never changed.

Runs in the gateway process, under the catalogue's lock. Knows neither names nor versions.
"""

import shutil
import tempfile
from collections.abc import Set
from pathlib import Path

from appliance.catalogue.staging import StagedArtifact
from appliance.core.durable import sync_folder


class Artifacts:
    """`folder` holds the artifacts; `incoming`, on the same disk, what is not yet or no more one."""

    def __init__(self, folder: Path, incoming: Path) -> None:
        self.folder = folder
        self.incoming = incoming

    def new_incoming(self) -> Path:
        """A fresh folder that only this node's user can enter."""
        self.incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=self.incoming))

    def place(self, staged: StagedArtifact) -> Path:
        """Moves a staged artifact to its address and returns it; on the disk when this returns.

        Where an intact one lies there already, that one stays. A damaged one is replaced.
        """
        target = artifact_path(self.folder, staged.digest)
        if is_intact(target, staged):
            return target
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if target.exists():
            self.remove(staged.digest)
        staged.folder.rename(target)
        sync_folder(target.parent)
        sync_folder(self.folder)
        return target

    def remove(self, digest: str) -> None:
        """Takes an artifact away at once, and then its bytes: half of one never lies at an address."""
        target = artifact_path(self.folder, digest)
        if target.exists():
            bin_ = self.new_incoming()
            target.rename(bin_ / digest)
            sync_folder(target.parent)
            shutil.rmtree(bin_, ignore_errors=True)

    def remove_all_but(self, wanted: Set[str]) -> None:
        """Takes away whatever no version names: what a deploy that was cut short had put there."""
        for path in self.folder.glob("*/*"):
            if path.name not in wanted:
                self.remove(path.name)

    def empty_incoming(self) -> None:
        """Removes what uploads that were cut short left."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir(parents=True, exist_ok=True, mode=0o700)

    def set_aside(self) -> None:
        """Moves all artifacts out of the way and keeps them: the catalogue that named them is gone."""
        if any(self.folder.glob("*/*")):
            number = 1
            while (aside := self.folder.with_name(f"{self.folder.name}-without-catalogue-{number}")).exists():
                number += 1
            self.folder.rename(aside)


def artifact_path(folder: Path, digest: str) -> Path:
    """Where an artifact lies: two levels, so that no folder holds very many."""
    return folder / digest[:2] / digest


def is_intact(folder: Path, staged: StagedArtifact) -> bool:
    """Whether `folder` has the staged artifact's files, each of its size."""
    try:
        return all((folder / path).stat().st_size == (staged.folder / path).stat().st_size for path in staged.files)
    except OSError:
        return False
