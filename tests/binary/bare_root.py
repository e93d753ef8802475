"""A root folder with a C library, busybox and the one file in it, and nothing else: no Python, no user's database."""

import shutil
import subprocess
from pathlib import Path

# glibc alone: whatever else the one file needs it must carry.
C_LIBRARY = ("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1")
LIBRARIES = Path("/lib/x86_64-linux-gnu")
UID = 4242


def make_root(root: Path, one_file: Path) -> Path:
    """Fills the folder. Its user's home is `/home/ann`, the file is `/opt/ingle`."""
    for name in ("bin", "lib64", "lib/x86_64-linux-gnu", "proc", "dev", "tmp", "home/ann", "opt", "sys"):
        (root / name).mkdir(parents=True)
    for name in C_LIBRARY:
        shutil.copy(LIBRARIES / name, root / "lib/x86_64-linux-gnu" / name)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "mv", "cp", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    shutil.copy(one_file, root / "opt/ingle")
    shutil.chown(root / "home/ann", UID, UID)
    return root


def command_in(root: Path, *words: str, before: str = "") -> list[str]:
    """The command that runs these words there as an ordinary user, in mounts of its own; `before`, a script with the
    root as $R, may change those."""
    inside = f"""
        set -e
        R={root}
        mount --bind $R $R
        mount -t proc none $R/proc
        mount -t tmpfs none $R/dev
        for device in null zero urandom random; do : > $R/dev/$device; mount --bind /dev/$device $R/dev/$device; done
        mkdir $R/dev/shm; chmod 1777 $R/dev/shm $R/tmp
        {before}
        exec chroot --userspec={UID}:{UID} $R /bin/busybox env -i HOME=/home/ann PATH=/bin "$@"
    """
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside, "sh", *words]


def run_in(root: Path, *words: str, before: str = "") -> "subprocess.CompletedProcess[str]":
    """Runs the words there to their end."""
    command = command_in(root, *words, before=before)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
