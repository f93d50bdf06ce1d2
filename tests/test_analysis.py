"""Encodings are read out of any model that has one, measured and drawn."""

import keras
import numpy as np
import pytest

from keras_mlff import analysis, cli, models

SMALL = {"num_features": 8, "num_layers": 2, "cutoff": 3.0}
TABLE = {"kind": "posenc", "num_features": 4, "num_knots": 8}


def test_tables_are_read_as_they_are():
    model = models.EGNN(**SMALL, distance_encoding={**TABLE, "initial": "normal_both"})
    (found,) = analysis.encodings(model).values()
    assert found.tables.shape == (2, 8, 4)
    np.testing.assert_allclose(found.knots, np.linspace(0.0, 3.0, 8))
    for index, interaction in enumerate(model.interactions):
        for ours, variable in (
            (found.tables, interaction.encoding.values),
            (found.slopes, interaction.encoding.slopes),
        ):
            np.testing.assert_array_equal(ours[index], keras.ops.convert_to_numpy(variable))


@pytest.mark.parametrize(("encoding", "size"), [(TABLE, 8), ({"kind": "mlp"}, 36)])
def test_angles_are_kept_apart(encoding, size):
    model = models.DimeNetPP(**SMALL, distance_encoding=encoding)
    found = analysis.encodings(model)
    assert found["distance"].tables.shape[:2] == (2, size)
    assert found["angle"].tables.shape[:2] == (1, size)
    assert found["angle"].knots[-1] == pytest.approx(np.pi)


def test_radial_bases_are_sampled():
    model = models.CMRET(**SMALL, num_heads=2, num_radial=5, radial_basis="bessel")
    found = analysis.encodings(model)["distance"]
    d = found.knots[:, None]
    expected = np.sin(d * np.arange(1, 6) * np.pi / 3.0) / d
    np.testing.assert_allclose(found.tables[0], expected, atol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize("name", sorted(models.ARCHITECTURES))
def test_every_architecture_tells_what_it_makes_of_distances(name):
    """Without tables too, in its own precision, one table per layer or one for all."""
    model = models.ARCHITECTURES[name](**SMALL | {"num_features": 16}, dtype="float64")
    found = analysis.encodings(model)["distance"]
    assert found.tables.shape[:2] in {(1, 36), (2, 36)}
    assert np.isfinite(found.tables).all()
    assert np.ptp(found.tables, axis=1).max() > 1e-3
    assert found.knots[-1] == pytest.approx(model.encoding_range)


def test_messages_of_the_original_egnn_know_one_function_of_the_distance():
    """All dimensions are multiples of the square."""
    found = analysis.encodings(models.EGNN(**SMALL))["distance"]
    ratios = found.tables / np.square(found.knots)[:, None]
    np.testing.assert_allclose(ratios, np.broadcast_to(ratios[:, :1], ratios.shape), rtol=1e-5)
    assert analysis.diversity(found.tables) == pytest.approx(0.0, abs=1e-6)
    assert analysis.diversity(found.tables[:, :, :1]) == 0.0  # no pair of columns
    assert not analysis.principal_components(found.tables[0])[:, 1].any()


def test_encodings_of_geomatt_are_its_overlaps():
    """Those of all streams side by side; where the Gaussians end, the constant is left."""
    model = models.GeomAtt(**SMALL, orders=(2, 3), variant={"bias": False, "shared": True})
    found = analysis.encodings(model)["distance"]
    assert found.tables.shape == (2, 36, 8 + 4)
    assert np.abs(found.tables[:, -1]).max() < 1e-6 * np.abs(found.tables).max()
    assert found.knots[-1] > 5.0  # not the cutoff, which molecules ignore


def test_components_keep_distances_within_a_plane():
    random = np.random.default_rng(0)
    flat = random.normal(size=(9, 2)) @ random.normal(size=(2, 6)) + 1.0
    seen = analysis.principal_components(flat)
    distances = [np.linalg.norm(points[:, None] - points, axis=-1) for points in (seen, flat)]
    np.testing.assert_allclose(*distances, atol=1e-12)
    assert seen[:, 0].std() >= seen[:, 1].std()


def test_similarity_is_one_with_itself_and_symmetric():
    random = np.random.default_rng(0)
    tables = [random.normal(size=(2, 9, 4)) for _ in range(3)]
    matrix = analysis.similarity_matrix(tables)
    np.testing.assert_allclose(np.diag(matrix), 1.0)
    np.testing.assert_allclose(matrix, matrix.T)


@pytest.mark.once
def test_command_prints_metrics_and_draws(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folders = []
    for name, kind in (("a", models.EGNN), ("b", models.EGNN), ("c", models.DimeNetPP)):
        folders.append(str(tmp_path / name))
        kind(**SMALL, distance_encoding=TABLE).save_to_preset(
            folders[-1], elements=[1], properties=["energy"]
        )
    figure = tmp_path / "figure.png"
    command = ["analyze", "encoding", *folders[:2], "--output", str(figure)]
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-4:] == list(analysis.METRICS)
    assert [line.split()[1] for line in lines[1:3]] == ["distance", "distance"]
    assert figure.stat().st_size > 10_000

    assert cli.main(["analyze", "encoding", folders[2], "--output", str(figure)]) == 0
    assert "angle" in capsys.readouterr().out
    assert cli.main(["analyze", "encoding", folders[2], "--layer", "5"]) == 2
    assert "layer=5" in capsys.readouterr().err


def test_the_area_under_the_curve_counts_pairs_in_order():
    """Of 2 x 3 pairs the positive wins four and ties one."""
    scores = np.asarray([0.9, 0.5, 0.5, 0.1, 0.7])
    positive = np.asarray([True, True, False, False, False])
    np.testing.assert_allclose(analysis.roc_auc(scores, positive), (3 + 1.5) / 6)
    with pytest.raises(ValueError, match="0 positives"):
        analysis.roc_auc(scores, np.zeros(5, bool))


def test_attention_of_two_atoms_is_the_mean_of_both_directions_and_heads():
    coefficients = np.asarray([[[0.0, -1.0], [0.5, 0.0]], [[0.0, 0.2], [-0.3, 0.0]]])
    sizes = analysis.attention_sizes(coefficients)
    np.testing.assert_allclose(sizes, [[0.0, 0.5], [0.5, 0.0]])


@pytest.mark.once
def test_attention_is_drawn_and_compared_with_bonds(tmp_path, capsys):
    small = models.CMRET(num_features=8, num_layers=2, num_radial=4, num_heads=2)
    small.save_to_preset(str(tmp_path / "small"), elements=[1, 6])
    file = tmp_path / "ch2.xyz"
    file.write_text("3\n\nC 0 0 0\nH 0.9 0.5 0\nH -0.9 0.5 0\n")
    figure = tmp_path / "attention.png"
    command = ["analyze", "attention", file, "--preset", tmp_path / "small", "--output", figure]
    assert cli.main([str(word) for word in command]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["layer0", "layer1"]
    assert all(0.0 <= float(line.split()[1]) <= 1.0 for line in table[1:3])
    assert figure.stat().st_size > 1000
