"""AlphaNet must be what its formulas say, option by option."""

import math

import keras
import numpy as np
import pytest

from keras_mlff.graph import structure
from keras_mlff.heads import EnergyHead
from keras_mlff.models import AlphaNet
from keras_mlff.models.alphanet.port import arguments_of as ported_arguments
from keras_mlff.neighbors import add_edges
from tests.models.alphanet.alphanet_formulas import REFERENCES, SCALES, Item, Network
from tests.models.formulas import arguments_of, evaluate, inputs_of

pytestmark = pytest.mark.usefixtures("float64")
# 1e-10 relative, and what cancellation between terms of order one leaves of it at zero
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}

# O and H are closer than 1 Å, where nuclei may repel; one H is beyond 2.8 Å of the last N
MOLECULE = Item(
    [8, 6, 1, 1, 7],
    np.asarray([[0, 0.1, 0.1], [1.2, -0.3, 0.2], [-0.5, 0.7, -0.2], [1.5, 0.4, 1.1], [2.1, -1, 0]]),
)
# shorter than all cutoffs, so atoms see their own images; one atom is outside of its cell
CELL = np.asarray([[2.3, 0.3, 0.0], [-0.2, 2.5, 0.4], [0.1, 0.5, 2.7]])
SITES = np.asarray([[0.1, 0.2, 0.3], [1.3, -1.4, 1.6]])
CRYSTAL = Item([8, 6], SITES, CELL, (True, True, True))
SLAB = Item([6, 7], SITES[::-1], CELL, (True, False, True))
# on one line, where frames have no plane; two atoms in one place, closer than 0.01 Å; one alone
PAIR = Item([7, 8], np.asarray([[0.1, 0.2, -0.1], [0.3, -0.4, 0.8]]))
CLASH = Item([6, 1, 8], np.asarray([[0.1, 0.2, -0.1], [0.103, 0.205, -0.099], [1.0, 0.4, 0.3]]))
ALONE = Item([1], np.asarray([[0.3, 0.2, 0.1]]))
STRUCTURES = [MOLECULE, CRYSTAL, SLAB, PAIR, CLASH, ALONE]

BASE = {
    "num_features": 6,
    "num_layers": 2,
    "cutoff": 2.8,
    "num_heads": 2,
    "num_radial": 3,
    "chi_features": 4,
    "chi_outputs": 2,
    "num_phases": 3,
    "state_features": 2,
}
# To build few networks, options are tried together. The tests of forces have what
# is missing: `p`, repulsion, and few neighbors.
CASES = {
    "smooth, three layers and heads": {
        **{"num_layers": 3, "num_features": 10, "num_heads": 3, "chi_features": 6},
        **{"chi_outputs": 3, "num_phases": 5, "state_features": 4, "num_radial": 4},
    },
    "v2, mean": {"variant": "v2", "reduce": "mean"},
    "v1, one head, more than 50 neighbors": {
        **{"variant": "v1", "num_heads": 1, "cutoff": 5.0, "norm_epsilon": 1e-3},
    },
    "smooth, mean, cosines and sines, phases normalized": {
        **{"reduce": "mean", "phase": "cos_sin", "message_norm": "phases"},
        **{"cutoff_function": "cosine", "message_epsilon": 1e-5},
    },
    "smooth, unit vectors, no phases": {
        **{"normalized_frame": True, "without": ["phase"], "cutoff_function": "smooth"},
    },
    "v2, unit vectors, no rotation, frame transition and normalization": {
        **{"variant": "v2", "normalized_frame": True, "message_norm": "none"},
        **{"without": ["rotation", "frame_transition"]},
    },
}


def make_model(arguments):
    """Makes the package's network and gives all of its weights other numbers than at the start."""
    head = EnergyHead(references=REFERENCES, element_scales=SCALES)
    model = AlphaNet(**arguments, heads=[head], dtype="float64")
    random, values = np.random.default_rng(0), []
    for variable in model.trainable_variables:
        noise = random.normal(size=variable.shape)
        kind = variable.path.rsplit("/", 1)[-1]
        if kind == "gamma":
            noise = 1.0 + 0.2 * noise
        elif kind == "frequencies":
            noise = np.pi * np.arange(1, len(noise) + 1) + 0.1 * noise
        elif kind == "kernel":
            noise = noise / math.sqrt(len(noise))
        elif kind in ("beta", "bias"):
            noise = 0.3 * noise
        values.append((variable, noise))
    model.assign_weights(values)
    return model


def as_structure(item):
    return structure(item.positions, item.numbers, item.cell, item.pbc)


