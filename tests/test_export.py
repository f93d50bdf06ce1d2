"""A SavedModel must give the model's numbers where neither Keras nor this package exists."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mlff import export, heads, models, neighbors, presets
from keras_mlff.core.domain import Domain
from keras_mlff.export.domain import DomainChecks, learned_numbers
from keras_mlff.graph import join, level, pad, structure
from keras_mlff.neighbors import add_edges

PROGRAMS = Path(__file__).parent / "export"
TENSORFLOW = Path(tf.__file__).parent
writes = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="a SavedModel cannot be written from PyTorch"
)
# JAX compiles for each size, in each process anew
slow_on_jax = pytest.mark.slow if keras.backend.backend() == "jax" else lambda test: test

WATER = [[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]
FORMALDEHYDE = [[0.0, 0.0, 0.0], [0.0, 0.0, 1.21], [0.94, 0.0, -0.54], [-0.94, 0.1, -0.54]]
SKEWED = np.asarray([[3.1, 0.2, 0.0], [1.4, 2.9, 0.1], [-0.3, 0.8, 3.6]])
STRUCTURES = {
    "water": structure(WATER, [8, 1, 1]),
    "formaldehyde": structure(FORMALDEHYDE, [6, 8, 1, 1], total_charge=1.0, spin_multiplicity=2),
    "atom": structure([[0.3, 0.2, 0.1]], [8]),
    "crystal": structure(WATER, [8, 1, 1], cell=SKEWED),  # smaller than the cutoff
    "slab": structure(
        # atoms outside of the cell, too
        FORMALDEHYDE + SKEWED[[0, 1, 0, 0]] * 2,
        [6, 8, 1, 1],
        cell=[[5.0, 0.0, 0.0], [0.5, 4.0, 0.0], [0.0, 0.0, 20.0]],
        pbc=[True, True, False],
    ),
}
MOLECULES, CRYSTALS = ("water", "formaldehyde", "atom"), ("crystal", "slab")
SINGLE = ("water", "formaldehyde", "crystal")  # each size costs JAX a compilation


def tiny_model(**kwargs):
    energy = heads.EnergyHead(references={1: -13.6, 6: -1030.1, 8: -2041.3}, shift=-0.25)
    energy.scale = 3.0
    model = models.CMRET(
        num_features=16,
        num_layers=1,
        num_radial=8,
        num_heads=2,
        heads=[energy, heads.DipoleHead()],
        **kwargs,
    )
    model.preset = presets.Preset(
        "tiny", "CMRET", Path(), {"elements": [1, 6, 8], "properties": ["energy", "forces"]}
    )
    return model


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return tiny_model()


@pytest.fixture(scope="module")
def saved_model(model, tmp_path_factory):
    return export.export_saved_model(model, tmp_path_factory.mktemp("export") / "tiny")


@pytest.fixture(scope="module")
def signatures(saved_model):
    return tf.saved_model.load(str(saved_model)).signatures


@pytest.fixture(scope="module")
def predicted(model):
    """What the model itself says, by structure."""
    results = {}
    for names in (MOLECULES, CRYSTALS):
        values = model.predict([STRUCTURES[name] for name in names])
        atoms = np.cumsum([0] + [len(STRUCTURES[name]["positions"]) for name in names])
        for i, name in enumerate(names):
            results[name] = {
                key: value[atoms[i] : atoms[i + 1]] if level(key) == "atom" else value[i]
                for key, value in values.items()
            }
    return results


def structure_inputs(graph):
    inputs = {"cell": np.zeros((1, 3, 3)), "pbc": np.zeros((1, 3), bool), **graph}
    keys = ("positions", "atomic_numbers", "cell", "pbc", "total_charge", "spin_multiplicity")
    return {key: inputs[key] if level(key) == "atom" else inputs[key][0] for key in keys}


def batch_inputs(names, cutoff):
    """Joins and pads structures and leaves out what the server finds by itself."""
    joined = join([add_edges(STRUCTURES[name], cutoff) for name in names])
    num_edges = len(joined["senders"]) + 2
    padded = pad(joined, len(names) + 1, len(joined["positions"]) + 3, num_edges)
    derived = ("atom_mask", "edge_mask", "graph_mask", "atom_table")
    return {key: value for key, value in padded.items() if key not in derived}


def as_tensors(inputs):
    return {key: tf.constant(value) for key, value in inputs.items()}


def assert_equal_predictions(served, expected):
    assert set(expected) <= set(served)
    for key, values in expected.items():
        # references are added in float64, the network's float32 sums differ by their order
        np.testing.assert_allclose(served[key], values, rtol=1e-5, atol=2e-5, err_msg=key)


@writes
def test_a_client_without_keras_and_keras_mlff_gets_the_same_numbers(
    model, saved_model, predicted, tmp_path
):
    cases = {f"{name}/structure": structure_inputs(STRUCTURES[name]) for name in SINGLE}
    cases["molecules/serving_default"] = batch_inputs(MOLECULES, model.cutoff)
    cases["crystals/periodic"] = batch_inputs(CRYSTALS, model.cutoff)
    flat = {f"{case}/{key}": x for case, inputs in cases.items() for key, x in inputs.items()}
    np.savez(tmp_path / "inputs.npz", **flat)

    files = (tmp_path / "inputs.npz", tmp_path / "outputs.npz")
    client = [sys.executable, PROGRAMS / "client.py", saved_model, *files]
    subprocess.run(client, check=True)

    served = {}
    with np.load(tmp_path / "outputs.npz") as file:
        for path, value in file.items():
            case, key = path.split("/")
            served.setdefault(case, {})[key] = value
    for name in SINGLE:
        assert_equal_predictions(served[name], predicted[name])
    assert np.isnan(served["water"]["stress"]).all()
    assert served["water"]["energy"].dtype == np.float64
    for case, names in (("molecules", MOLECULES), ("crystals", CRYSTALS)):
        atoms = np.cumsum([0] + [len(STRUCTURES[name]["positions"]) for name in names])
        for i, name in enumerate(names):
            part = {
                key: value[atoms[i] : atoms[i + 1]] if level(key) == "atom" else value[i]
                for key, value in served[case].items()
            }
            assert_equal_predictions(part, predicted[name])


@writes
@slow_on_jax
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.skipif(
    not (TENSORFLOW / "libtensorflow_cc.so.2").exists(), reason="TensorFlow has no C library"
)
def test_a_c_program_gets_the_same_numbers(saved_model, predicted, tmp_path):
    program = tmp_path / "predict"
    command = ["gcc", "-Wall", "-Wextra", "-Werror", PROGRAMS / "predict.c", "-o", program]
    command += [f"-I{TENSORFLOW}/include", f"-L{TENSORFLOW}", f"-Wl,-rpath,{TENSORFLOW}"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    subprocess.run(command, check=True)
    graph = structure_inputs(STRUCTURES["crystal"])
    atoms = zip(graph["atomic_numbers"], graph["positions"], strict=True)
    rows = [
        [len(graph["positions"]), graph["total_charge"], graph["spin_multiplicity"]],
        *graph["cell"],
        *([number, *place] for number, place in atoms),
    ]
    text = "\n".join(" ".join(str(value) for value in row) for row in rows)

    result = subprocess.run(
        [program, saved_model], input=text, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    energy, *forces = (float(word) for word in result.stdout.split())
    served = {"energy": energy, "forces": np.reshape(forces, (-1, 3))}
    expected = {key: predicted["crystal"][key] for key in served}
    assert_equal_predictions(served, expected)


@writes
def test_the_lone_atom_has_its_reference_and_no_force(signatures, predicted):
    served = signatures["structure"](**as_tensors(structure_inputs(STRUCTURES["atom"])))
    assert_equal_predictions(served, predicted["atom"])


@writes
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atomic_numbers": np.asarray([8, 1, 9], np.int32)}, "not trained on an element"),
        ({"positions": np.asarray([WATER[0], WATER[1], WATER[1]])}, "at the same place"),
        ({"pbc": np.asarray([True, True, True])}, "linearly independent"),
        ({"positions": np.asarray([WATER[0], [np.nan, 0.0, 0.0], WATER[2]])}, "`positions` holds"),
        ({"cell": np.diag([9.0, 9.0, np.inf]), "pbc": np.asarray([True, True, False])}, "`cell`"),
        ({"total_charge": np.asarray(np.nan)}, "`total_charge` holds NaN"),
        ({"atomic_numbers": np.asarray([8, 0, 1], np.int32)}, "Padding atoms"),
        ({"atomic_numbers": np.asarray([8], np.int32)}, "both have one row for each atom"),
        (
            {"positions": np.zeros((0, 3)), "atomic_numbers": np.zeros(0, np.int32)},
            "at least one atom",
        ),
        ({"positions": np.asarray(WATER) + 1e10}, "too far from the origin"),
        ({"cell": np.diag([4.0, 4.0, 0.01]), "pbc": np.ones(3, np.bool_)}, "too flat, dense"),
    ],
)
def test_a_structure_that_makes_no_sense_is_refused(signatures, change, message):
    inputs = structure_inputs(STRUCTURES["water"]) | change
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["structure"](**as_tensors(inputs))


@writes
@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("receivers", lambda x: x[::-1], "must ascend"),
        ("graph_ids", lambda x: x + 1, "must count from 0"),
        ("senders", lambda x: x - 1, "must count from 0"),
        ("senders", lambda x: x[:-1], "both have one row for each edge"),
        ("spin_multiplicity", lambda x: x[:1], "both have one row for each structure"),
        ("positions", lambda x: x[:-1], "both have one row for each atom"),
    ],
)
def test_indices_that_would_give_wrong_numbers_are_refused(model, signatures, key, change, message):
    inputs = batch_inputs(["water"], model.cutoff)
    inputs[key] = change(inputs[key])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["serving_default"](**as_tensors(inputs))


@writes
@pytest.mark.parametrize("key", ["positions", "total_charge", "cell", "cell_shifts"])
def test_edges_do_not_hide_numbers_that_are_not_finite(model, signatures, key):
    inputs = batch_inputs(["crystal"], model.cutoff)
    inputs[key] = np.full_like(inputs[key], np.nan)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{key}` holds NaN"):
        signatures["periodic"](**as_tensors(inputs))
    if key in ("positions", "total_charge"):
        inputs = {key: x for key, x in inputs.items() if key not in ("cell", "pbc", "cell_shifts")}
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{key}` holds NaN"):
            signatures["serving_default"](**as_tensors(inputs))


@writes
@pytest.mark.parametrize("name", ["water", "crystal"])
def test_served_numbers_do_not_depend_on_where_a_structure_lies(model, signatures, predicted, name):
    """10,000 Å away as a whole or, in a crystal, some of its atoms 10,000 cells away."""
    near = STRUCTURES[name]
    moves = np.full_like(near["positions"], 1e4)
    if "cell" in near:
        moves[0] += 1e4 * near["cell"][0].sum(axis=0)
    far = near | {"positions": near["positions"] + moves}
    served = signatures["structure"](**as_tensors(structure_inputs(far)))
    assert_equal_predictions(served, predicted[name])
    inputs, kind = add_edges(far, model.cutoff), "periodic" if "cell" in near else "serving_default"
    keys = signatures[kind].structured_input_signature[1]
    served = signatures[kind](**as_tensors({key: inputs[key] for key in keys}))
    parts = {key: x if level(key) == "atom" else x[0] for key, x in served.items()}
    assert_equal_predictions(parts, predicted[name])


@writes
def test_padding_atoms_are_nobodys_neighbors(signatures, predicted):
    """Two of them at one place, within a bond's length of the molecule and joined to it."""
    graph = STRUCTURES["water"]
    inputs = structure_inputs(graph)
    inputs["positions"] = np.concatenate([WATER, [[0.0, 0.0, 1.0]] * 2])
    inputs["atomic_numbers"] = np.asarray([8, 1, 1, 0, 0], np.int32)
    served = signatures["structure"](**as_tensors(inputs))
    parts = {key: x[:3] if level(key) == "atom" else x for key, x in served.items()}
    assert_equal_predictions(parts, predicted["water"])
    np.testing.assert_array_equal(served["forces"][3:], 0.0)

    pairs = np.asarray([(i, j) for i in range(5) for j in range(5) if i != j], np.int32)
    batch = {key: inputs[key] for key in ("positions", "atomic_numbers")}
    batch |= {"graph_ids": np.zeros(5, np.int32), "receivers": pairs[:, 0], "senders": pairs[:, 1]}
    batch |= {key: graph[key] for key in ("total_charge", "spin_multiplicity")}
    served = signatures["serving_default"](**as_tensors(batch))
    parts = {key: x[:3] if level(key) == "atom" else x[0] for key, x in served.items()}
    assert_equal_predictions(parts, predicted["water"])


