"""EGNN, DimeNet++ and the Transformer must be what their formulas say, option by option."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff.graph import join, structure
from keras_mlff.heads import ScalarHead
from keras_mlff.models.dimenet_pp.model import DimeNetPP
from keras_mlff.models.egnn.model import EGNN
from keras_mlff.models.transformer.model import DistanceTransformer
from keras_mlff.neighbors import add_edges
from tests.models.formulas import central_forces, evaluate, inputs_of
from tests.models.posenc import posenc_formulas as formulas

GOLDEN = Path(__file__).parents[2] / "golden/posenc"
pytestmark = pytest.mark.usefixtures("float64")
# 1e-10 relative, and what cancellation between terms of order one leaves of it at zero
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}

NO_FORCES = [ScalarHead("value")]  # their gradient takes longer to compile than all else
MOLECULES = [
    ([9, 7], np.asarray([[0.1, 0.2, -0.1], [0.3, -0.4, 1.3]])),
    ([6, 8, 8], np.asarray([[0.0, 0.0, 0.0], [0.3, 0.2, 1.1], [-0.4, 0.5, -1.2]])),
    # one pair is beyond the cutoff of DimeNet++
    ([7, 1, 1, 6], np.asarray([[0.0, 0.1, 0], [0.9, 0.3, 0.3], [-0.5, 0.8, -0.2], [1.2, -2, 0.6]])),
]
TABLE = {"posenc": True, "n_bin": 7, "s": 8, "xmin": 1.0, "xmax": 1.8}  # some distances are outside
PERCEPTRON = {"mlp_enc": True, "mlp_hidden": 8, "s": 5}

# Several options at once: what takes time is to make and compile a model, not to compare it
EGNN_BASE = {
    "species": [1, 6, 7, 8, 9],
    "charge_scale": 9.0,
    "charge_power": 2,
    "hidden": 8,
    "n_layers": 1,
    "attention": 1,
    "node_attr": 0,
}
EQUIVARIANT = {
    **TABLE,
    "mode": "linear",
    "arch": "EGNN-equivariant",
    "in_node": 4,
    "hidden": 8,
    "out_node": 3,
    "n_layers": 2,
    "attention": 1,
    "normalize": True,
    "tanh": True,
    "coords_agg": "sum",
}
TRANSFORMER_BASE = {
    "dim": 8,
    "heads": 2,
    "n_layers": 1,
    "ffn": 12,
    "bias_hidden": 5,
    "bias_per_layer": True,
    "max_z": 9,
}
TRANSFORMER_CASES = [
    {**PERCEPTRON, "heads": 1},
    {**TABLE, "n_layers": 2, "bias_per_layer": False},
]
DIMENET_BASE = {
    "emb_size": 8,
    "out_emb_size": 9,
    "int_emb_size": 5,
    "basis_emb_size": 3,
    "num_blocks": 1,
    "num_spherical": 3,
    "num_radial": 2,
    "cutoff": 2.6,
    "envelope_exponent": 5,
    "num_before_skip": 1,
    "num_after_skip": 1,
    "num_dense_output": 1,
}
DIMENET_CASES = [
    {"num_spherical": 1, "envelope_exponent": 2, "num_before_skip": 0, "num_after_skip": 0},
    {"num_spherical": 9},
    {"num_blocks": 0},
    {**PERCEPTRON, "sbf_combine": "concat", "envelope_exponent": 7},
    {**TABLE, "sbf_combine": "outer", "use_envelope": False, "scaled_slopes": True},
]


def cases(base, options):
    return [
        pytest.param({**base, **changed}, id=" ".join(f"{k}={v}" for k, v in changed.items()))
        for changed in options
    ]


class Weights(dict):
    """Random arrays by the reference programs' names."""

    def __init__(self):
        self.random = np.random.default_rng(0)

    def normal(self, *shape, scale=1.0):
        return scale * self.random.normal(size=shape)

    def linear(self, name, rows, columns, bias=True):
        self[f"{name}.W"] = self.normal(rows, columns, scale=rows**-0.5)
        if bias:
            self[f"{name}.b"] = self.normal(columns, scale=0.3)

    def perceptron(self, name, rows, hidden, columns):
        for number, (first, second) in enumerate(((rows, hidden), (hidden, columns)), start=1):
            self[f"{name}.W{number}"] = self.normal(first, second, scale=first**-0.5)
            self[f"{name}.b{number}"] = self.normal(second, scale=0.3)

    def norm(self, name, width):
        self[f"{name}.gamma"] = 1.0 + self.normal(width, scale=0.2)
        self[f"{name}.beta"] = self.normal(width, scale=0.2)

    def encoding(self, options, table, network):
        """Draws what stands for one number; returns the width that it becomes."""
        if options.get("posenc"):
            for name in "hg":  # slopes are there in every mode
                self[f"{table}.{name}"] = self.normal(options["n_bin"], options["s"])
        elif options.get("mlp_enc"):
            self.perceptron(network, 1, options.get("mlp_hidden", options["s"]), options["s"])
        return options["s"] if formulas.is_encoded(options) else 1


