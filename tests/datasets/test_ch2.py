"""TFDS's own test case builds the data set from invented structures."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from keras_mlff import datasets  # noqa: E402
from keras_mlff.datasets import ch2  # noqa: E402
from keras_mlff.datasets.tools import catalog  # noqa: E402

DUMMY_DATA = Path(__file__).with_name("dummy_data")


class CH2Test(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = catalog.builder_class("ch2")
    EXAMPLE_DIR = str(DUMMY_DATA / "ch2")
    BUILDER_CONFIG_NAMES_TO_TEST = ("both",)
    SPLITS = {"train": 2, "test": 2}  # noqa: RUF012

    def setUp(self):
        self.enterContext(mock.patch.object(ch2, "FILE", DUMMY_DATA / "ch2/ch2.npz"))
        super().setUp()


@pytest.mark.parametrize("split", ["train", "train[:1]+test", "train[-50%:]", "all"])
@pytest.mark.usefixtures("invented_ch2")
def test_builder_and_numpy_give_the_same_in_the_same_order(tmp_path, split):
    """A slice must hold the same structures, whichever way it is loaded."""
    stored = catalog.read("ch2/both", split, data_dir=tmp_path)
    direct = datasets.load("ch2/both", split=split)
    if split == "all":  # TFDS sorts the names of splits
        stored, direct = (
            sorted(graphs, key=lambda g: g["energy"][0]) for graphs in (stored, direct)
        )
    assert len(stored) == len(direct)
    for one, other in zip(stored, direct, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.usefixtures("invented_ch2")
def test_configuration_is_one_spin_state(tmp_path):
    stored = catalog.read("ch2/triplet", "all", data_dir=tmp_path)
    assert [graph["spin_multiplicity"][0] for graph in stored] == [3, 3]


def test_metadata_tells_units_and_theory(tmp_path):
    info = catalog.find("ch2/singlet", tmp_path).info
    assert info.metadata["units"]["forces"] == "eV/Å"
    assert "B3LYP" in info.metadata["level_of_theory"]
    assert "2308.10752" in info.citation
    assert info.redistribution_info.license == "Apache-2.0"


def test_example_without_a_promised_label_is_refused(tmp_path):
    built = catalog.find("ch2", tmp_path)
    with pytest.raises(ValueError, match=r"without \['forces'\]"):
        built.example(np.zeros((1, 3)), [6], energy=1.0)