@writes
def test_the_metadata_say_what_a_client_must_know(saved_model):
    metadata = json.loads((saved_model / "assets.extra/metadata.json").read_text("utf-8"))
    assert metadata["architecture"] == "CMRET"
    assert metadata["preset"] == "tiny"
    assert metadata["cutoff"] == 5.0
    assert metadata["elements"] == [1, 6, 8]
    assert metadata["trained_properties"] == ["energy", "forces"]
    outputs = metadata["signatures"]["periodic"]["outputs"]
    units = {key: outputs[key]["unit"] for key in ("energy", "forces", "stress", "dipole_norm")}
    expected = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "dipole_norm": "e·Å"}
    assert units == expected
    assert outputs["forces"]["shape"] == ["num_atoms", 3]
    assert metadata["signatures"]["structure"]["outputs"]["energy"]["shape"] == []


@writes
def test_an_export_that_differs_from_the_model_is_not_kept(
    model, saved_model, tmp_path, monkeypatch
):
    def write_another(model, folder):
        shutil.copytree(saved_model, folder)

    monkeypatch.setattr(export.saved_model, "_write", write_another)
    monkeypatch.setattr(model.heads[0], "shift", 0.0)
    with pytest.raises(RuntimeError, match="other numbers than the model"):
        export.export_saved_model(model, tmp_path / "wrong")
    assert not list(tmp_path.iterdir())


