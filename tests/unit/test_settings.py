"""Settings: every one has three spellings and is documented, the nearer source wins, mistakes are named."""

from pathlib import Path

import pytest

from appliance.core.addresses import Address, parse_address
from appliance.core.errors import BadInputError, NotFoundError
from appliance.settings import SETTINGS, Setting, Settings, check_together, default_data_dir, load_settings

DOCUMENTED_IN = Path(__file__).parents[2] / "README.md"
OTHER_VALUES = {
    "http": "127.0.0.1:1",
    "grpc": "127.0.0.1:2",
    "zmq": "off",
    "mesh": "off",
    "data_dir": "/tmp/elsewhere",
    "ready_file": "/tmp/ready.json",
    "open": "true",
    "device": "cpu",
    "memory_budget": "4GiB",
    "fronts": "2",
    "allow_shared_memory": "true",
    "mesh_key_file": "/tmp/mesh.key",
    "join": "10.0.0.2:8004",
    "name": "loft",
    "tls_cert": "/tmp/cert.pem",
    "tls_key": "/tmp/key.pem",
    "tls": "self",
    "federation.discover": "false",
    "federation.tags": "gpu,line-3",
    "federation.advertise": "10.0.0.3",
    "federation.hedge_share": "0.1",
    "federation.engines": "false",
    "federation.spread": "false",
    "federation.heartbeat_s": "0.5",
    "federation.suspect_s": "1.5",
    "gateway.max_body": "1MiB",
    "gateway.max_held": "2MiB",
    "gateway.max_connections": "11",
    "gateway.max_uploads": "12",
    "gateway.default_deadline_s": "5",
    "gateway.drain_s": "6",
    "gateway.trusted_keys": "/tmp/cert.pem",
    "routing.target_latency_s": "0.5",
    "routing.max_replicas": "3",
    "workers.idle_s": "7",
    "workers.threads": "2",
    "workers.run_s": "8",
    "workers.max_batch": "9",
    "workers.queue": "10",
    "workers.sequences": "5",
    "workers.sequence_idle_s": "2.5",
    "workers.tf32": "true",
    "workers.graph_cache": "1GiB",
    "workers.engine_cache": "2GiB",
    "federation.keep_free": "3GiB",
}
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)


def value_in(settings: Settings, setting: Setting) -> object:
    value: object = settings
    for part in setting.path:
        value = getattr(value, part)
    return value


@each_setting
def test_every_setting_is_documented_with_its_three_spellings(setting: Setting) -> None:
    row = next((line for line in DOCUMENTED_IN.read_text().splitlines() if f"`{setting.flag}`" in line), "")
    assert f"`{setting.variable}`" in row
    assert f"`{setting.key}`" in row
    assert setting.description


@each_setting
def test_every_setting_can_be_said_by_flag_by_variable_and_by_toml(setting: Setting, tmp_path: Path) -> None:
    said = OTHER_VALUES[setting.key]
    config = tmp_path / "some.toml"
    table, _, key = setting.key.rpartition(".")
    config.write_text(f"[{table}]\n{key} = '{said}'\n" if table else f"{key} = '{said}'\n")
    nothing = {"INGLE_DATA_DIR": str(tmp_path)} if setting.key != "data_dir" else {}
    by_flag = load_settings({setting.key: said}, nothing)
    by_variable = load_settings({}, {**nothing, setting.variable: said})
    by_toml = load_settings({}, nothing, config)
    assert value_in(by_flag, setting) == value_in(by_variable, setting) == value_in(by_toml, setting)
    assert value_in(by_flag, setting) != value_in(load_settings({}, {"INGLE_DATA_DIR": str(tmp_path)}), setting)


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    config = tmp_path / "ingle.toml"
    config.write_text('name = "file"\nopen = true\n[workers]\nqueue = 1\n')
    environ = {"INGLE_DATA_DIR": str(tmp_path), "INGLE_NAME": "variable", "INGLE_WORKERS_QUEUE": "2"}
    settings = load_settings({"workers.queue": 3, "open": None}, environ)
    assert (settings.workers.queue, settings.name) == (3, "variable")
    assert (settings.open, settings.workers.max_batch) == (True, 64)


