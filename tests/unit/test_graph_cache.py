"""What is kept of optimised graphs, for whom, and what goes first: real folders, no model."""

from pathlib import Path

import pytest

from appliance.workers.graph_cache import Entry, GraphCache, Kept, doomed
from appliance.workers.graph_key import cpu_flags, make_key

CPU = ("avx", "avx2", "fma")
HERE = make_key("1.32.0", CPU, ("CPUExecutionProvider",))


def _cache(folder: Path, *digests: str, budget_bytes: int = 1000) -> GraphCache:
    cache = GraphCache(folder, budget_bytes=budget_bytes)
    cache.open(set(digests))
    return cache


def _place(cache: GraphCache, digest: str, size_bytes: int = 100) -> None:
    made = cache.new_folder()
    (made / "model.onnx").write_bytes(b"g")
    (made / "model.onnx.data").write_bytes(bytes(size_bytes - 1))
    cache.place(digest, HERE, made, original_s=2.0, cached_s=1.0)


def test_a_graph_is_found_again_after_a_restart_with_the_size_of_each_file(tmp_path: Path) -> None:
    _place(_cache(tmp_path, "a"), "a")
    found = _cache(tmp_path, "a").find("a", HERE)
    assert found is not None
    assert found.sizes == {"model.onnx": 1, "model.onnx.data": 99}
    assert {file.name for file in Path(found.folder).iterdir()} == {"entry.json", *found.sizes}


@pytest.mark.parametrize(
    "key",
    [
        make_key("1.33.0", CPU, ("CPUExecutionProvider",)),
        make_key("1.32.0", (*CPU, "avx512f"), ("CPUExecutionProvider",)),
        make_key("1.32.0", CPU[:2], ("CPUExecutionProvider",)),
        make_key("1.32.0", CPU, ("CUDAExecutionProvider", "CPUExecutionProvider")),
    ],
)
def test_a_folder_copied_to_an_unlike_box_serves_no_graph_there(tmp_path: Path, key: object) -> None:
    _place(_cache(tmp_path, "a"), "a")
    elsewhere = _cache(tmp_path, "a")
    assert elsewhere.find("a", key) is None  # type: ignore[arg-type]
    assert not elsewhere.tried("a", key)  # type: ignore[arg-type]


def test_an_entry_that_was_moved_to_another_boxes_address_is_not_believed(tmp_path: Path) -> None:
    _place(_cache(tmp_path, "a"), "a")
    other = make_key("1.33.0", CPU, ("CPUExecutionProvider",))
    folder = tmp_path / "optimised" / "a"
    (folder / HERE.word).rename(folder / other.word)
    assert _cache(tmp_path, "a").find("a", other) is None
    assert not folder.exists()


def test_a_refusal_is_remembered_and_gives_no_graph(tmp_path: Path) -> None:
    _cache(tmp_path, "a").refuse("a", HERE, "no quicker")
    again = _cache(tmp_path, "a")
    assert again.tried("a", HERE)
    assert again.find("a", HERE) is None
    entry = again.entry("a", HERE)
    assert entry is not None
    assert entry.refused == "no quicker"


def test_what_was_cut_short_is_gone_at_the_next_start(tmp_path: Path) -> None:
    cache = _cache(tmp_path, "a")
    half = cache.new_folder()
    (half / "model.onnx").write_bytes(b"half")
    no_entry = tmp_path / "optimised" / "a" / HERE.word
    no_entry.mkdir(parents=True)
    again = _cache(tmp_path, "a")
    assert not half.exists()
    assert not no_entry.exists()
    assert not again.tried("a", HERE)


def test_graphs_of_artifacts_that_are_gone_go(tmp_path: Path) -> None:
    cache = _cache(tmp_path, "a", "b", "c")
    for digest in "abc":
        _place(cache, digest)
    cache.forget("a")
    assert cache.find("a", HERE) is None
    assert _cache(tmp_path, "b").find("b", HERE) is not None
    assert sorted(path.name for path in (tmp_path / "optimised").iterdir()) == ["b"]


def test_a_new_graph_makes_room_by_the_least_recently_used(tmp_path: Path) -> None:
    cache = _cache(tmp_path, "a", "b", "c", budget_bytes=250)
    _place(cache, "a")
    _place(cache, "b")
    assert cache.find("a", HERE)
    _place(cache, "c")
    assert [bool(cache.find(digest, HERE)) for digest in "abc"] == [True, False, True]


def test_a_graph_larger_than_all_may_be_together_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than all graphs may take"):
        _place(_cache(tmp_path, "a", budget_bytes=99), "a")


@pytest.mark.parametrize("name", ["model.onnx.data", "entry.json", "other"])
def test_a_child_that_leaves_a_link_or_another_file_has_written_no_graph(tmp_path: Path, name: str) -> None:
    cache = _cache(tmp_path, "a")
    made = cache.new_folder()
    (made / "model.onnx").write_bytes(b"g")
    (made / name).symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="something else than a graph"):
        cache.place("a", HERE, made, original_s=2.0, cached_s=1.0)
    assert not cache.tried("a", HERE)


def _kept(size_bytes: int, used_s: float) -> Kept:
    entry = Entry(HERE, {"model.onnx": size_bytes} if size_bytes else {}, refused="" if size_bytes else "no quicker")
    return Kept(entry, used_s)


@pytest.mark.parametrize(
    ("kept", "budget_bytes", "most_entries", "going"),
    [
        ({"a": (10, 1), "b": (10, 2)}, 20, 9, ""),
        ({"a": (10, 1), "b": (10, 2)}, 19, 9, "a"),
        ({"a": (10, 2), "b": (10, 1), "c": (10, 3)}, 10, 9, "ba"),
        ({"a": (0, 1), "b": (10, 2), "c": (10, 3)}, 10, 9, "b"),  # a refusal frees nothing
        ({"a": (0, 1), "b": (0, 2), "c": (1, 3)}, 10, 2, "a"),
        ({}, 0, 0, ""),
    ],
)
def test_what_goes_when_room_is_short(
    kept: dict[str, tuple[int, float]], budget_bytes: int, most_entries: int, going: str
) -> None:
    items = {(digest, "key"): _kept(*about) for digest, about in kept.items()}
    gone = doomed(items, budget_bytes=budget_bytes, most_entries=most_entries)
    assert "".join(digest for digest, _ in gone) == going


def test_flags_that_choose_no_kernel_change_no_key() -> None:
    old = "processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu avx2 fma\n"
    new_kernel = "flags\t\t: fma fpu avx2 spec_ctrl retbleed\n"
    assert cpu_flags(old) == cpu_flags(new_kernel) == ("avx2", "fma")


def test_cores_of_arm_are_told_apart_by_their_parts() -> None:
    assert cpu_flags("Features\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n") == (
        "asimd",
        "asimddp",
        "implementer=0x41",
        "part=0xd0c",
    )