@writes
@pytest.mark.slow
def test_float64_goes_in_and_out_unrounded(tmp_path):
    """The export compares itself with the model to 1e-9."""
    export.export_saved_model(tiny_model(dtype="float64"), tmp_path / "double")


@writes
@slow_on_jax
@pytest.mark.parametrize(
    ("name", "options"),
    [("GeomAtt", {}), ("DistanceTransformer", {}), ("So3krates", {"nonlocal_": True})],
)
def test_an_architecture_for_molecules_is_served_without_crystals(tmp_path, name, options):
    """The export compares every signature it writes with the model."""
    small = {"num_features": 8, "num_layers": 1}
    model = models.ARCHITECTURES[name](**small, **options)
    assert not model.supports_periodic

    folder = export.export_saved_model(model, tmp_path / "molecules")

    signatures = tf.saved_model.load(str(folder)).signatures
    assert set(signatures) == {"serving_default", "structure"}
    inputs = signatures["structure"].structured_input_signature[1]
    assert not {"cell", "pbc"} & inputs.keys()


@writes
@slow_on_jax
def test_the_repulsion_of_near_atoms_is_exported(tmp_path):
    model = models.EGNN(num_features=8, num_layers=1, zbl=True)
    near = structure([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]], [8, 1])
    folder = export.export_saved_model(model, tmp_path / "repelling")
    serve = tf.saved_model.load(str(folder)).signatures["structure"]
    served = serve(**as_tensors(structure_inputs(near)))
    expected = model.predict(near)
    np.testing.assert_allclose(served["forces"], expected["forces"], rtol=1e-5)
    assert served["forces"][1, 2] > 50.0


