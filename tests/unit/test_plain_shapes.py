"""Data of one shape as the tensor an input declares: a table of what fits and what is left to nobody's guess."""

import pytest

from appliance.workers.plain.shapes import fitted_shape

ONE_WAY = [
    ((-1, 4), (2, 4), (2, 4)),  # as it is
    ((-1, 4), (4,), (1, 4)),  # one row
    ((1, 4), (4,), (1, 4)),
    ((4,), (1, 4), (4,)),  # a batch axis that the model does not have
    ((-1, 1), (3,), (3, 1)),  # three rows of one column
    ((-1,), (3,), (3,)),
    ((-1,), (1, 3), (3,)),
    ((-1,), (), (1,)),
    ((), (1,), ()),
    ((), (), ()),
    ((-1, 1), (), (1, 1)),
    ((-1, -1), (), (1, 1)),
    ((-1, -1), (3,), (1, 3)),
    ((4, 3), (4, 3), (4, 3)),  # the model fixes its batch
    ((-1, 3, 8, 8), (3, 8, 8), (1, 3, 8, 8)),
    ((-1, 1, 28, 28), (28, 28), (1, 1, 28, 28)),
    ((-1, 28, 28), (784,), (1, 28, 28)),  # a flat row
    ((-1, 28, 28), (5, 784), (5, 28, 28)),
    ((2, 3), (6,), (2, 3)),
    ((-1, 0), (0,), (1, 0)),
    ((-1,), (0,), (0,)),
]

NO_WAY = [
    ((-1, 4), (3,)),
    ((-1, 4), (8,)),  # two rows of four, or a row too long
    ((4, 3), (3,)),  # four rows are wanted
    ((1, 4), (2, 4)),
    ((-1, -1, -1), (6,)),
    ((), (2,)),
    ((3, 8, 8), (8, 8, 3)),
    ((-1, 2, 3), (3, 2)),
]


@pytest.mark.parametrize(("declared", "given", "fitted"), ONE_WAY)
def test_data_fits_in_the_one_sense_it_can_have(declared, given, fitted):
    assert fitted_shape(declared, given) == fitted


@pytest.mark.parametrize(("declared", "given"), NO_WAY)
def test_data_that_could_be_misread_does_not_fit(declared, given):
    assert fitted_shape(declared, given) is None


def test_many_axes_of_size_one_are_told_quickly():
    assert fitted_shape((1,) * 16, (1,) * 15 + (2,)) is None
