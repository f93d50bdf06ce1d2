"""Tables say what logs, errors, predictions, presets and data say, in rows for other programs."""

import json
import subprocess
import sys

import numpy as np
import pytest

pandas = pytest.importorskip("pandas")

from keras_mlff import datasets, plots, quantities, tables  # noqa: E402
from keras_mlff.fit import logs  # noqa: E402
from keras_mlff.fit.metrics import errors  # noqa: E402
from keras_mlff.graph import structure  # noqa: E402
from keras_mlff.tables.errors import formula  # noqa: E402

LOG = "epoch,loss,val_loss,lr\n0,1.5,NA,0.1\n1,0.5,0.25,0.01\n"


@pytest.fixture
def water():
    """Two waters and a crystal of hydrogen, whose energies and stresses are partly missing."""
    places = np.asarray([[0, 0, 0.1], [0.9, 0, 0], [-0.2, 0.9, 0]])
    forces = np.arange(9.0).reshape(3, 3)
    return [
        structure(places, [8, 1, 1], energy=-10.0, forces=forces),
        structure(places + 1, [8, 1, 1], energy=np.nan, forces=forces),
        structure(
            places[:1], [1], cell=np.eye(3), energy=-1.0, forces=[[0, 0, 0]], stress=np.eye(3)
        ),
    ]


@pytest.fixture
def predicted(water):
    forces = np.concatenate([graph["forces"] for graph in water])
    forces[[0, 6], 0] += [3.0, 9.0]  # an oxygen of the first, the atom of the last
    stress = np.stack([np.eye(3)] * 3)
    stress[2, 0, 0] += 0.5
    return {"energy": np.asarray([-9.0, 5.0, -1.2]), "forces": forces, "stress": stress}


def test_errors_are_those_of_the_metrics(water, predicted):
    """Where nothing is missing; and per atom too."""
    first = {"energy": predicted["energy"][:1], "forces": predicted["forces"][:3]}
    table = tables.errors_table(water[:1], first)
    assert table["property"].tolist() == ["energy", "energy_per_atom", "forces"]
    known = errors(water[:1], first)
    for _, row in table.iterrows():
        expected = known[row["property"]]
        assert (row["mae"], row["rmse"]) == pytest.approx((expected.mae, expected.rmse))
        assert (row["largest"], row["num_values"]) == (expected.largest, expected.num_values)
    assert table["unit"].tolist() == ["eV", "eV/atom", "eV/Å"]


def test_missing_labels_do_not_count(water, predicted):
    table = tables.errors_table(water, predicted).set_index("property")
    np.testing.assert_allclose(table.loc["energy", ["mae", "num_values"]].tolist(), [0.6, 2])
    np.testing.assert_allclose(table.loc["energy_per_atom", "mae"], (1 / 3 + 0.2) / 2)
    assert table.loc["stress", "num_values"] == 9
    np.testing.assert_allclose(table.loc["stress", "mae"], 0.5 / 9)


def test_errors_are_sorted_by_element_kind_and_structure(water, predicted):
    by_element = tables.errors_table(water, predicted, by="element").set_index(
        ["element", "property"]
    )
    np.testing.assert_allclose(by_element.loc[("O", "forces"), "mae"], 3.0 / 6)
    np.testing.assert_allclose(by_element.loc[("H", "forces"), "largest"], 9.0)
    np.testing.assert_allclose(by_element.loc[("O", "energy"), "mae"], 1.0)
    by_formula = tables.errors_table(water, predicted, by="configuration")
    assert by_formula["configuration"].unique().tolist() == ["H2O", "H"]
    kinds = tables.errors_table(
        water, predicted, by="configuration", configurations=["wet", "wet", "dry"]
    )
    assert kinds["configuration"].unique().tolist() == ["wet", "dry"]
    by_structure = tables.errors_table(water, predicted, by="structure")
    assert by_structure.query("property == 'energy'")["structure"].tolist() == [0, 2]
    with pytest.raises(ValueError, match="Each of the 3 structures"):
        tables.errors_table(water, predicted, "configuration", ["wet"])
    with pytest.raises(ValueError, match="by='charge'"):
        tables.errors_table(water, predicted, "charge")
    with pytest.raises(ValueError, match="Received: 3 rows for 1"):
        tables.errors_table(water[:1], predicted)
    with pytest.raises(ValueError, match="nothing to compare"):
        tables.errors_table(water, {"dipole": np.zeros((3, 3))})


def test_a_registered_quantity_is_in_the_tables():
    quantities.register("magnetic_moments", level="atom", unit="muB", ase="magmoms")
    try:
        iron = structure([[0, 0, 0], [0, 0, 2]], [26, 26], magnetic_moments=[2.0, np.nan])
        found = {"magnetic_moments": np.asarray([2.5, 2.0])}
        (row,) = tables.error_rows([iron], found)
        assert (row["mae"], row["unit"], row["num_values"]) == (0.5, "muB", 1)
        table = tables.predictions_table([iron], found, per="atom")
        assert table["magnetic_moments"].tolist() == [2.5, 2.0]
        assert table.attrs["units"]["magnetic_moments"] == "muB"
    finally:
        quantities.unregister("magnetic_moments")


