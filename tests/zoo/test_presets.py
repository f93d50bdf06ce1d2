"""Every preset must load and give, on each backend, the numbers it was published with."""

import json
import warnings

import keras
import numpy as np
import pytest

from keras_mlff import models, presets, publish
from keras_mlff.core.deviations import deviations
from keras_mlff.core.domain import Domain

PUBLISHED = {
    name: preset for name, preset in presets.available().items() if "runs" not in str(preset.folder)
}
pytestmark = pytest.mark.zoo


@pytest.fixture(scope="module", params=sorted(PUBLISHED))
def preset(request):
    return PUBLISHED[request.param]


def test_the_zoo_is_not_empty():
    assert "cmret/ch2" in PUBLISHED


# JAX would compile each network twice
SINGLE = () if keras.backend.backend() == "jax" else (("float32", 2e-5),)


@pytest.mark.parametrize(("dtype", "rtol"), [*SINGLE, ("float64", 1e-10)])
def test_predictions_are_the_published_ones(preset, dtype, rtol):
    """float32 may differ by rounding; a preset whose numbers move is another model."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        model = models.load_preset(str(preset.folder), dtype=dtype)
    assert [str(item.message).partition(": ")[2] for item in told] == list(preset.warnings)
    # two structures are not worth compiling for, except on JAX, which compiles each operation
    model.run_eagerly = keras.backend.backend() != "jax"
    pinned = publish.pinned_values(preset.folder)
    predicted = model.predict([item["structure"] for item in pinned], domain="ignore")
    for key in preset.properties:
        expected = np.concatenate([np.asarray(item["predictions"][key]) for item in pinned])
        scale = np.abs(expected).max()
        np.testing.assert_allclose(predicted[key], expected, rtol=0, atol=rtol * scale, err_msg=key)


def test_a_preset_says_how_it_was_made(preset):
    for key in ("recipe", "seed", "metrics", "license", "citation", "elements", "units", "dataset"):
        assert preset.metadata.get(key) not in (None, "", {}, []), key
    assert (preset.folder / "log.csv").stat().st_size > 0
    assert (preset.folder / "README.md").read_text(encoding="utf-8") == publish.card(preset)
    json.dumps(dict(preset.metadata))


def test_a_card_shows_no_loss_that_is_an_error_beside_it(preset):
    card = (preset.folder / "README.md").read_text(encoding="utf-8")
    curve = preset.metadata.get("learning_curve", {})
    for key in {key for row in curve.values() for key in row if key.endswith("_loss")}:
        error = key.removesuffix("_loss") + "_mae"
        copies = [row[key] == row.get(error) for row in curve.values()]
        assert (f"| {key} |" in card) != all(copies), key


def test_the_readme_names_the_preset(preset):
    readme = preset.folder.parents[2] / "README.md"
    assert f"(zoo/{preset.folder.parent.name}/{preset.name}/README.md)" in readme.read_text("utf-8")


def test_a_preset_knows_its_domain(preset):
    domain = Domain.from_config(preset.metadata["domain"])
    assert tuple(domain.elements) == preset.elements
    assert domain.states
    assert domain.periodic
    assert domain.num_structures
    for item in publish.pinned_values(preset.folder):
        found = deviations(domain, item["structure"], True, preset.name)
        assert not [deviation for deviation in found if deviation.is_grave]


def test_every_backend_was_verified(preset):
    checks = preset.metadata["checks"]
    assert set(checks) == {"tensorflow", "jax", "torch"}
    for figures in checks.values():
        exact = [key for key in figures if key.endswith("float64")]
        assert len(exact) >= 2
        assert max(figures[key] for key in exact) < 1e-9
        assert figures.get("forces_finite_difference", 0.0) < 1e-5


def test_ch2_keeps_its_errors():
    """At or below 0.3 meV and 3 meV/Å for both spin states."""
    parts = PUBLISHED["cmret/ch2"].metadata["metrics_of_parts"]
    for spin in ("singlet", "triplet"):
        assert parts[spin]["energy"]["unit"] == "meV"
        assert parts[spin]["energy"]["test_mae"] <= 0.3
        assert parts[spin]["forces"]["test_mae"] <= 3.0