@writes
def test_a_new_export_replaces_the_old_one_and_nothing_else(
    model, saved_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        export.saved_model, "_write", lambda _, folder: shutil.copytree(saved_model, folder)
    )
    shutil.copytree(saved_model, tmp_path / "old")
    (tmp_path / "old" / "saved_model.pb").write_text("old")
    for name in ("notes.txt", "data/x", "variables/mine"):
        (tmp_path / "old" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "old" / name).write_text(name)
    (tmp_path / "link").symlink_to("old")

    export.export_saved_model(model, "~/link")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old"]
    for path in filter(Path.is_file, saved_model.rglob("*")):
        assert (tmp_path / "old" / path.relative_to(saved_model)).read_bytes() == path.read_bytes()
    for name in ("notes.txt", "data/x", "variables/mine"):
        assert (tmp_path / "link" / name).read_text() == name


@writes
def test_other_files_are_not_overwritten(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an export"):
        export.export_saved_model(model, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the other backends can")
def test_on_torch_the_error_shows_the_way(model, tmp_path):
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        export.export_saved_model(model, tmp_path / "tiny")


def test_keras_own_export_points_here(model, tmp_path):
    with pytest.raises(NotImplementedError, match="export_saved_model"):
        model.export(tmp_path / "tiny")


def test_without_tensorflow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"keras-mlff\[tensorflow\]"):
        runpy.run_path(export.__file__)


@pytest.mark.parametrize(
    ("num_atoms", "cell", "pbc"),
    [
        (12, None, False),
        (13, None, False),  # without cutoff
        (6, np.eye(3) * 7.0, True),
        (1, np.eye(3) * 2.1, True),
        (3, SKEWED, True),
        (5, [[3.0, 0.0, 0.0], [9.0, 3.0, 0.0], [-7.0, 5.0, 2.5]], True),
        (6, [[4.0, 0.3, 0.0], [0.0, 5.0, 0.2], [0.0, 0.0, 0.0]], [True, True, False]),
        (6, [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.4, 0.2, 3.0]], [False, False, True]),
    ],
)
def test_neighbors_in_the_graph_are_those_of_neighbor_list(num_atoms, cell, pbc):
    positions = np.random.default_rng(num_atoms).uniform(-12.0, 12.0, (num_atoms, 3))
    cutoff = np.inf if num_atoms == 13 else 5.0
    expected = neighbors.neighbor_list(positions, cutoff, cell, pbc)
    lattice = np.zeros((3, 3)) if cell is None else np.asarray(cell, np.float64)

    found = export.search.neighbor_list(
        tf.constant(positions), cutoff, tf.constant(lattice), tf.constant(np.broadcast_to(pbc, 3))
    )

    for result, values in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize("name", ["formaldehyde", "crystal", "atom"])