def egnn_weights(options):
    weights, width = Weights(), options["hidden"]
    inputs = len(options["species"]) * (options["charge_power"] + 1)
    weights.linear("embedding", inputs, width)
    for layer in range(options["n_layers"]):
        prefix = f"layer{layer}"
        seen = weights.encoding(options, f"{prefix}.posenc", f"{prefix}.mlpenc")
        weights.perceptron(f"{prefix}.edge", 2 * width + seen, width, width)
        added = inputs if options["node_attr"] else 0
        weights.perceptron(f"{prefix}.node", 2 * width + added, width, width)
        if options["attention"]:
            weights.linear(f"{prefix}.att", width, 1)
    weights.perceptron("node_dec", width, width, width)
    weights.perceptron("graph_dec", width, width, 1)
    return weights


def equivariant_weights(options):
    weights, width = Weights(), options["hidden"]
    weights.linear("embedding", options["in_node"], width)
    weights.linear("out", width, options["out_node"])
    for layer in range(options["n_layers"]):
        prefix = f"layer{layer}"
        seen = weights.encoding(options, f"{prefix}.posenc", f"{prefix}.mlpenc")
        weights.linear(f"{prefix}.edge1", 2 * width + seen, width)
        weights.linear(f"{prefix}.edge2", width, width)
        weights.linear(f"{prefix}.node1", 2 * width, width)
        weights.linear(f"{prefix}.node2", width, width)
        weights.linear(f"{prefix}.coord1", width, width)
        weights.linear(f"{prefix}.coord2", width, 1, bias=False)
        if options["attention"]:
            weights.linear(f"{prefix}.att", width, 1)
    return weights


def transformer_weights(options):
    weights, width = Weights(), options["dim"]
    layers = [f"layer{layer}" for layer in range(options["n_layers"])]
    weights["atom_embedding"] = weights.normal(options["max_z"] + 1, width)
    for owner in layers if options["bias_per_layer"] else ["bias"]:
        seen = weights.encoding(options, f"{owner}.posenc", f"{owner}.mlpenc")
        weights.perceptron(f"{owner}.biasmlp", seen, options["bias_hidden"], options["heads"])
    for prefix in layers:
        for name in "qkvo":
            weights.linear(f"{prefix}.{name}", width, width)
        weights.perceptron(f"{prefix}.ffn", width, options["ffn"], width)
        weights.norm(f"{prefix}.ln1", width)
        weights.norm(f"{prefix}.ln2", width)
    weights.norm("lnf", width)
    weights.perceptron("out", width, width, 1)
    return weights


