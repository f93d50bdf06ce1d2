"""A force field small enough to be compiled in a second, and data for it."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_mlff import heads, presets
from keras_mlff.graph import structure
from keras_mlff.models import AtomFeatures, ForceField
from keras_mlff.neighbors import add_edges
from keras_mlff.ops import geometry, segment

BACKEND = keras.backend.backend()
REFERENCES = {1: -13.6, 6: -1036.25, 8: -2041.75}


@keras.saving.register_keras_serializable("tests")
class PairNet(ForceField):
    """Adds to each atom what its neighbors' elements and distances say."""

    def __init__(self, num_features=4, cutoff=5.0, penalty=0.0, **kwargs):
        super().__init__(cutoff=cutoff, **kwargs)
        self.num_features = num_features
        self.embedding = keras.layers.Embedding(119, num_features)
        regularizer = keras.regularizers.L2(penalty) if penalty else None
        self.dense = keras.layers.Dense(
            num_features, activation="tanh", kernel_regularizer=regularizer
        )

    def embed(self, graph, training=False):
        features = self.embedding(graph["atomic_numbers"])
        edges = geometry.edge_vectors(graph, self.cutoff)
        decay = ops.exp(-ops.sum(ops.square(edges), axis=-1) / 4.0)
        decay = segment.mask(decay, graph["edge_mask"])[:, None]
        sent = ops.take(self.dense(features), graph["senders"], axis=0)
        features = features + segment.sum_over_edges(decay * sent, graph)
        return AtomFeatures(features)


def make_graphs(count, sizes=(1, 3, 4, 6), **labels):
    """Makes structures of several sizes with energies near the sums of their references."""
    random = np.random.default_rng(2)
    graphs = []
    for index in range(count):
        num_atoms = sizes[index % len(sizes)]
        numbers = random.choice([1, 6, 8], num_atoms)
        graph = structure(
            random.normal(size=(num_atoms, 3)) * 1.5,
            numbers,
            energy=sum(REFERENCES[z] for z in numbers.tolist()) + random.normal(),
            forces=random.normal(size=(num_atoms, 3)),
            **{key: make(random) for key, make in labels.items()},
        )
        graphs.append(add_edges(graph, 5.0))
    return graphs


def compiled(pair_net, optimizer=None, jit_compile=BACKEND == "jax", **kwargs):
    keras.utils.set_random_seed(1)
    model = pair_net(heads=[heads.EnergyHead(references=REFERENCES, scale=2.0)], **kwargs)
    model.compile(
        optimizer or keras.optimizers.SGD(0.0),
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={"energy": 0.2, "forces": 0.8},
        metrics={"energy": ["mae", "rmse"], "forces": "mae"},
        jit_compile=jit_compile,  # tracing alone takes TensorFlow less time than XLA saves here
    )
    return model


def expected_logs(model, graphs):
    """Computes the numbers of `evaluate` from those of `predict`."""
    predicted = model.predict(graphs)
    energy = predicted["energy"] - np.concatenate([graph["energy"] for graph in graphs])
    forces = predicted["forces"] - np.concatenate([graph["forces"] for graph in graphs])
    parts = {"energy_loss": np.mean(energy**2), "forces_loss": np.mean(forces**2)}
    return {
        "loss": 0.2 * parts["energy_loss"] + 0.8 * parts["forces_loss"],
        **parts,
        "energy_mae": np.mean(np.abs(energy)),
        "energy_rmse": np.sqrt(np.mean(energy**2)),
        "forces_mae": np.mean(np.abs(forces)),
    }


def assert_logs(actual, expected):
    assert set(actual) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, rtol=2e-5, err_msg=key)


def weights_of(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.weights]


def as_preset(model):
    stated = {"elements": [1, 6, 8], "properties": ["energy", "forces"], "seed": 1}
    model.preset = presets.Preset("invented", type(model).__name__, Path("nowhere"), stated)
    return model


def with_gold():
    return [
        {**graph, "atomic_numbers": graph["atomic_numbers"] * 0 + 79} for graph in make_graphs(3)
    ]
