"""What a Spark stage says of its columns, and of rows that it does not know.

In the process of a conversion alone. A stage is Spark's own object, loaded.
"""

from typing import Any

from appliance.core.errors import RefusedError


def is_set(stage: Any, name: str) -> bool:
    """Whether the stage has the parameter, and its owner gave it a value."""
    return bool(stage.hasParam(name) and stage.isSet(name))


def outputs_of(stage: Any) -> list[str]:
    """Of a stage with one column or several; its input where it makes none of its own."""
    many = [str(name) for name in stage.getOutputCols()] if is_set(stage, "outputCols") else []
    return many or [str(stage.getOutputCol() if stage.hasParam("outputCol") else stage.getInputCol())]


def inputs_of(stage: Any) -> list[str]:
    """Of a stage with one column or several."""
    if is_set(stage, "inputCols"):
        return [str(name) for name in stage.getInputCols()]
    return [str(stage.getInputCol())]


def not_skipped(stage: Any) -> str:
    """What is done with rows that it does not know. Raises RefusedError where they are left out."""
    word = str(stage.getHandleInvalid())
    if word == "skip":
        raise RefusedError(
            f"{stage.uid.partition('_')[0]} leaves out rows that it does not know (handleInvalid='skip'), and an "
            "answer needs one row for each: fit it with handleInvalid='keep' or 'error'"
        )
    return word
