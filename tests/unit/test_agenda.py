"""Whom to look at when."""

import math

from appliance.routing.agenda import Agenda


def agenda(**at_s: float) -> Agenda:
    made = Agenda()
    for key, time_s in at_s.items():
        made.put(key, time_s)
    return made


def test_what_is_due_comes_in_order_and_once() -> None:
    made = agenda(c=3.0, a=1.0, b=2.0, later=9.0)
    assert list(made.due(3.0, most=9)) == ["a", "b", "c"]
    assert list(made.due(3.0, most=9)) == []
    assert len(made) == 1


def test_the_newest_time_of_a_key_counts() -> None:
    made = agenda(a=1.0, b=1.0)
    made.put("a", 5.0)
    made.put("b", math.inf)
    assert list(made.due(4.0, most=9)) == []
    assert list(made.due(5.0, most=9)) == ["a"]


def test_a_key_put_back_to_its_old_time_is_due_once() -> None:
    made = agenda(a=1.0)
    made.drop("a")
    made.put("a", 1.0)
    assert list(made.due(1.0, most=9)) == ["a"]


def test_one_turn_is_bounded() -> None:
    made = agenda(a=1.0, b=1.0, c=1.0)
    assert list(made.due(1.0, most=2)) == ["a", "b"]
    assert list(made.due(1.0, most=2)) == ["c"]


def test_keys_need_no_order() -> None:
    made = Agenda()
    for key in (object(), ("a", 1), "a", 1):
        made.put(key, 1.0)
    assert len(list(made.due(1.0, most=9))) == 4
