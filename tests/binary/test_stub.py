"""The stub with a tiny program behind it: one unpacking, whatever happens meanwhile, and only into a place to trust."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.binary.conftest import Pack, run, wait_for

CANNOT_START = 125


def programs(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_the_program_gets_its_words_and_knows_its_file(tiny: Path, tmp_path: Path) -> None:
    done = run(tiny, "serve", "a b", cache=tmp_path / "cache")
    assert (done.returncode, done.stdout) == (0, "1 serve a b\n")
    assert done.stderr.split()[-1] == str(tiny)
    (program,) = programs(tmp_path / "cache")
    assert (program / "inner/deep/data").read_bytes() == b"1" * 3000


@pytest.mark.parametrize("umask", ["000", "777"])
def test_an_odd_umask_neither_opens_the_folder_to_others_nor_closes_it_to_the_user(
    tiny: Path, tmp_path: Path, umask: str
) -> None:
    own = _own_folder(tmp_path)
    shutil.copy(tiny, own / "ingle")
    words = ("/bin/sh", "-c", f'umask {umask}; exec "$@"', "sh", str(own / "ingle"))
    done = subprocess.run(
        ["setpriv", "--reuid=4242", "--clear-groups", *words],
        env={"PATH": os.environ["PATH"], "INGLE_CACHE_DIR": str(own / "cache")},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"1 \n")
    assert [path for path in own.rglob("*") if path.stat().st_mode & 0o022] == []


def _own_folder(tmp_path: Path) -> Path:
    """Of user 4242, who may come by."""
    if os.geteuid() != 0:
        pytest.skip("another user's process needs root")
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, 4242, 4242)
    for parent in tmp_path.parents[: len(tmp_path.parents) - 1]:
        parent.chmod(parent.stat().st_mode | 0o111)
    tmp_path.chmod(0o711)
    return own


def test_the_second_start_unpacks_nothing(tiny: Path, tmp_path: Path) -> None:
    run(tiny, cache=tmp_path / "cache")
    (program,) = programs(tmp_path / "cache")
    before = (program / "ingle").stat().st_ino
    assert run(tiny, cache=tmp_path / "cache").returncode == 0
    assert (program / "ingle").stat().st_ino == before


def test_eight_first_starts_at_once_unpack_once(tiny: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "INGLE_CACHE_DIR": str(tmp_path / "cache")}
    starts = [subprocess.Popen([tiny, "wait"], env=environment, stdin=-1, stdout=-1, stderr=-1) for _ in range(8)]
    ready = [start.stdout.readline() for start in starts if start.stdout]
    assert ready == [b"ready\n"] * 8
    (program,) = programs(tmp_path / "cache")
    inode = (program / "ingle").stat().st_ino
    opened = {fd.stat().st_ino for start in starts for fd in Path(f"/proc/{start.pid}/fd").iterdir()}
    assert inode in opened  # the shell reads its script: all of them the same one
    for start in starts:
        start.communicate(b"\n", timeout=30)
    assert [start.returncode for start in starts] == [0] * 8


@pytest.mark.parametrize("damage", ["gone", "cut short", "no list"])
def test_a_program_that_is_no_longer_whole_is_unpacked_again(tiny: Path, tmp_path: Path, damage: str) -> None:
    run(tiny, cache=tmp_path / "cache")
    (program,) = programs(tmp_path / "cache")
    file = program / "inner/deep/data"
    if damage == "gone":
        file.unlink()
    elif damage == "cut short":
        file.write_bytes(b"1")
    else:
        (program / ".files").unlink()
    assert run(tiny, cache=tmp_path / "cache").stdout == "1 \n"
    assert file.read_bytes() == b"1" * 3000
    assert programs(tmp_path / "cache") == [program]


def test_what_a_power_cut_may_have_taken_is_unpacked_again(tiny: Path, tmp_path: Path) -> None:
    run(tiny, cache=tmp_path / "cache")
    (program,) = programs(tmp_path / "cache")
    inode = program.stat().st_ino
    (program / ".boot").write_text("another boot\n")
    synced = program / ".synced"
    wait_for(synced.exists)
    run(tiny, cache=tmp_path / "cache")
    assert program.stat().st_ino == inode  # it was on the disk before
    synced.unlink()
    run(tiny, cache=tmp_path / "cache")
    assert program.stat().st_ino != inode
    wait_for(synced.exists)


def test_what_a_killed_unpacking_left_is_in_nobodys_way(tiny: Path, tmp_path: Path) -> None:
    run(tiny, cache=tmp_path / "cache")
    (program,) = programs(tmp_path / "cache")
    program.rename(program.with_name(program.name + ".part"))
    assert run(tiny, cache=tmp_path / "cache").returncode == 0
    assert programs(tmp_path / "cache") == [program]


def test_every_flipped_bit_of_the_content_is_refused(tiny: Path, tmp_path: Path) -> None:
    whole = tiny.read_bytes()
    payload_bytes = int.from_bytes(whole[-48:-40], "little")
    broken = tmp_path / "broken"
    for at in range(0, payload_bytes, max(1, payload_bytes // 20)):
        content = bytearray(whole)
        content[len(whole) - 56 - payload_bytes + at] ^= 1 << at % 8
        broken.write_bytes(content)
        broken.chmod(0o755)
        done = run(broken, cache=tmp_path / "cache")
        assert done.returncode == CANNOT_START
        assert "damaged" in done.stderr
        assert programs(tmp_path / "cache") == []


def test_a_file_that_was_cut_short_says_so(tiny: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(tiny.read_bytes()[:-100])
    short.chmod(0o755)
    done = run(short, cache=tmp_path / "cache")
    assert (done.returncode, "cut short" in done.stderr) == (CANNOT_START, True)


def test_a_folder_that_all_can_write_is_refused(tiny: Path, tmp_path: Path) -> None:
    cache, home = tmp_path / "cache", tmp_path / "home"
    cache.mkdir()
    home.mkdir()
    cache.chmod(0o777)
    done = run(tiny, cache=cache, HOME=str(home))
    assert done.returncode == 0
    assert f"does not use {cache}" in done.stderr
    assert programs(cache) == []
    assert len(programs(home / ".cache/ingle")) == 1


def test_a_folder_beneath_one_that_all_can_write_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "open/cache").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    assert "folder above it, can be written by everybody" in run(tiny, cache=tmp_path / "open/cache").stderr


def test_a_link_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    assert "a link to one" in run(tiny, cache=tmp_path / "cache").stderr
    assert programs(tmp_path / "elsewhere") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder of another user needs root to make it")
def test_a_folder_of_another_user_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 12345, 12345)
    assert "belongs to another user" in run(tiny, cache=tmp_path / "cache").stderr


def test_two_versions_live_side_by_side_and_a_third_removes_the_oldest_that_nobody_runs(
    pack_tiny: Pack, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    files = [pack_tiny(version) for version in "123"]
    environment = {"PATH": os.environ["PATH"], "INGLE_CACHE_DIR": str(cache)}
    with subprocess.Popen([files[0], "wait"], env=environment, stdin=-1, stdout=-1, stderr=-1) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        (first,) = programs(cache)
        os.utime(cache / f"{first.name}.used", (1, 1))
        run(files[1], cache=cache)
        (second,) = set(programs(cache)) - {first}
        os.utime(cache / f"{second.name}.used", (2, 2))
        run(files[2], cache=cache)
        assert len(programs(cache)) == 3  # one runs, one ran last before
        assert running.communicate(b"\n")[0] == b"1 wait\n"
    run(pack_tiny("4"), cache=cache)
    assert first not in programs(cache)


def test_what_runs_is_locked_against_removal(tiny: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "INGLE_CACHE_DIR": str(tmp_path / "cache")}
    with subprocess.Popen([tiny, "wait"], env=environment, stdin=-1, stdout=-1, stderr=-1) as running:
        assert running.stdout is not None
        running.stdout.readline()
        (used,) = (tmp_path / "cache").glob("*.used")
        with used.open() as file:
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            running.communicate(b"\n")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_data_folder_will_do_where_nothing_else_can_be_written(tiny: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a root that cannot be written needs root to make it")
    shutil.copy(tiny, tmp_path / "ingle")
    script = f"""
        mount --bind {tmp_path} /mnt || exit 1
        for place in /var/cache /var/lib /tmp /dev/shm; do mount -t tmpfs -o ro none $place || exit 1; done
        exec /mnt/ingle serve --data-dir /mnt/data
    """
    command = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(programs(tmp_path / "data/program")) == 1


def _on_small_disk(tiny: Path, tmp_path: Path, options: str) -> "subprocess.CompletedProcess[str]":
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a disk of its own needs root to make it")
    cache = tmp_path / "disk"
    cache.mkdir()
    script = f"mount -t tmpfs -o {options} none {cache} && exec {tiny}"
    environment = {"PATH": os.environ["PATH"], "INGLE_CACHE_DIR": f"{cache}/cache", "HOME": str(tmp_path)}
    command = ["unshare", "--mount", "sh", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_full_disk_is_passed_over(tiny: Path, tmp_path: Path) -> None:
    done = _on_small_disk(tiny, tmp_path, "size=1m")
    assert (done.returncode, done.stdout) == (0, "1 \n")
    assert "too full" in done.stderr


def test_a_disk_that_programs_cannot_run_from_is_passed_over(tiny: Path, tmp_path: Path) -> None:
    done = _on_small_disk(tiny, tmp_path, "noexec")
    assert (done.returncode, done.stdout) == (0, "1 \n")
    assert "noexec" in done.stderr


def test_with_no_folder_at_all_every_one_is_named_with_its_reason(tiny: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a box where nothing can be written needs root to make it")
    script = f"""
        exec 4<{tiny.parent}
        for place in /var/cache /var/lib /tmp /dev/shm; do mount -t tmpfs -o ro none $place || exit 1; done
        exec /proc/self/fd/4/{tiny.name} serve
    """
    command = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == CANNOT_START
    for place in ("/var/cache/ingle", "/var/lib/ingle/program", "/tmp/ingle-0", "/dev/shm/ingle-0"):
        assert f"{place}: it cannot be had" in done.stderr
    assert "INGLE_CACHE_DIR" in done.stderr
