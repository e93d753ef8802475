"""What `ingle install` would do to a box, and `ingle uninstall` after it: decided before anything is done."""

import subprocess
from pathlib import Path

import pytest

from appliance.cli import install, service
from appliance.cli.main import run
from appliance.cli.service import PROGRAM, UNIT, Box, Copy, Remove, Run, Step, Write, plan_install, plan_uninstall
from appliance.core.errors import BadInputError, ConflictError, IngleError

ONE_FILE = Box(Path("/media/stick/ingle"), is_one_file=True, installed="", has_user=False, has_unit=False)
PACKAGE = Box(Path("/opt/ingle/bin/ingle"), is_one_file=False, installed="", has_user=False, has_unit=False)
SCRIPTS = {"bash": "b", "zsh": "z", "fish": "f"}


def planned(box: Box, *, start: bool = True) -> list[Step]:
    return plan_install(box, SCRIPTS, start=start)


def runs(steps: list[Step]) -> list[str]:
    return [step.words[0] + " " + step.words[1] for step in steps if isinstance(step, Run)]


def unit_text(steps: list[Step]) -> str:
    (text,) = (step.text for step in steps if isinstance(step, Write) and step.path == UNIT)
    return text


def test_the_one_file_is_copied_and_started_from_there() -> None:
    steps = planned(ONE_FILE)
    assert steps[0] == Copy(Path("/media/stick/ingle"), PROGRAM)
    assert f"ExecStart={PROGRAM} serve\n" in unit_text(steps)
    assert runs(steps) == ["useradd --system", "systemctl daemon-reload", "systemctl enable"]
    assert steps[-1] == Run(("systemctl", "enable", "--now", "ingle"))
    assert planned(ONE_FILE, start=False)[-1] == Run(("systemctl", "enable", "ingle"))


def test_a_package_stays_where_it_is() -> None:
    steps = planned(PACKAGE)
    assert not any(isinstance(step, Copy) for step in steps)
    assert "ExecStart=/opt/ingle/bin/ingle serve\n" in unit_text(steps)


def test_what_is_there_is_not_made_again() -> None:
    steps = planned(ONE_FILE._replace(installed="same", has_user=True, has_unit=True))
    assert not any(isinstance(step, Copy) for step in steps)
    assert runs(steps) == ["systemctl daemon-reload", "systemctl enable"]


def test_another_version_is_for_update_to_replace() -> None:
    with pytest.raises(ConflictError, match="update /media/stick/ingle"):
        planned(ONE_FILE._replace(installed="other"))


@pytest.mark.parametrize("folder", ["/root/.venv/bin", "/home/ann/.venv/bin", "/tmp/x"])
def test_a_package_that_the_service_could_not_read_is_refused(folder: str) -> None:
    with pytest.raises(BadInputError, match="/opt/ingle"):
        planned(PACKAGE._replace(program=Path(folder, "ingle")))


def test_uninstalling_keeps_what_cannot_be_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "DATA", tmp_path)
    monkeypatch.setattr(service, "CACHE", tmp_path)
    box = ONE_FILE._replace(installed="same", has_user=True, has_unit=True)
    kept, purged = plan_uninstall(box, purge=False), plan_uninstall(box, purge=True)
    assert kept[:2] == [Run(("systemctl", "disable", "--now", "ingle")), Remove(UNIT)]
    assert Remove(PROGRAM) in kept
    assert [step for step in purged if step not in kept] == [Run(("userdel", "ingle"))]
    assert purged.count(Remove(tmp_path)) == 2  # the data, and the cache as before
    assert plan_uninstall(ONE_FILE, purge=False) == []


def test_steps_are_taken(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"program")
    Copy(tmp_path / "from", tmp_path / "bin/to").take()
    assert (tmp_path / "bin/to").stat().st_mode & 0o777 == 0o755
    Write(tmp_path / "etc/x.service", "[Unit]\n").take()
    Run(("rm", str(tmp_path / "etc/x.service"))).take()
    Remove(tmp_path / "bin").take()
    Remove(tmp_path / "bin").take()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etc", "from"]
    with pytest.raises(IngleError, match="'rm /nowhere/x' failed: rm: "):
        Run(("rm", "/nowhere/x")).take()
    with pytest.raises(IngleError, match="no-such-program is not on this box"):
        Run(("no-such-program",)).take()


def test_a_dry_run_shows_the_unit_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "this_box", lambda: ONE_FILE)
    assert run(["install", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"copy   /media/stick/ingle to {PROGRAM}" in shown
    assert "NoNewPrivileges=yes" in shown
    assert not PROGRAM.exists()


@pytest.mark.parametrize(("systemd", "status", "word"), [(False, 1, "not run by systemd"), (True, 4, "sudo")])
def test_without_systemd_or_root_it_says_so_and_does_nothing(
    systemd: bool, status: int, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "this_box", lambda: ONE_FILE)
    monkeypatch.setattr(install, "is_run_by_systemd", lambda: systemd)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run(["install"]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert word in shown.err


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    try:
        (tmp_path / "ingle.service").write_text(service.unit(Path("/bin/sh")))
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", tmp_path / "ingle.service"], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not on this box")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_help_is_a_verb_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "keys", "create"]) == 0
    assert capsys.readouterr().out.startswith("Usage: ingle keys create ")
    assert run(["help"]) == 0
    assert "Exit codes:" in capsys.readouterr().out
    assert run(["help", "keys", "nonsense"]) == 2
    assert "'keys nonsense'" in capsys.readouterr().err
