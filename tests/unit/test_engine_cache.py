"""What is kept of TensorRT's engines, for which model and device, and what goes first: real folders, no GPU."""

import os
from pathlib import Path

import pytest

from appliance.core.digests import folder_digest
from appliance.workers.devices import options_of_engines
from appliance.workers.engine_cache import Address, EngineCache, Kept, doomed
from appliance.workers.engines import engine_kind, is_engine_name, remove_engines

ENGINE, PROFILE = "model_721596_0_sm89.engine", "model_721596_0_sm89.profile"
HERE, ELSEWHERE = engine_kind({"gpu": "4090"}), engine_kind({"gpu": "H100"})
FACTS = {"gpu": "RTX 4090", "memory_mib": "24080", "major": "8", "minor": "9", "tensorrt": "101300", "cuda": "12.8"}


def cache_of(folder: Path, *digests: str, budget_bytes: int = 1000) -> EngineCache:
    cache = EngineCache(folder, budget_bytes=budget_bytes)
    cache.open(digests)
    return cache


def build(cache: EngineCache, digest: str, size_bytes: int = 100, *, kind: str = HERE, used_s: float = 0) -> Path:
    folder = cache.prepare(kind, digest)
    (folder / ENGINE).write_bytes(bytes(size_bytes))
    if used_s:
        os.utime(folder, (used_s, used_s))
    return folder


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (ENGINE, True),
        (PROFILE, True),
        ("model_2068723788287043730_189_fp16_sm80+.engine", True),
        ("TensorrtExecutionProvider_cache_sm89.timing", False),
        ("TensorrtExecutionProvider_TRTKernel_graph_main_graph_1_0_0_sm89.engine", False),
        ("model_1_0_sm89.engine.encrypted", False),
        ("model_1_0_sm89.onnx", False),
        ("model_.engine", False),
        ("model_../../x.engine", False),
        ("model_1/2.engine", False),
        ("model_1\\2.engine", False),
        ("../model_1_0.engine", False),
        ("model_1_0.engine\n", False),
        ("model_١_0.engine", False),
        (f"model_{'1' * 300}.engine", False),
        ("sessions.txt", False),
        ("", False),
    ],
)
def test_only_what_onnxruntime_calls_an_engine_is_one(name: str, is_one: bool) -> None:
    assert is_engine_name(name) == is_one


@pytest.mark.parametrize("fact", [*FACTS, "another"])
def test_kinds_differ_by_every_fact(fact: str) -> None:
    assert engine_kind(FACTS | {fact: "other"}) != engine_kind(FACTS)
    assert engine_kind(dict(reversed(FACTS.items()))) == engine_kind(FACTS)


def test_a_kind_covers_the_options_of_engines_and_not_where_they_lie() -> None:
    assert options_of_engines().keys() == {
        "trt_engine_cache_enable",
        "trt_engine_cache_prefix",
        "trt_timing_cache_enable",
    }


@pytest.mark.parametrize(
    ("kept", "in_use", "going"),
    [
        ({}, [], []),
        ({"a": (60, 1), "b": (40, 2)}, [], []),
        ({"a": (60, 2), "b": (50, 1)}, [], ["b"]),
        ({"a": (60, 1), "b": (50, 2)}, [], ["a"]),
        ({"a": (60, 1), "b": (50, 2)}, ["a"], ["b"]),
        ({"a": (0, 1), "b": (90, 2), "c": (90, 3)}, [], ["b"]),
        ({"a": (200, 1)}, ["a"], []),
        ({"a": (200, 1)}, [], ["a"]),
    ],
)
def test_the_longest_unused_goes_first_and_no_more_than_must(
    kept: dict[str, tuple[int, float]], in_use: list[str], going: list[str]
) -> None:
    addresses: dict[Address, Kept] = {(HERE, digest): Kept(*told) for digest, told in kept.items()}
    found = doomed(addresses, budget_bytes=100, in_use=[(HERE, digest) for digest in in_use])
    assert [digest for _, digest in found] == going


