import numpy as np
from keras import ops

from keras_mlff.models.geomatt import dense_pairs as dense


def test_the_triangle_holds_each_pair_once():
    for num_atoms in (1, 2, 5, 300):
        rows, columns = map(ops.convert_to_numpy, dense.triangle(num_atoms))
        expected = np.tril_indices(num_atoms)
        np.testing.assert_array_equal(rows, expected[0])
        np.testing.assert_array_equal(columns, expected[1])
        table = ops.convert_to_numpy(dense.table_of_triangle(num_atoms))
        np.testing.assert_array_equal(table[rows, columns], np.arange(len(rows)))
        np.testing.assert_array_equal(table, table.T)


def test_triangle_lists_each_pair_once_however_many_there_are():
    """float32 roots alone are wrong from 10,619,135 pairs, 4,600 atoms, on."""
    rows, columns = (ops.convert_to_numpy(part) for part in dense.triangle(6000))
    expected = np.tril_indices(6000)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(columns, expected[1])
