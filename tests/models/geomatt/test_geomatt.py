"""What GeomAtt promises beyond the contract of all architectures."""

import itertools

import keras
import numpy as np
import pytest

from keras_mlff import models
from keras_mlff.graph import join, pad, structure
from keras_mlff.models.geomatt.overlap import GaussianGrid, OverlapAttention
from keras_mlff.neighbors import add_edges

# a coarse grid and narrow layers: what is checked does not depend on them
SMALL = {"num_features": 8, "num_layers": 2, "delta": 0.25, "gamma": 8.0, "dtype": "float64"}
# G(d) reaches to 4.75 Å + sqrt(37 / 8) Å
CRYSTALS = {"subtract_far_value": True, "cutoff": 7.0}
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def build(**kwargs):
    model = models.GeomAtt(**SMALL | kwargs)
    random = np.random.default_rng(0)
    # large enough for chains of high order to matter, and the same on every backend
    model.assign_weights([(v, random.normal(size=v.shape) * 0.35) for v in model.weights])
    return eager(model)


def eager(model):
    # tracing costs more than it saves here, except on JAX, which compiles each operation
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


def water(shift=(0.0, 0.0, 0.0)):
    return structure(
        np.asarray([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]) + shift, [8, 1, 1]
    )


def ethanol():
    positions = [
        [-1.17, -0.37, 0.02], [0.06, 0.56, -0.03], [1.22, -0.25, 0.05], [-2.09, 0.22, -0.05],
        [-1.16, -0.97, 0.94], [-1.17, -1.06, -0.84], [0.03, 1.14, -0.96], [0.05, 1.27, 0.82],
        [1.96, 0.35, 0.0],
    ]  # fmt: skip
    return structure(positions, [6, 6, 8, 1, 1, 1, 1, 1, 1])


def crystal():
    positions = [[0.1, 0.2, 0.3], [2.1, 2.4, 2.2], [0.4, 2.5, 1.9]]
    return structure(positions, [11, 17, 8], cell=[[4.6, 0.3, 0], [-0.4, 5, 0.5], [0.2, 0.6, 5.4]])


def test_the_papers_network_has_its_number_of_parameters():
    """436,545 with the embeddings of four elements; ours has a row for each of 118 and padding."""
    model = models.GeomAtt()
    assert model.count_params() - (119 - 4) * 128 == 436_545
    counts = [layer.attentions[0].count_params() for layer in model.streams]
    assert counts == [25_856, 25_856, 19_392]


def test_embeddings_start_within_the_papers_bound():
    table = keras.ops.convert_to_numpy(models.GeomAtt(num_layers=1).embedding.embeddings)
    assert 0.2 < np.abs(table).max() <= 1.414 * (6 / 256) ** 0.5


@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("float64")
def test_coefficients_are_the_sum_over_all_chains(order, shared):
    """The definition, atom by atom; the layer multiplies matrices from both ends instead."""
    random = np.random.default_rng(order)
    distances = np.linalg.norm(np.diff(random.normal(size=(2, 4, 4, 3)), axis=0)[0], axis=-1)
    distances = (distances + distances.T) * (1 - np.eye(4))
    grid = GaussianGrid(0.0, 3.0, 0.5, 2.0, dtype="float64")
    pairs, zero = (
        keras.ops.convert_to_numpy(grid(keras.ops.convert_to_tensor(d, "float64")))
        for d in (distances[None], np.zeros(()))
    )
    layer = OverlapAttention(order, 3, scale=0.7, shared=shared, dtype="float64")
    columns = np.concatenate([pairs, np.ones((1, 4, 4, 1))], axis=-1).reshape(1, 16, 7)
    places = keras.ops.reshape(keras.ops.arange(16, dtype="int32"), (4, 4))
    tensors = [keras.ops.convert_to_tensor(array) for array in (columns, zero)]
    got = keras.ops.convert_to_numpy(layer(tensors[0], places, tensors[1]))

    query_kernel, key_kernel, query_bias, key_bias = (
        keras.ops.convert_to_numpy(variable) for variable in layer.weights
    )
    overlaps = (zero @ query_kernel + query_bias[:, 0])[:, None, None] * (
        pairs @ key_kernel[:, None] + key_bias[:, None]
    )  # (num_overlaps, 4, 4, 3)
    expected = np.zeros((4, 4))
    for chain in itertools.product(range(4), repeat=order):
        product = np.ones(3)
        for step, (i, j) in enumerate(itertools.pairwise(chain)):
            product = product * overlaps[0 if shared else step, i, j]
        expected[chain[0], chain[-1]] += 0.7 * product.sum()
    np.testing.assert_allclose(got[0], expected, rtol=1e-12, atol=1e-14)


OPTIONS = [
    {"orders": (2,)},
    {"orders": (3, 5), "variant": {"shared": True, "linear": True}},
    {"orders": (4, 4, 4), "variant": {"bias": False}},
    {"d_max": 3.0, "overlap_features": 4, "variant": {"d_min": 0.5, "stream_scaling": False}},
    {"subtract_far_value": True},
]