def test_the_file_in_the_data_folder_is_read_only_when_no_other_is_named(tmp_path: Path) -> None:
    (tmp_path / "ingle.toml").write_text('name = "found"')
    (tmp_path / "other.toml").write_text('name = "named"')
    environ = {"INGLE_DATA_DIR": str(tmp_path)}
    assert load_settings({}, environ).name == "found"
    assert load_settings({}, environ, tmp_path / "other.toml").name == "named"
    assert load_settings({}, {**environ, "INGLE_CONFIG": str(tmp_path / "other.toml")}).name == "named"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("memory_budjet = 3", "the nearest is 'memory_budget'"),
        ("[workers]\nidle = 3", "the nearest is 'workers.idle_s'"),
        ("workers = 3", "'workers' is no setting"),
        ("http = 8000", "expected HOST:PORT"),
        ("open = 'perhaps'", "open: 'perhaps' cannot be taken"),
        ("fronts = 0", ">= 1"),
        ("fronts = 'many'", "fronts: 'many' cannot be taken: expected a whole number (processes"),
        ("workers.idle_s = 'long'", "expected a number (a worker"),
        ("federation.suspect_s = 0.01", ">= 0.1"),
        ("federation.suspect_s = inf", "<= 3600"),
        ("federation.heartbeat_s = nan", "federation.heartbeat_s"),
        ("federation.heartbeat_s = 1e300", "<= 3600"),
        ("memory_budget = '4 parsecs'", "is no size"),
        ("memory_budget = 4", "memory_budget: '4' was read as 4 bytes"),
        ("gateway.max_body = '4'", "expected 1024 bytes or more"),
        ("gateway.max_body = 0", ">= 1024"),
        ("name = 'my box'", "what this node is called"),
        ("data_dir = '/tmp'", "--data-dir or --config"),
        ("this is not toml", "is no TOML"),
    ],
)
def test_what_cannot_be_taken_is_named_with_what_was_expected(tmp_path: Path, written: str, sentence: str) -> None:
    (tmp_path / "ingle.toml").write_text(written)
    with pytest.raises(BadInputError) as caught:
        load_settings({}, {"INGLE_DATA_DIR": str(tmp_path)})
    assert sentence in str(caught.value)
    assert "ingle.toml" in str(caught.value)


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting.is_size], ids=lambda one: one.key)
def test_a_size_without_its_unit_is_not_taken_for_bytes(setting: Setting, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=f"{setting.variable}: '16' was read as 16 bytes, .* such as 4G"):
        load_settings({}, {"INGLE_DATA_DIR": str(tmp_path), setting.variable: "16"})
    if setting.key != "gateway.max_body":  # of which a few kB may be meant, and not 0
        with pytest.raises(BadInputError, match="expected 1 MiB or more"):
            load_settings({setting.key: "16384"}, {"INGLE_DATA_DIR": str(tmp_path)})
        assert value_in(load_settings({setting.key: "0"}, {"INGLE_DATA_DIR": str(tmp_path)}), setting) == 0


def test_a_config_that_is_not_there_is_an_error_and_not_ignored(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not there"):
        load_settings({}, {"INGLE_DATA_DIR": str(tmp_path)}, tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "flags",
    [
        {"device": "gpu"},
        {"tls": "self", "tls_cert": Path("c.pem"), "tls_key": Path("k.pem")},
        {"tls_cert": Path("c.pem")},
        {"tls_key": Path("k.pem")},
        {"join": "somewhere"},
        {"join": "10.0.0.2:8004", "mesh": "off"},
        {"mesh_key_file": Path("k"), "mesh": "off"},
        {"http": "off", "grpc": "off"},
    ],
)
def test_what_makes_no_sense_together_is_refused(tmp_path: Path, flags: dict[str, object]) -> None:
    with pytest.raises(BadInputError):
        check_together(load_settings({"data_dir": tmp_path, **flags}, {}))


def test_what_makes_sense_together_passes(tmp_path: Path) -> None:
    for flags in (
        {},
        {"zmq": "off", "mesh": "off"},
        {"join": "10.0.0.2:8004, [fe80::1]:8004", "mesh_key_file": Path("k")},
    ):
        check_together(load_settings({"data_dir": tmp_path, **flags}, {}))


def test_the_data_folder_follows_the_xdg_rules_for_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_dir({"XDG_DATA_HOME": "/somewhere"}) == Path("/somewhere/ingle")
    assert default_data_dir({"XDG_DATA_HOME": "relative"}) == tmp_path / ".local" / "share" / "ingle"
    assert default_data_dir({}) == tmp_path / ".local" / "share" / "ingle"


def test_a_user_without_a_home_is_asked_where_the_data_is_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4242)
    monkeypatch.setattr("os.getuid", lambda: 4242)  # nobody's
    monkeypatch.delenv("HOME", raising=False)
    for flags in ({}, {"data_dir": "~/data"}):
        with pytest.raises(BadInputError, match="--data-dir"):
            load_settings(flags, {})
    assert load_settings({"data_dir": "/somewhere"}, {}).data_dir == Path("/somewhere")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:8000", Address("0.0.0.0", 8000)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
        ("off", None),
    ],
)
def test_addresses_are_read_and_written_alike(text: str, expected: Address | None) -> None:
    assert parse_address(text) == expected
    assert expected is None or str(expected) == text


@pytest.mark.parametrize("text", ["", "8000", ":8000", "host", "host:", "host:65536", "host:-1", "::1:8000", "host:٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="HOST:PORT"):
        parse_address(text)