def dimenet_weights(options):
    weights, width = Weights(), options["emb_size"]
    output, inner = options["out_emb_size"], options["int_emb_size"]
    basis = options["basis_emb_size"]
    for name in ("rbf", "sbf_d", "sbf_a"):
        weights.encoding(options, f"posenc_{name}", f"mlpenc_{name}")
    if formulas.is_encoded(options):
        radial = options["s"]
        widths = {"product": radial, "outer": radial**2, "concat": 2 * radial}
        spherical = widths[options.get("sbf_combine", "product")]
    else:
        radial = options["num_radial"]
        spherical = options["num_spherical"] * radial
        weights["rbf.frequencies"] = 1.03 * np.pi * np.arange(1, radial + 1)
    weights["emb.embeddings"] = weights.normal(95, width)
    weights.linear("emb.rbf", radial, width)
    weights.linear("emb", 3 * width, width)
    for block in range(options["num_blocks"] + 1):
        prefix = f"out{block}"
        weights.linear(f"{prefix}.rbf", radial, width, bias=False)
        weights.linear(f"{prefix}.up", width, output, bias=False)
        for number in range(options["num_dense_output"]):
            weights.linear(f"{prefix}.dense{number}", output, output)
        weights.linear(f"{prefix}.final", output, 1, bias=False)
    for block in range(options["num_blocks"]):
        prefix = f"int{block}"
        weights.linear(f"{prefix}.rbf1", radial, basis, bias=False)
        weights.linear(f"{prefix}.rbf2", basis, width, bias=False)
        weights.linear(f"{prefix}.sbf1", spherical, basis, bias=False)
        weights.linear(f"{prefix}.sbf2", basis, inner, bias=False)
        weights.linear(f"{prefix}.down", width, inner, bias=False)
        weights.linear(f"{prefix}.up", inner, width, bias=False)
        for name in ("ji", "kj", "skip"):
            weights.linear(f"{prefix}.{name}", width, width)
        for place in ("before", "after"):
            for number in range(options[f"num_{place}_skip"]):
                weights.perceptron(f"{prefix}.{place}{number}", width, width, width)
    return weights


def batch(model):
    graphs = [
        add_edges(structure(positions, numbers), model.cutoff, triplets=model.uses_triplets)
        for numbers, positions in MOLECULES
    ]
    return inputs_of(graphs)


def check_values(model, energy, options, weights):
    predicted = evaluate(model, batch(model))["value"]
    expected = [energy(options, weights, *molecule) for molecule in MOLECULES]
    np.testing.assert_allclose(predicted, expected, **TOLERANCE)


def test_egnn():
    options = EGNN_BASE | PERCEPTRON | {"attention": 0, "node_attr": 1, "charge_power": 0}
    options["species"] = [9, 1, 8, 6, 7]
    weights = egnn_weights(options)
    model = EGNN.from_port(options, weights, heads=NO_FORCES)
    check_values(model, formulas.egnn_energy, options, weights)


def test_forces_of_egnn():
    """Central differences of the formulas' energy are the forces."""
    options = EGNN_BASE | TABLE | {"n_bin": 2, "s": 1, "scaled_slopes": True}
    options |= {"charge_power": 3, "charge_scale": 7.0}
    weights = egnn_weights(options)
    model = EGNN.from_port(options, weights)
    predicted = evaluate(model, batch(model))
    energies, forces = [], []
    for numbers, positions in MOLECULES:

        def energy(positions, numbers=numbers):
            return formulas.egnn_energy(options, weights, numbers, positions)

        energies.append(energy(positions))
        forces.append(central_forces(energy, positions))
    np.testing.assert_allclose(predicted["energy"], energies, **TOLERANCE)
    forces = np.concatenate(forces)
    np.testing.assert_allclose(predicted["forces"], forces, rtol=1e-7, atol=1e-9)


