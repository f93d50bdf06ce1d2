"""Commands must call what they name, print what they found and fail in one line."""

import functools
import json
import typing
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_mlff
from keras_mlff import cli, datasets, models, presets
from keras_mlff.cli.commands import EXTRAS
from keras_mlff.fit.metrics import errors
from keras_mlff.graph import structure

SMALL = {"num_features": 8, "num_layers": 1, "num_heads": 2, "num_radial": 4, "cutoff": 3.0}
CH2 = [[0.0, 0.0, 0.0], [0.0, 0.9, 0.6], [0.0, -0.9, 0.6]]


def frames(count=6):
    random = np.random.default_rng(0)
    return [
        structure(
            CH2 + random.normal(scale=0.02, size=(3, 3)),
            [6, 1, 1],
            spin_multiplicity=3,
            energy=-1065.0 + random.normal(),
            # forces of a structure add up to zero
            forces=(lambda f: f - f.mean(axis=0))(random.normal(size=(3, 3))),
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A zoo with one preset, which knows nothing, in a folder of its own."""
    folder = tmp_path_factory.mktemp("zoo")
    model = models.CMRET(**SMALL)
    model.save_to_preset(
        str(folder / "cmret/tiny"),
        elements=[1, 6],
        properties=["energy", "forces"],
        description="Knows nothing.",
    )
    return folder


@pytest.fixture(autouse=True)
def only_this_zoo(zoo, monkeypatch):
    monkeypatch.setenv("KERAS_MLFF_ZOO", str(zoo))


@pytest.fixture(scope="module")
def loaded():
    """Keeps what was loaded: compiling each tiny model anew would take most of the time."""
    return functools.cache(models.load_preset)


@pytest.fixture
def tiny(loaded, monkeypatch):
    monkeypatch.setattr(models, "load_preset", loaded)
    model = loaded("cmret/tiny")
    model.run_eagerly = keras.backend.backend() == "tensorflow"  # JAX compiles each operation
    return model


@pytest.fixture
def xyz(tmp_path):
    path = tmp_path / "frames.xyz"
    datasets.save(str(path), frames())
    return str(path)


def test_presets_are_listed_and_shown(capsys):
    assert "cmret/tiny" in keras_mlff.presets.available()
    assert cli.main(["zoo", "list"]) == 0
    assert "cmret/tiny" in capsys.readouterr().out
    assert cli.main(["zoo", "show", "cmret/tiny"]) == 0
    assert '"architecture": "CMRET"' in capsys.readouterr().out


def test_a_preset_is_loaded_by_name_and_by_folder(zoo):
    by_name = models.load_preset("cmret/tiny")
    by_folder = models.load_preset(str(zoo / "cmret/tiny"), dtype="float64")
    assert type(by_name) is models.CMRET
    assert by_folder.compute_dtype == "float64"
    with pytest.raises(ValueError, match="cmret/tiny"):
        models.load_preset("cmret/huge")


def test_an_unknown_architecture_is_named(tmp_path):
    preset = models.load_preset("cmret/tiny")
    preset.save_to_preset(str(tmp_path / "odd"))
    for file in (presets.CONFIG, presets.METADATA):
        text = (tmp_path / "odd" / file).read_text().replace('"CMRET"', '"Oddity"')
        (tmp_path / "odd" / file).write_text(text)
    with pytest.raises(ValueError, match="Oddity"):
        models.load_preset(str(tmp_path / "odd"))


def test_predictions_are_printed_and_written(tiny, xyz, tmp_path, capsys):
    output = tmp_path / "out.xyz"
    assert cli.main(["predict", xyz, "--preset", "cmret/tiny", "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = tiny.predict(frames())
    assert lines[0].split()[:5] == ["structure", "atoms", "charge", "spin", "energy"]
    assert lines[3].split()[:4] == ["2", "3", "0", "3"]
    assert float(lines[3].split()[4]) == pytest.approx(expected["energy"][2], abs=1e-4)
    written = datasets.load(output)
    np.testing.assert_allclose(written[2]["energy"], expected["energy"][2:3], atol=1e-4)


def test_a_structure_that_cannot_be_predicted_leaves_the_others(tiny, tmp_path, capsys):
    strange = structure([[0.0, 0.0, 0.0]], [79])
    mixed = [*frames()[:2], strange, *frames()[3:]]
    datasets.save(tmp_path / "mixed.xyz", mixed)
    arguments = ["predict", str(tmp_path / "mixed.xyz"), "--preset", "cmret/tiny"]
    assert cli.main([*arguments, "--output", str(tmp_path / "out.xyz")]) == 2
    said = capsys.readouterr()
    rows = [line.split() for line in said.out.splitlines()]
    assert [row[0] for row in rows[1:6]] == ["0", "1", "3", "4", "5"]
    assert float(rows[3][4]) == pytest.approx(tiny.predict(frames())["energy"][3], abs=1e-4)
    assert "structure 2 is left out" in said.err
    assert "[79]" in said.err
    assert "1 of 6" in said.err
    assert len(datasets.load(tmp_path / "out.xyz")) == 5


def test_numbers_without_meaning_are_a_failure(zoo, tmp_path, capsys):
    """Two atoms are so near that the forces between them are none."""
    made = models.EGNN(num_features=4, num_layers=1, zbl=True)
    made.save_to_preset(zoo / "egnn/tiny", elements=[1, 6], properties=["energy", "forces"])
    far = structure([[0, 0, 0], [0, 0, 1.1], [0, 0, 1.10001]], [6, 1, 1])
    datasets.save(tmp_path / "far.xyz", [frames(1)[0] | {"spin_multiplicity": np.ones(1)}, far])
    arguments = ["predict", str(tmp_path / "far.xyz"), "--preset", "egnn/tiny"]
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["0"]
    assert "structure 1 is left out: The model predicts numbers far beyond" in said.err


@pytest.mark.parametrize("command", ["predict", "evaluate", "md"])
def test_what_was_not_learned_is_predicted_on_request_alone(tiny, tmp_path, capsys, command):
    strange = structure(CH2, [8, 1, 1], energy=0.0, forces=np.zeros((3, 3)))
    datasets.save(tmp_path / "water.xyz", [strange])
    arguments = [command, str(tmp_path / "water.xyz"), "--preset", "cmret/tiny"]
    arguments += ["--num-steps", "1"] if command == "md" else []
    assert cli.main(arguments) == 2
    assert "[8], preset='tiny', which knows [1, 6]" in capsys.readouterr().err
    assert cli.main([*arguments, "--domain", "ignore"]) == 0


def test_a_position_that_is_no_number_leaves_the_others(tiny, xyz, tmp_path, capsys):
    text = Path(xyz).read_text("utf-8").splitlines()
    text[7] = " ".join([text[7].split()[0], "nan", *text[7].split()[2:]])  # of structure 1
    Path(xyz).write_text("\n".join(text) + "\n", "utf-8")
    output = tmp_path / "made/out.xyz"
    assert cli.main(["predict", xyz, "--preset", "cmret/tiny", "--output", str(output)]) == 2
    said = capsys.readouterr()
    assert "structure 1 is left out" in said.err
    assert "NaN" in said.err
    assert [row.split()[0] for row in said.out.splitlines()[1:6]] == ["0", "2", "3", "4", "5"]
    assert len(datasets.load(output)) == 5


def test_an_output_that_cannot_be_written_is_refused_at_once(xyz, tmp_path, capsys):
    for arguments in (
        ["predict", xyz, "--output", str(tmp_path / "out.npz")],
        ["md", xyz, "--output", xyz],
    ):
        assert cli.main([*arguments, "--preset", "cmret/tiny"]) == 2
        assert "--output" in capsys.readouterr().err or arguments[0] == "predict"
    assert len(datasets.load(xyz)) == 6


def test_files_of_other_names_and_units_are_read(tiny, tmp_path, capsys):
    given = frames()
    path = tmp_path / "others.npz"
    np.savez(
        path,
        R=np.stack([frame["positions"] for frame in given]),
        z=given[0]["atomic_numbers"],
        REF_energy=1e3 * np.concatenate([frame["energy"] for frame in given]),
        F=1e3 * np.stack([frame["forces"] for frame in given]),
    )
    command = ["evaluate", str(path), "--preset", "cmret/tiny", "--energy-unit", "meV"]
    assert cli.main([*command, "--keys", "energy=REF_energy"]) == 0
    assert "energy" in capsys.readouterr().out
    assert cli.main(command) == 2
    assert "has energy" in capsys.readouterr().err
    assert cli.main([*command, "--keys", "REF_energy"]) == 2
    assert "name=value" in capsys.readouterr().err


def test_evaluation_prints_the_errors(tiny, xyz, capsys):
    assert cli.main(["evaluate", xyz, "--preset", "cmret/tiny"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = errors(frames(), tiny.predict(frames()))
    (energy,) = (row for row in rows if row[0] == "energy" and row[4] == "eV")
    (forces,) = (row for row in rows if row[0] == "forces" and row[4] == "meV/Å")
    assert float(energy[1]) == pytest.approx(found["energy"].mae, rel=1e-4)
    assert float(forces[2]) == pytest.approx(1e3 * found["forces"].rmse, rel=1e-4)


def test_tables_are_written_for_other_programs(tiny, xyz, tmp_path, capsys):
    pandas = pytest.importorskip("pandas")
    base = ["evaluate", xyz, "--preset", "cmret/tiny", "--by", "element"]
    assert cli.main([*base, "--format", "json"]) == 0
    said = capsys.readouterr()
    found = pandas.DataFrame(json.loads(said.out))
    assert set(found["element"]) == {"C", "H"}
    assert "6 structures" in said.err
    table = tmp_path / "errors.csv"
    assert cli.main([*base, "--output", str(table)]) == 0
    pandas.testing.assert_frame_equal(pandas.read_csv(table), found)
    capsys.readouterr()
    assert cli.main(["predict", xyz, "--preset", "cmret/tiny", "--format", "csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:5] == ["structure", "atoms", "charge", "spin", "energy"]
    assert float(rows[3][4]) == pytest.approx(tiny.predict(frames())["energy"][2], abs=1e-4)
    assert cli.main(["zoo", "list", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["preset"] == "cmret/tiny"
    assert cli.main(["zoo", "results", "cmret/tiny"]) == 0
    assert cli.main(["zoo", "list", "--format", "parquet"]) == 2
    assert "goes to a file" in capsys.readouterr().err


def test_errors_are_those_of_the_definition():
    helium = [structure([[0, 0, 0], [0, 0, 2.0]], [2, 2], energy=e) for e in (1.0, 2.0)]
    found = errors(helium, {"energy": np.asarray([1.0, 5.0])})
    assert found["energy"] == pytest.approx((1.5, 4.5**0.5, 3.0, 2))
    assert found["energy_per_atom"].mae == pytest.approx(0.75)
    with pytest.raises(ValueError, match="nothing to compare"):
        errors(helium, {"dipole": np.zeros((2, 3))})


def test_dynamics_are_run_and_measured(tiny, xyz, tmp_path, capsys):
    output = tmp_path / "run.xyz"
    status = cli.main(
        ["md", xyz, "--preset", "cmret/tiny", "--num-steps", "3", "--output", str(output)]
    )
    printed = capsys.readouterr().out
    assert status == 0
    assert "energy drift" in printed
    assert "bond C0-H1" in printed
    assert len(datasets.load(output)) == 4


def test_the_benchmark_gets_its_flags(monkeypatch, tmp_path, capsys):
    from keras_mlff import bench

    received = {}
    monkeypatch.setattr(bench, "compare", lambda **kw: received.update(kw) or {"results": []})
    path = tmp_path / "out.json"
    assert cli.main(["bench", "--batch-sizes", "1", "2", "--json", str(path)]) == 0
    assert received["batch_sizes"] == [1, 2]
    assert received["architectures"] == ["CMRET"]
    assert json.loads(path.read_text()) == {"results": []}
    assert "median ms" in capsys.readouterr().out


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
def test_export_gets_model_and_folder(monkeypatch, tmp_path, capsys):
    from keras_mlff import export

    monkeypatch.setattr(export, "export_saved_model", lambda model, folder: (model, folder)[1])
    assert cli.main(["export", "served", "--preset", "cmret/tiny"]) == 0
    assert "written: served" in capsys.readouterr().out


def test_the_doctor_tells_backend_and_extras(capsys):
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert f"backend: {keras.backend.backend()}" in printed
    assert "precision: float32" in printed
    assert "extra md: present" in printed
    assert "cmret/tiny" in printed


def test_the_doctor_knows_the_extras_of_the_package():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    named = {line.partition(" =")[0] for line in section.splitlines() if " = [" in line}
    assert named - {"all", "docs", "test"} == set(EXTRAS)


def test_debug_shows_where_an_error_came_from():
    with pytest.raises(ValueError, match="huge"):
        cli.main(["--debug", "recipe", "show", "huge"])


def test_unknown_flags_and_help_need_no_command():
    for flags, status in ((["--help"], 0), (["predict"], 2), (["--nonsense"], 2)):
        assert cli.main(flags) == status


def program(
    molecule: str = "toluene",
    num_train=1000,
    learning_rate: float = 1,
    layers: tuple[int, ...] = (3, 4),
    fast: bool = False,
    mode: typing.Literal["full", "part"] = "full",
    output: str | None = None,
    patience: int | None = None,
    keys: dict[str, str] | None = None,
):
    """Trains on one molecule.

    Args:
        molecule: Its name,
            100 % lower case.
        num_train: Structures.

    Returns:
        Everything.
    """
    return dict(locals())


def test_a_program_without_flags_has_its_defaults():
    assert cli.run(program, []) == program()


def test_flags_of_a_program_have_the_types_of_its_arguments():
    argv = "--molecule=ethanol --num-train 4 --learning-rate 2 --layers 5 6 7 --fast --mode part"
    argv += " --output x --patience 3 --keys energy=E forces=a=b"
    received = cli.run(program, argv.split())
    keys = {"energy": "E", "forces": "a=b"}
    assert received == program("ethanol", 4, 2.0, (5, 6, 7), True, "part", "x", 3, keys)
    assert type(received["learning_rate"]) is float
    assert cli.run(program, ["--no-fast"])["fast"] is False


def test_the_help_of_a_program_is_its_docstring(capsys):
    with pytest.raises(SystemExit):
        cli.run(program, ["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "Trains on one molecule." in printed
    assert "Its name, 100 % lower case. (default: toluene)" in printed
    assert "Everything" not in printed


def test_an_error_of_a_program_is_one_line(capsys):
    def main(count: int = 0):
        raise ValueError("Nothing\nto do.")

    with pytest.raises(SystemExit) as end:
        cli.run(main, [])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("error: Nothing to do.\n")
    with pytest.raises(ValueError, match="to do"):
        cli.run(main, ["--debug"])
