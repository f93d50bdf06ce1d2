"""One call loads files and named data sets; shipped ones need no TensorFlow."""

import importlib
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from keras_mlff import datasets
from keras_mlff.datasets import ch2


def energies(graphs):
    return sorted(graph["energy"][0] for graph in graphs)


def test_splits_and_configurations_of_ch2(invented_ch2):
    energy = invented_ch2["energy"]
    assert energies(datasets.load("ch2")) == sorted(energy)
    assert energies(datasets.load("ch2", split="train")) == sorted(energy[[0, 2]])
    assert energies(datasets.load("ch2/triplet")) == sorted(energy[2:])
    assert energies(datasets.load("ch2/singlet", split="test")) == [energy[1]]
    assert len(datasets.load("ch2", split="train[:1]+test")) == 3


def test_values_of_ch2_are_the_file_s(invented_ch2):
    graph = datasets.load("ch2/singlet", split="test")[0]
    for key in ("positions", "forces"):
        np.testing.assert_array_equal(graph[key], invented_ch2[key][1])
    assert graph["atomic_numbers"].tolist() == [6, 1, 1]
    assert graph["spin_multiplicity"] == 1


def test_scan_and_surface_of_ch2_have_geometries(invented_ch2):
    scan = datasets.load("ch2/triplet", split="scan")
    assert [graph["energy"][0] for graph in scan] == [-3.0, -4.0]
    assert "forces" not in scan[0]
    surface = datasets.load("ch2/singlet", split="surface")
    assert [graph["energy"][0] for graph in surface] == [0, 1, 2, 3, 4, 5]
    for graph in scan + surface:
        bonds = graph["positions"][1:] - graph["positions"][0]
        lengths = np.linalg.norm(bonds, axis=1)
        cosine = bonds[0] @ bonds[1] / lengths.prod()
        np.testing.assert_allclose(lengths, graph["length"][0])
        np.testing.assert_allclose(np.degrees(np.arccos(cosine)), graph["angle"][0])


def test_shipped_ch2_has_the_sizes_of_the_paper():
    if not ch2.FILE.exists():
        pytest.skip("recipes/generate/generate_ch2.py has not written the file yet")
    assert len(datasets.load("ch2", split="train")) == 1500
    assert len(datasets.load("ch2", split="test")) == 500
    for name in ("singlet", "triplet"):
        report = datasets.report(datasets.load(f"ch2/{name}"))
        assert report.num_structures == 1000
        assert report.warnings == ()
        assert report.largest_net_force < 1e-3
    assert "units" in ch2.metadata()


def test_a_suffix_makes_a_file(tmp_path, invented_ch2):
    np.savez(tmp_path / "ch2.npz", **invented_ch2)
    assert len(datasets.load(tmp_path / "ch2.npz", split="train")) == 2
    with pytest.raises(ValueError, match="There is no such file"):
        datasets.load("ch2.npz")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": "cH2"}, ValueError, r"no such data set.*known are \[.*'ch2'"),
        ({"source": "ch2/quintet"}, ValueError, r"known are \['both', 'singlet', 'triplet'\]"),
        ({"source": "ch2", "split": "valid"}, ValueError, "There is no such split"),
        ({"source": "ch2", "energy_unit": "eV"}, TypeError, "knows its labels and units"),
    ],
)
@pytest.mark.usefixtures("invented_ch2")
def test_errors_tell_what_is_known(arguments, error, message):
    with pytest.raises(error, match=message):
        datasets.load(**arguments)


@pytest.mark.usefixtures("invented_ch2")
def test_shipped_data_and_files_need_no_tensorflow(tmp_path):
    """Only a fresh process has not imported it; the keras backend is one without it."""
    backend = next((name for name in ("jax", "torch") if find_spec(name)), None)
    if backend is None:
        pytest.skip("needs a backend other than TensorFlow")
    np.savez(tmp_path / "h2.npz", z=[1, 1], R=[[[0, 0, 0], [0.74, 0, 0]]], E=[-31.0])
    program = f"""
import os, sys
os.environ["KERAS_BACKEND"] = "{backend}"
for name in ("tensorflow", "tensorflow_datasets", "ase"):
    sys.modules[name] = None
from keras_mlff import datasets, pipeline
from keras_mlff.datasets import ch2
from keras_mlff.neighbors import GraphSpec
assert len(datasets.load({str(tmp_path / "h2.npz")!r}, labels=["energy"])) == 1
ch2.FILE = ch2.Path({str(ch2.FILE)!r})
graphs = pipeline.with_edges(datasets.load("ch2", split="train"), GraphSpec(5.0))
assert len(graphs) == 2
try:
    pipeline.from_structures(graphs, GraphSpec(5.0))
except ImportError as error:
    assert "keras-mlff[tensorflow]" in str(error)
else:
    raise AssertionError
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_without_tensorflow_datasets_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    for name in [name for name in sys.modules if name.startswith("keras_mlff.datasets.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"keras-mlff\[datasets\]"):
        importlib.import_module("keras_mlff.datasets.tools.catalog")