def test_equivariant_egnn():
    weights = equivariant_weights(EQUIVARIANT)
    model = EGNN.from_port(EQUIVARIANT, weights, heads=NO_FORCES)
    features = np.random.default_rng(1).normal(size=(9, EQUIVARIANT["in_node"]))
    given = keras.ops.convert_to_tensor(features)
    outputs = evaluate(lambda graph: model.transform(given, graph), batch(model))
    first = 0
    for _, positions in MOLECULES:
        part = slice(first, first + len(positions))
        expected = formulas.egnn_equivariant(EQUIVARIANT, weights, features[part], positions)
        for ours, theirs in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(ours[part], theirs, **TOLERANCE)
        first = part.stop


@pytest.mark.parametrize("options", cases(TRANSFORMER_BASE, TRANSFORMER_CASES))
def test_transformer(options):
    weights = transformer_weights(options)
    model = DistanceTransformer.from_port(options, weights, heads=NO_FORCES)
    check_values(model, formulas.transformer_energy, options, weights)


@pytest.mark.parametrize("options", cases(DIMENET_BASE, DIMENET_CASES))
def test_dimenet(options):
    weights = dimenet_weights(options)
    model = DimeNetPP.from_port(options, weights, heads=NO_FORCES)
    check_values(model, formulas.dimenet_energy, options, weights)


@pytest.mark.parametrize("name", ["dimenetpp", "dimenetpp_posenc"])
def test_bases_and_messages_of_dimenet_equal_the_golden_ones(name):
    """Edges and triplets are found by their atoms, whatever their order."""
    with np.load(GOLDEN / f"{name}_A.npz") as file:
        golden = dict(file)
    weights = {key: value for key, value in golden.items() if key.startswith("w/")}
    options = json.loads(str(golden["hparams_json"]))
    model = DimeNetPP.from_port(options, weights, heads=NO_FORCES)
    graphs = [
        add_edges(structure(golden[f"m{i}/R"], golden[f"m{i}/Z"]), model.cutoff, triplets=True)
        for i in range(3)
    ]
    inside = model.inspect(join(graphs))
    first_edge = first_triplet = 0
    for index, graph in enumerate(graphs):
        edges = pairs(graph["receivers"], graph["senders"])
        theirs = pairs(golden[f"m{index}/idnb_i"], golden[f"m{index}/idnb_j"])
        places = np.asarray([edges[edge] for edge in theirs])
        outgoing, incoming = (golden[f"m{index}/id_{i}"] for i in ("reduce_ji", "expand_kj"))
        triplets = pairs(graph["triplet_out"], graph["triplet_in"])
        chosen = [triplets[pair] for pair in pairs(places[outgoing], places[incoming])]
        assert (len(places), len(chosen)) == (len(edges), len(triplets))

        prefix = f"m{index}/" if f"m{index}/rbf" in golden else f"m{index}/layer0/"
        compared = {f"{prefix}rbf": "edge_basis"}
        if name.endswith("posenc"):
            compared |= {f"m{index}/layer{n}/m": f"layer{n}/messages" for n in range(3)}
        for key, ours in compared.items():
            values = inside[ours][first_edge + places]
            np.testing.assert_allclose(values, golden[key], **TOLERANCE, err_msg=key)
        values = inside["triplet_basis"][first_triplet + np.asarray(chosen)]
        np.testing.assert_allclose(values, golden[f"{prefix}sbf"], **TOLERANCE)
        first_edge, first_triplet = first_edge + len(edges), first_triplet + len(triplets)


def pairs(first, second):
    """Numbers pairs in their order."""
    joined = zip(first.tolist(), second.tolist(), strict=True)
    return {pair: number for number, pair in enumerate(joined)}


def test_networks_have_as_many_parameters_as_the_programs():
    egnn = EGNN(all_pairs=True, readout="graph", variant="authors_qm9", heads=NO_FORCES)
    assert egnn.count_params() == 745_224
    dimenet = DimeNetPP(variant={"rbf_embedding": "activated"}, heads=NO_FORCES)
    # ours knows more elements than the 95 of that program
    more = (dimenet.elements.embeddings.shape[0] - 95) * dimenet.num_features
    assert dimenet.count_params() - more == 1_885_830
