"""Splits are written as in TensorFlow Datasets; test_ch2.py compares with it."""

import numpy as np
import pytest

from keras_mlff.datasets.tools import splits
from keras_mlff.datasets.tools.splits import select

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


def test_random_parts_do_not_overlap_and_repeat():
    parts = splits.by_seed(100, {"test": 10, "validation": 5, "train": -1}, seed=1)
    assert [len(parts[name]) for name in ("test", "validation", "train")] == [10, 5, 85]
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))
    again = splits.by_seed(100, {"test": 10, "validation": 5, "train": 40}, seed=1)
    np.testing.assert_array_equal(again["test"], parts["test"])
    np.testing.assert_array_equal(again["train"], parts["train"][:40])
    other = splits.by_seed(100, {"test": 10}, seed=2)
    assert set(other["test"]) != set(parts["test"])
    with pytest.raises(ValueError, match="cannot be cut from 3"):
        splits.by_seed(3, {"test": 2, "train": 2}, seed=0)
    with pytest.raises(ValueError, match="may occur once"):
        splits.by_seed(3, {"test": -1, "train": -1}, seed=0)


def test_a_group_is_in_one_part():
    groups = np.repeat(["a", "b", "c", "d"], [5, 1, 3, 2])
    parts = splits.by_group(groups, {"test": 2, "train": -1}, seed=0)
    assert not set(groups[parts["test"]]) & set(groups[parts["train"]])
    assert sorted(np.concatenate(list(parts.values()))) == list(range(11))


def test_parts_have_the_same_distribution_of_a_label():
    values = np.random.default_rng(0).gamma(2.0, size=4000)
    parts = splits.by_label(values, {"test": 100, "validation": 100, "train": -1}, seed=0)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(4000))
    levels = np.linspace(0.1, 0.9, 9)
    for part in ("test", "validation"):
        assert len(parts[part]) == 100
        # quantiles of 100 random draws would be off by 0.13 on average
        off = np.quantile(values[parts[part]], levels) - np.quantile(values, levels)
        assert np.abs(off).mean() < 0.05
    far = splits.by_label([*values, 1e9], {"test": 100, "train": -1}, seed=0)
    assert sum(map(len, far.values())) == 4001  # an outlier needs no memory
    with pytest.raises(ValueError, match="nan at index 1"):
        splits.by_label([0.0, np.nan], {"test": 1}, seed=0)
    other = splits.by_label(values, {"test": 100}, seed=1)
    assert set(other["test"]) != set(parts["test"])