def test_predictions_have_a_row_for_each_structure_or_atom(water, predicted):
    table = tables.predictions_table(water, predicted)
    assert table["energy"].tolist() == [-9.0, 5.0, -1.2]
    assert table["stress_xx"].tolist() == [1.0, 1.0, 1.5]
    np.testing.assert_allclose(table["largest_force"].tolist()[2], 9.0)
    assert table.attrs["units"]["energy"] == "eV"
    atoms = tables.predictions_table(water, predicted, per="atom")
    assert atoms["element"].tolist() == ["O", "H", "H", "O", "H", "H", "H"]
    assert atoms["forces_x"].tolist()[6] == 9.0


def test_formulas_have_carbon_and_hydrogen_first():
    assert formula(structure(np.eye(4, 3), [8, 1, 6, 1])) == "CH2O"
    assert formula(structure(np.eye(2, 3), [17, 11])) == "ClNa"


def test_logs_are_read_in_one_place(tmp_path):
    (tmp_path / "log.csv").write_text(LOG, "utf-8")
    table = tables.training_log(tmp_path)
    assert table.index.tolist() == [1, 2]
    assert table["loss"].tolist() == [1.5, 0.5]
    assert table["val_loss"].dropna().tolist() == [0.25]
    rows = logs.read_log(tmp_path / "log.csv")
    assert rows == [
        {"epoch": 0, "loss": 1.5, "lr": 0.1},
        {"epoch": 1, "loss": 0.5, "val_loss": 0.25, "lr": 0.01},
    ]
    logs.trim_log(tmp_path / "log.csv", 1)
    assert (tmp_path / "log.csv").read_text("utf-8").split() == LOG.split()[:2]
    pytest.importorskip("matplotlib")
    (tmp_path / "log.csv").write_text(LOG, "utf-8")
    _, axes = plots.subplots()
    plots.learning_curve(axes[0, 0], tmp_path / "log.csv", {"val_loss": "validation"}, 10.0)
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_xydata(), [[2.0, 2.5]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no log"):
        tables.training_log(tmp_path / "empty")


def test_presets_and_their_logs_and_results_are_tables():
    table = tables.presets_table().set_index("preset")
    assert table.loc["cmret/ch2", "elements"] == "H C"
    assert tables.training_log("cmret/ch2")["val_forces_mae"].iloc[-1] < 0.01
    results = tables.results_table("egnn/qm9")
    mae = results[results.quantity == "test_mae"].pivot_table("value", "property", "model")
    np.testing.assert_allclose(mae.loc["mu", "EGNN smooth"], 0.023)
    np.testing.assert_allclose(mae.loc["mu", "keras_mlff"], 0.0531, rtol=1e-3)


def test_results_of_an_experiment_have_published_numbers_beside(tmp_path):
    results = {"energy": {"unit": "meV", "test_mae": 2.0, "test_rmse": 3.0, "Paper": 1.0}}
    (tmp_path / "results.json").write_text(json.dumps({**results, "seconds": 7.0}), "utf-8")
    table = tables.results_table(tmp_path)
    assert table["model"].tolist() == ["keras_mlff", "keras_mlff", "Paper"]
    assert table["quantity"].tolist() == ["test_mae", "test_rmse", "test_mae"]
    assert table["value"].tolist() == [2.0, 3.0, 1.0]


def test_statistics_are_a_table(water):
    table = tables.statistics_table(water).set_index(["property", "statistic"])
    np.testing.assert_allclose(table.loc[("energy", "mean"), "value"], -5.5)
    np.testing.assert_allclose(table.loc[("atoms of H", "number"), "value"], 5)
    np.testing.assert_allclose(table.loc[("energy", "reference of H"), "value"], -1.0)
    shipped = tables.statistics_table("ch2/triplet")
    assert shipped["split"].unique().tolist() == ["all"]
    with pytest.raises(ValueError, match="no such data set"):
        tables.statistics_table("ch3")


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_rows_come_back_from_files(tmp_path, water, predicted, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    rows = tables.error_rows(water, predicted, "structure")
    path = tmp_path / f"errors.{format}"
    tables.write_rows(rows, format, path)
    read = {"csv": pandas.read_csv, "json": pandas.read_json, "parquet": pandas.read_parquet}
    pandas.testing.assert_frame_equal(
        read[format](path), tables.errors_table(water, predicted, "structure"), check_dtype=False
    )


def test_rows_need_no_pandas(water):
    """Only data frames do, and say so; rows and data sets work without."""
    program = """
import sys
sys.modules["pandas"] = None
from keras_mlff import datasets, tables
assert tables.preset_rows()
assert tables.result_rows("cmret/ch2")
try:
    tables.presets_table()
except ImportError as error:
    assert "keras-mlff[tables]" in str(error)
else:
    raise AssertionError
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert datasets.report(water).num_labeled == {"energy": 2, "forces": 3, "stress": 1}
