"""How the program starts itself, installed and as the one file, and what others do not inherit of the latter."""

import importlib
import inspect
import sys

import pytest

from appliance.core.own_program import MODULE_BY_ROLE, foreign_environment, own_command


@pytest.fixture
def one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/cache/ingle")
    monkeypatch.setattr(sys, "_MEIPASS", "/cache/lib", raising=False)


def test_installed_a_role_is_a_module_of_this_python() -> None:
    assert own_command("zygote", "3") == [sys.executable, "-m", "appliance.workers.zygote", "3"]
    assert own_command("ingle", "serve") == [sys.executable, "-m", "appliance.cli.main", "serve"]


def test_in_the_one_file_a_role_is_a_hidden_verb(one_file: None) -> None:
    assert own_command("zygote", "3") == ["/cache/ingle", "__zygote", "3"]
    assert own_command("ingle", "serve") == ["/cache/ingle", "serve"]


@pytest.mark.parametrize("role", MODULE_BY_ROLE)
def test_every_role_is_a_module_whose_main_takes_words(role: str) -> None:
    main = importlib.import_module(MODULE_BY_ROLE[role]).main
    kinds = {about.annotation for about in inspect.signature(main).parameters.values()}
    assert kinds == {str} or role == "ingle"


def test_a_foreign_program_loads_its_own_libraries(one_file: None) -> None:
    loaders = {"LD_LIBRARY_PATH": "/cache/lib:/cache/lib", "_PYI_ARCHIVE_FILE": "/cache/ingle", "PATH": "/bin"}
    assert foreign_environment(loaders) == {"PATH": "/bin"}
    both = {**loaders, "LD_LIBRARY_PATH": "/cache/lib:/opt/lib", "LD_LIBRARY_PATH_ORIG": "/opt/lib"}
    assert foreign_environment(both) == {"PATH": "/bin", "LD_LIBRARY_PATH": "/opt/lib"}


def test_installed_the_library_path_is_the_owners() -> None:
    assert foreign_environment({"LD_LIBRARY_PATH": "/opt/lib"}) == {"LD_LIBRARY_PATH": "/opt/lib"}