@pytest.mark.once
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_gives_forces_of_its_energy_and_comes_back(options, tmp_path):
    model, start, step = build(**options), ethanol(), 1e-4
    displaced = [
        start | {"positions": start["positions"] + sign * step * np.eye(27)[place].reshape(9, 3)}
        for place in (0, 7, 23)
        for sign in (1, -1)
    ]
    predicted = model.predict([start, *displaced], batch_size=7)
    slopes = np.diff(predicted["energy"][1:].reshape(3, 2), axis=1)[:, 0] / (2 * step)
    forces = predicted["forces"][:9].reshape(-1)[[0, 7, 23]]
    np.testing.assert_allclose(forces, slopes, rtol=1e-5, atol=1e-7)

    model.save_to_preset(tmp_path / "preset")
    loaded = eager(models.GeomAtt.from_preset(str(tmp_path / "preset")))
    again = loaded.predict([start, *displaced], batch_size=7)
    np.testing.assert_array_equal(again["energy"], predicted["energy"])


def test_attention_is_that_of_the_structure_alone():
    model = build()
    alone = model.attention(water())
    assert sorted(alone) == [f"stream{s}/layer{la}" for s in range(3) for la in range(2)]
    padded = pad(add_edges(water(), model.cutoff), 2, 7, 30, max_atoms=5)
    for name, coefficients in model.attention(padded).items():
        assert coefficients.shape == (3, 3)
        np.testing.assert_allclose(coefficients, alone[name], **EXACT)
    np.testing.assert_allclose(alone["stream0/layer0"], alone["stream0/layer0"].T)
    with pytest.raises(ValueError, match="one structure at a time"):
        model.attention(join([water(), water()]))


@pytest.mark.once
def test_far_molecules_are_coupled_unless_the_far_value_is_subtracted():
    """The measured size of what the documentation calls not size consistent."""
    both = structure(
        np.concatenate([water()["positions"], water((100.0, 0, 0))["positions"]]), [8, 1, 1] * 2
    )
    keras.utils.set_random_seed(0)
    faithful = eager(models.GeomAtt(dtype="float64"))
    one, two = faithful.predict([water(), both])["energy"]
    assert 1e-8 < abs(two / one - 2.0) / 2.0 < 0.1
    assert not faithful.is_size_consistent

    model = build(subtract_far_value=True)
    assert model.is_size_consistent
    predicted = model.predict([water(), both])
    np.testing.assert_allclose(predicted["energy"][1], 2.0 * predicted["energy"][0], rtol=1e-13)
    np.testing.assert_allclose(predicted["forces"][3:6], predicted["forces"][:3], **EXACT)
    np.testing.assert_allclose(predicted["forces"][6:], predicted["forces"][:3], **EXACT)


@pytest.mark.once
def test_interactions_end_soon_after_the_grid():
    """The figures of the specification: 1e-4 eV/Å at 4.5 Å, rounding at 6 Å."""
    keras.utils.set_random_seed(0)
    model = eager(models.GeomAtt(dtype="float64"))
    pairs = [structure([[0, 0, 0], [0, 0, d]], [6, 8]) for d in (4.5, 5.5, 6.5)]
    forces = np.abs(model.predict(pairs)["forces"][::2, 2])
    assert forces[0] > 1e-5
    assert forces[1] < 1e-2 * forces[0]
    assert forces[2] < 1e-14


# ----- crystals


@pytest.mark.once
def test_a_crystal_is_the_limit_of_large_clusters():
    """The attention of a central cell, summed over copies, equals that in a cluster around it."""
    model, cell = build(num_layers=1, orders=(2, 3, 4), d_max=2.5, **CRYSTALS), crystal()
    sites, numbers = cell["positions"], cell["atomic_numbers"]
    shifts = sorted(itertools.product(range(-2, 3), repeat=3), key=lambda n: np.abs(n).sum())
    copies = [sites + np.asarray(shift) @ cell["cell"][0] for shift in shifts]
    cluster = structure(np.concatenate(copies), np.tile(numbers, len(shifts)))
    large = model.attention(cluster)
    for name, coefficients in model.attention(cell).items():
        summed = large[name][:3].reshape(3, len(shifts), 3).sum(axis=1)
        np.testing.assert_allclose(coefficients, summed, rtol=1e-10, atol=1e-12, err_msg=name)