def test_engines_are_found_with_what_they_are_until_they_change(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, "a", "b")
    folder = build(cache, "a")
    (folder / PROFILE).write_bytes(b"ranges")
    found = cache.find(HERE, "a")
    assert found is not None
    assert found.files.keys() == {ENGINE, PROFILE}
    assert (found.size_bytes, found.digest) == (106, folder_digest(found.files))
    assert cache.find(HERE, "a") is found
    (folder / ENGINE).write_bytes(b"another")
    again = cache.find(HERE, "a")
    assert again is not None
    assert again.digest != found.digest
    assert [cache.has(HERE, digest) for digest in "ab"] == [True, False]
    assert cache.find(HERE, "b") is cache.find(ELSEWHERE, "a") is None
    assert cache.found(HERE, {"a", "b"}) == {"a": again}
    assert remove_engines(folder)
    assert not remove_engines(folder)
    assert cache.find(HERE, "a") is None


def test_what_is_no_plain_file_of_its_own_is_no_engine(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, "a")
    folder = cache.prepare(HERE, "a")
    secret = tmp_path / "secret"
    secret.write_text("a key")
    (folder / ENGINE).symlink_to(secret)
    (folder / PROFILE).hardlink_to(secret)
    (folder / "model_1_0_sm89.engine").mkdir()
    (folder / "sessions.txt").write_text("something else")
    assert cache.find(HERE, "a") is None


def test_a_restart_keeps_what_models_need_and_nothing_else(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, "a", "b")
    folders = [build(cache, "a"), build(cache, "b"), build(cache, "a", kind=ELSEWHERE)]
    (cache.incoming / "half").mkdir()
    (cache.folder / "TensorrtExecutionProvider_TRTKernel_graph_g_1_0_0_sm89.engine").write_bytes(b"of all models")
    cache_of(tmp_path, "a")
    assert [folder.exists() for folder in folders] == [True, False, True]
    assert [path.name for path in cache.folder.iterdir() if not path.is_dir()] == []
    assert list(cache.incoming.iterdir()) == []


def test_room_is_made_for_what_was_loaded_last(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, "a", "b", "c", budget_bytes=250)
    folders = [build(cache, digest, used_s=used_s) for digest, used_s in (("a", 2.0), ("b", 1.0), ("c", 3.0))]
    assert cache.make_room() == ["b"]
    assert [folder.exists() for folder in folders] == [True, False, True]
    cache.prepare(HERE, "a")
    cache.budget_bytes = 150
    assert cache.make_room() == ["c"]


def test_a_model_that_is_gone_takes_its_engines_of_every_device_along(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, "a", "b")
    folders = [build(cache, "a"), build(cache, "a", kind=ELSEWHERE), build(cache, "b")]
    cache.forget("a")
    assert [folder.exists() for folder in folders] == [False, False, True]


def fetched(cache: EngineCache, *names: str) -> Path:
    folder = cache.incoming / "set" / "artifact"
    folder.mkdir(parents=True)
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"fetched")
        target.chmod(0o400)
    return folder


def test_fetched_engines_are_taken_where_the_model_has_none(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, "a")
    cache.take(HERE, "a", fetched(cache, ENGINE, PROFILE), [ENGINE, PROFILE])
    folder = cache.place_of(HERE, "a")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {ENGINE: b"fetched", PROFILE: b"fetched"}
    (folder / ENGINE).write_bytes(b"built anew")  # as the worker may


def test_what_was_built_meanwhile_stays(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, "a")
    folder = build(cache, "a")
    cache.take(HERE, "a", fetched(cache, PROFILE), [PROFILE])
    assert [path.name for path in folder.iterdir()] == [ENGINE]


@pytest.mark.parametrize("name", ["model.onnx", "sub/model_1_0_sm89.engine", "model_1_0_sm89.so", ".hidden"])
def test_nothing_else_than_engines_is_taken(tmp_path: Path, name: str) -> None:
    cache = cache_of(tmp_path, "a")
    with pytest.raises(ValueError, match="no engine's name"):
        cache.take(HERE, "a", fetched(cache, ENGINE, name), [ENGINE, name])
    assert not cache.place_of(HERE, "a").exists()