def assert_all_weights_are_read(network):
    total = sum(math.prod(variable.shape) for variable in network.model.trainable_variables)
    assert sum(weight.size for weight in network.weights.values()) == total


@pytest.mark.parametrize("changed", CASES.values(), ids=CASES)
def test_energies_are_those_of_the_formulas(changed):
    """Energies of atoms alone: forces would be compiled for every option."""
    options = {**BASE, **changed}
    model = make_model(arguments_of(AlphaNet, options))
    network = Network(model, options)
    # the unit vectors of atoms on one line are left to rounding
    chosen = [MOLECULE, CRYSTAL] if options.get("normalized_frame") else STRUCTURES
    (readout,), (head,) = model.readouts, model.heads
    got = evaluate(
        lambda graph: head(graph, readout(model.embed(graph)).scalars, None),
        inputs_of([add_edges(as_structure(item), model.cutoff) for item in chosen]),
    )
    expected = [network(item) for item in chosen]
    np.testing.assert_allclose(got["atomic_energies"], np.concatenate(expected), **TOLERANCE)
    totals = [energies.sum() for energies in expected]
    np.testing.assert_allclose(got["energy"], totals, **TOLERANCE)
    assert_all_weights_are_read(network)


def check_slopes(predicted, network, chosen):
    """Compares forces with central differences, and stress where the last has a cell."""
    forces = np.concatenate([network.forces(item) for item in chosen])
    np.testing.assert_allclose(predicted["forces"], forces, rtol=1e-7, atol=1e-8)
    stress = network.stress(chosen[-1])
    np.testing.assert_allclose(predicted["stress"][len(chosen) - 1], stress, rtol=1e-7, atol=1e-8)


def test_forces_are_the_slopes_of_the_formulas():
    chosen, options = [MOLECULE, CRYSTAL], BASE | {"num_layers": 1}
    model = make_model(arguments_of(AlphaNet, options))
    network = Network(model, options)
    inputs = inputs_of([add_edges(as_structure(item), model.cutoff) for item in chosen])
    check_slopes(evaluate(model, inputs), network, chosen)


def test_options_of_the_authors_program_are_those_of_the_formulas():
    """Through `predict`, which pads and adds references."""
    model = make_model(
        ported_arguments(
            {
                "hidden_channels": 8,
                "num_layers": 2,
                "cutoff": 3.0,
                "num_radial": 5,
                "head": 3,
                "hidden_channels_chi": 6,
                "chi2": 1,
                "mp_chi1": 4,
                "main_chi1": 3,
                "max_num_neighbors": 4,
                "eps": 1e-8,
                "layer_norm_eps": 1e-4,
                "reduce_mode": "mean",
                "has_norm_before_flag": False,
                "has_norm_after_flag": True,
                "zbl": True,
            },
            "p",
        )
    )
    # tracing costs more than it saves here, except on JAX, which compiles each operation
    model.run_eagerly = keras.backend.backend() != "jax"
    options = {
        **{"variant": "p", "num_features": 8, "num_layers": 2, "cutoff": 3.0, "num_radial": 5},
        **{"num_heads": 3, "chi_features": 6, "chi_outputs": 1, "num_phases": 4},
        **{"state_features": 3, "epsilon": 1e-8, "norm_epsilon": 1e-4, "message_epsilon": 1e-4},
        **{"reduce": "mean", "message_norm": "phases", "zbl": True, "max_num_neighbors": 4},
    }
    network = Network(model, options)
    # atoms in one place are left out: repulsion sees them, unlike this variant's network
    chosen = [MOLECULE, SLAB, PAIR, ALONE, CRYSTAL]
    predicted = model.predict([as_structure(item) for item in chosen])
    expected = [network(item) + [REFERENCES[z] for z in item.numbers] for item in chosen]
    np.testing.assert_allclose(predicted["atomic_energies"], np.concatenate(expected), **TOLERANCE)
    totals = [energies.sum() for energies in expected]
    np.testing.assert_allclose(predicted["energy"], totals, **TOLERANCE)
    check_slopes(predicted, network, chosen)
    assert_all_weights_are_read(network)


@pytest.mark.parametrize(
    ("before", "after", "normalized"),
    [(True, False, "all"), (False, True, "phases"), (False, False, "none")],
)
def test_flags_of_the_authors_program_say_what_is_normalized(before, after, normalized):
    flags = {"has_norm_before_flag": before, "has_norm_after_flag": after}
    assert ported_arguments(flags, "v1")["variant"].message_norm == normalized