def test_crystals_have_forces_and_stress_of_their_energy():
    model, start, step = build(**CRYSTALS), crystal(), 1e-5
    changed = []
    for sign in (1, -1):
        strain = np.eye(3)
        strain[0, 1] = strain[1, 0] = sign * step / 2
        moved = start["positions"] + sign * step * np.eye(9)[4].reshape(3, 3)
        changed.append(start | {"positions": moved})
        changed.append(
            start | {"positions": start["positions"] @ strain, "cell": start["cell"] @ strain}
        )
    images = np.asarray([[1, -2, 0], [0, 0, 3], [0, 0, 0]]) @ start["cell"][0]
    wrapped = start | {"positions": start["positions"] + images}
    double = structure(
        np.concatenate([start["positions"], start["positions"] + start["cell"][0, 2]]),
        [11, 17, 8] * 2,
        cell=np.diag([1, 1, 2]) @ start["cell"][0],
    )
    predicted = model.predict([start, *changed, wrapped, double, water()], batch_size=8)
    energy, volume = predicted["energy"], abs(np.linalg.det(start["cell"][0]))
    force, slope = (np.asarray(energy[[1, 2]]) - energy[[3, 4]]) / (2 * step)
    np.testing.assert_allclose(predicted["forces"][1, 1], -force, rtol=1e-6)
    np.testing.assert_allclose(predicted["stress"][0, 0, 1], slope / volume, rtol=1e-6)
    np.testing.assert_allclose(energy[5], energy[0], rtol=1e-12)
    np.testing.assert_allclose(energy[6], 2.0 * energy[0], rtol=1e-12)
    # a molecule among crystals takes the road of edges; the result is the same
    np.testing.assert_allclose(energy[7], model.predict(water())["energy"][0], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "subtract_far_value=True"), ({"subtract_far_value": True, "cutoff": 4.0}, "reach")],
)
def test_crystals_are_refused_where_they_are_not_defined(options, message):
    with pytest.raises(ValueError, match=message):
        build(num_layers=1, **options).predict(crystal())


# ----- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orders": ()}, "order of each stream"),
        ({"orders": (2, 6)}, "order=6"),
        ({"orders": (5,), "overlap_features": 4}, "num_features=0"),
        ({"delta": 0.0}, "spacing above 0"),
        ({"d_max": 0.0}, "at least one point"),
    ],
)
def test_impossible_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        models.GeomAtt(**SMALL | options)


# ----- weights of the reference program


def reference_weights(model):
    """Names a model's weights as the reference program does."""
    named = {}

    def add(key, variable, index=...):
        array = keras.ops.convert_to_numpy(variable)[index]
        named[key] = array[0] if index is not ... and array.shape[0] == 1 else array

    for number in (1, 8):
        add(f"embedding.{number}", model.embedding.embeddings, number)
    for s, stream in enumerate(model.streams):
        for la, (attention, value) in enumerate(zip(stream.attentions, stream.values, strict=True)):
            prefix = f"w/stream{s}.layer{la}"
            add(f"{prefix}.W", value.kernel)
            add(f"{prefix}.b", value.bias)
            kinds = {"Wq": "query_kernel", "bq": "query_bias", "Wk": "key_kernel", "bk": "key_bias"}
            for kind, attribute in kinds.items():
                variable = getattr(attention, attribute)
                for q in range(0 if variable is None else variable.shape[0]):
                    add(f"{prefix}.overlap{q}.{kind}", variable, q)
    readout = model.readouts[0]
    for index, layer in enumerate((readout.hidden, readout.output_scalars), start=1):
        add(f"readout.W{index}", layer.kernel)
        add(f"readout.b{index}", layer.bias)
    return named


@pytest.mark.once
@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_weights_of_any_hyperparameters_can_be_read(options):
    model = build(**options)
    names = {"overlap_features": "F_I"}
    hyperparameters = {"F_v": 8, "F_I": 8, "n_layers": 2, "interval": 0.25, "gamma": 8.0}
    switches = options.get("variant", {})
    given = {key: value for key, value in options.items() if key != "variant"} | switches
    hyperparameters |= {names.get(key, key): value for key, value in given.items()}
    points = model.grid.num_points
    read = models.GeomAtt.from_port(
        {"arch": "GeomAtt", **hyperparameters, "n_points": points}, reference_weights(model)
    )
    assert read.dtype == "float64"
    expected, got = model.predict(water()), eager(read).predict(water())
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, **EXACT, err_msg=key)


def test_the_sound_variant_reads_weights_of_the_faithful_one():
    hyperparameters = {"F_v": 8, "F_I": 8, "n_layers": 2, "interval": 0.25, "gamma": 8.0}
    weights = reference_weights(build())
    sound = models.GeomAtt.from_port(hyperparameters, weights, subtract_far_value=True)
    assert sound.is_size_consistent

    with pytest.raises(ValueError, match="Unknown hyper-parameter"):
        models.GeomAtt.from_port({**hyperparameters, "heads": 3}, weights)
    with pytest.raises(ValueError, match="no place"):
        models.GeomAtt.from_port({**hyperparameters, "n_layers": 1}, weights)
    with pytest.raises(ValueError, match="Check the hyper-parameters"):
        models.GeomAtt.from_port({**hyperparameters, "F_I": 16}, weights)
    with pytest.raises(ValueError, match="missing"):
        models.GeomAtt.from_port({**hyperparameters, "orders": [2, 3, 4, 4]}, weights)
