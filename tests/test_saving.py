"""Files that are whole or not there."""

import json

import numpy as np
import pytest

from keras_mlff import saving


def test_a_file_is_replaced_only_by_a_finished_one(tmp_path):
    path = tmp_path / "new" / "log.csv"
    with saving.replacing(path) as file:
        assert file.suffix == ".csv"
        file.write_text("old")
        assert not path.exists()

    def interrupted():
        with saving.replacing(path) as file:
            file.write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_json_holds_what_numpy_computes(tmp_path):
    path = tmp_path / "results.json"
    content = {"mae": np.float32(0.5), "rows": np.arange(3), "name": "Ångström", "scale": 0.1}
    saving.write_json(path, content)
    assert json.loads(path.read_text("utf-8")) == content | {"mae": 0.5, "rows": [0, 1, 2]}
    with pytest.raises(TypeError, match="JSON knows no complex"):
        saving.write_json(path, {"mae": 1j})
    assert json.loads(path.read_text("utf-8"))["mae"] == 0.5


def test_arrays_come_back_by_any_name(tmp_path):
    path = tmp_path / "frames.data"  # NumPy would add its own suffix
    saving.write_npz(path, {"nvt/positions": np.arange(6).reshape(2, 3)})
    with np.load(path) as file:
        assert file["nvt/positions"].shape == (2, 3)
