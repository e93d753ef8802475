"""A folder says which classes Spark would load: none is loaded that is not Spark's own and converted."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import RefusedError
from converters.spark_folder import MAX_METADATA_BYTES, stages_of


def stage(folder: Path, name: str, **parameters: Any) -> Path:
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    table = {"class": name, "uid": "x", "paramMap": parameters}
    (folder / "metadata" / "part-00000").write_text(json.dumps(table) + "\n")
    return folder


def pipeline(folder: Path, *names: str) -> Path:
    uids = [f"s{index}" for index in range(len(names))]
    for index, name in enumerate(names):
        stage(folder / "stages" / f"{index:0{len(str(len(names)))}}_{uids[index]}", name)
    return stage(folder, "org.apache.spark.ml.PipelineModel", stageUids=uids)


def test_stages_come_in_their_order_those_of_inner_pipelines_among_them(tmp_path: Path) -> None:
    top = pipeline(tmp_path, *["org.apache.spark.ml.feature.VectorAssembler"] * 11)
    pipeline(top / "stages" / "03_s3", "org.apache.spark.ml.feature.PCAModel")
    assert [one.kind for one in stages_of(top)][2:5] == [
        "feature.VectorAssembler", "feature.PCAModel", "feature.VectorAssembler",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["com.evil.Stage", "", "org.apache.spark.mllib.X", "java.lang.Runtime"])
def test_a_class_of_someone_elses_is_never_loaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="none of Spark's own"):
        stages_of(stage(tmp_path, name))


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("feature.SQLTransformer", "do it before the call"),
        ("feature.MinHashLSHModel", "for joins within Spark"),
        ("clustering.LocalLDAModel", "the topics of a text are found by trying"),
        ("feature.FeatureHasher", "StringIndexer, OneHotEncoder and VectorAssembler"),
        ("feature.TargetEncoderModel", "do that step before or after the call"),
    ],
)
def test_a_stage_that_is_not_converted_is_named_with_its_way_out(name: str, way: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=rf"the stage {name.partition('.')[2]} is not converted: .*{way}"):
        stages_of(pipeline(tmp_path, f"org.apache.spark.ml.{name}"))


def one_vs_rest(folder: Path, classifier: str, model: str, classes: object = 1) -> Path:
    package = "org.apache.spark.ml.classification."
    stage(folder / "classifier", classifier)
    stage(folder / "model_0", model)
    stage(folder, f"{package}OneVsRestModel")
    metadata = folder / "metadata" / "part-00000"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "numClasses": classes}))
    return folder


def test_what_is_within_one_vs_rest_is_known_too(tmp_path: Path) -> None:
    package = "org.apache.spark.ml.classification."
    trained, model = f"{package}LinearSVC", f"{package}LinearSVCModel"
    assert len(stages_of(one_vs_rest(tmp_path / "a", trained, model))) == 1
    for index, (classifier, of_class, classes) in enumerate(
        [
            ("com.evil.Stage", model, 1), (trained, "com.evil.Stage", 1), (model, model, 1), (trained, model, "1"),
            (trained, f"{package}OneVsRestModel", 1), (trained, model, 0), (trained, model, 10**9), (trained, model, 2),
        ]
    ):  # fmt: skip
        with pytest.raises(RefusedError):
            stages_of(one_vs_rest(tmp_path / f"b{index}", classifier, of_class, classes))


def test_what_was_chosen_and_what_a_formula_became_are_taken_in_their_place(tmp_path: Path) -> None:
    chosen = stage(tmp_path / "a", "org.apache.spark.ml.tuning.CrossValidatorModel")
    stage(chosen / "bestModel", "org.apache.spark.ml.feature.PCAModel")
    stage(chosen / "estimator", "com.evil.Stage")
    assert [one.path for one in stages_of(chosen)] == [chosen / "bestModel"]
    formula = stage(tmp_path / "b", "org.apache.spark.ml.feature.RFormulaModel")
    pipeline(
        formula / "pipelineModel", *(f"org.apache.spark.ml.feature.{name}" for name in ("PCAModel", "ColumnPruner"))
    )
    assert [one.kind for one in stages_of(formula)] == ["feature.PCAModel"]


def test_hostile_folders_get_a_sentence(tmp_path: Path) -> None:
    outside = stage(tmp_path / "outside", "org.apache.spark.ml.feature.PCAModel")
    climbing = stage(tmp_path / "a", "org.apache.spark.ml.PipelineModel", stageUids=["../../outside"])
    linked = stage(tmp_path / "b", "org.apache.spark.ml.PipelineModel", stageUids=["s"])
    (linked / "stages").mkdir()
    (linked / "stages" / "0_s").symlink_to(outside)
    endless = stage(tmp_path / "c", "org.apache.spark.ml.PipelineModel", stageUids=["s"])
    (endless / "stages").mkdir()
    (endless / "stages" / "0_s").symlink_to(endless)
    lists = stage(tmp_path / "d", "org.apache.spark.ml.PipelineModel", stageUids={"a": 1})
    large = stage(tmp_path / "e", "org.apache.spark.ml.feature.PCAModel")
    with (large / "metadata" / "part-00000").open("ab") as file:
        file.truncate(MAX_METADATA_BYTES + 1)
    cut = stage(tmp_path / "f", "org.apache.spark.ml.feature.PCAModel")
    (cut / "metadata" / "part-00000").write_bytes(b'{"class":"org.apache.spa')
    deep = stage(tmp_path / "g", "x")
    (deep / "metadata" / "part-00000").write_bytes(b"[" * 100_000)
    gone = pipeline(tmp_path / "h", "org.apache.spark.ml.feature.PCAModel")
    (gone / "stages" / "0_s0" / "metadata" / "part-00000").unlink()
    for folder in (climbing, linked, endless, lists, large, cut, deep, gone):
        with pytest.raises(RefusedError) as refusal:
            stages_of(folder)
        assert len(refusal.value.sentence) > 20, folder
