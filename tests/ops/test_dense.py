import numpy as np
from keras import ops

from keras_mlff.ops import dense


def test_triangle_lists_each_pair_once_however_many_there_are():
    """float32 roots alone are wrong from 10,619,135 pairs, 4,600 atoms, on."""
    rows, columns = (ops.convert_to_numpy(part) for part in dense.triangle(6000))
    expected = np.tril_indices(6000)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(columns, expected[1])