def test_triplets_in_the_graph_are_those_of_neighbors(name):
    graph = add_edges(STRUCTURES[name], 5.0)
    shifts = graph.get("cell_shifts", np.zeros((len(graph["senders"]), 3)))
    expected = neighbors.triplets(graph["senders"], graph["receivers"], shifts)

    found = export.search.triplets(
        tf.constant(graph["senders"]), tf.constant(graph["receivers"]), tf.constant(shifts)
    )

    for result, values in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize("states", [(), ((0.0, 1), (1.0, 2)), ((0.0, 3),)])
def test_the_graph_refuses_what_the_model_does(model, states):
    knowing = model.copy()
    knowing.preset = None
    knowing.domain = Domain(dict.fromkeys((1, 8) if states else ()), states=states)
    checks = DomainChecks(knowing)
    for numbers in ([8, 1, 1], [8, 1], [7, 1]):
        for state in ((0, 1), (0, 3), (1, 2), (1, 1), (0, 2), (0, 11), (-20, 1), (10, 1), (1e9, 1)):
            graph = structure(np.eye(3)[: len(numbers)], numbers, None, None, *state)
            refused = []
            for check in (knowing.check_domain, checks):
                try:
                    check(graph)
                except (ValueError, tf.errors.InvalidArgumentError):
                    refused.append(check)
            assert refused in ([], [knowing.check_domain, checks]), (numbers, state)
    numbers, *state = learned_numbers(knowing, 3)  # which an export is compared on
    checks(structure(np.eye(3), numbers, None, None, *state))
