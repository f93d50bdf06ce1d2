"""Splits are written as in TensorFlow Datasets; test_ch2.py compares with it."""

import numpy as np
import pytest

from keras_mlff.datasets.splits import select

PARTS = {"train": np.arange(7), "test": np.arange(7, 10)}


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train", [0, 1, 2, 3, 4, 5, 6]),
        ("train[:3]", [0, 1, 2]),
        ("train[2:-1]", [2, 3, 4, 5]),
        ("train[20%:50%]", [1, 2, 3]),  # 1.4 and 3.5 to the nearest, half to even
        ("train[-50%:]", [3, 4, 5, 6]),
        ("test + train[:1]", [7, 8, 9, 0]),
    ],
)
def test_slices(split, rows):
    assert select(split, PARTS).tolist() == rows


@pytest.mark.parametrize("split", ["train[1]", "train[:1", "", "train[1:2:3]"])
def test_unreadable_split_is_refused(split):
    with pytest.raises(ValueError, match="A split is a name"):
        select(split, PARTS)


def test_unknown_split_lists_the_known():
    with pytest.raises(ValueError, match=r"split='valid', known are \['test', 'train'\]"):
        select("valid", PARTS)
