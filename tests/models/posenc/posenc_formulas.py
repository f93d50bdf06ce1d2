"""EGNN, the distance-biased Transformer and DimeNet++ in plain NumPy, one atom or edge at a time.

An independent reading of the papers' equations in float64, without cleverness. Hyper-parameters
and weights have the reference programs' names, matrices are (in, out), positions are in Å.

- EGNN: https://arxiv.org/abs/2102.09844
- Transformer: the bias of Graphormer, https://arxiv.org/abs/2106.05234
- DimeNet++: https://arxiv.org/abs/2011.14115, bases and envelope https://arxiv.org/abs/2003.03123
- learned encodings of distances and angles: https://arxiv.org/abs/2211.12773
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.models.formulas import silu

Array = np.ndarray
Options = Mapping[str, Any]
Weights = Mapping[str, Array]


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def linear(weights: Weights, name: str, x: Array) -> Array:
    y = x @ weights[f"{name}.W"]
    return y + weights[f"{name}.b"] if f"{name}.b" in weights else y


def perceptron(weights: Weights, name: str, x: Array, activation: Callable[..., Array]) -> Array:
    hidden = activation(x @ weights[f"{name}.W1"] + weights[f"{name}.b1"])
    return hidden @ weights[f"{name}.W2"] + weights[f"{name}.b2"]


# Learned encodings


def look_up(
    options: Options, values: Array, slopes: Array, x: float, x_min: float, x_max: float
) -> Array:
    """Reads the table at one number; beyond its ends it goes on as a straight line."""
    last = len(values) - 1
    spacing = (x_max - x_min) / last
    place = (x - x_min) / spacing
    i = min(max(math.floor(place), 0), last - 1)
    t = place - i
    if options.get("mode", "cubic") == "linear":
        return (1.0 - t) * values[i] + t * values[i + 1]
    if options.get("scaled_slopes", False):
        slopes = slopes * spacing
    if place < 0.0:
        return values[0] + place * slopes[0]
    if place > last:
        return values[last] + (place - last) * slopes[last]
    c1 = 2.0 * t**3 - 3.0 * t**2 + 1.0
    c3 = t**3 - 2.0 * t**2 + t
    c4 = t**3 - t**2
    return c1 * values[i] + (1.0 - c1) * values[i + 1] + c3 * slopes[i] + c4 * slopes[i + 1]


def is_encoded(options: Options) -> bool:
    return bool(options.get("posenc") or options.get("mlp_enc"))


def encode(
    options: Options,
    weights: Weights,
    names: tuple[str, str],
    x: float,
    ends: tuple[float, float] | None = None,
) -> Array:
    """Turns one number into several, by the table or the perceptron of these names."""
    table, network = names
    if options.get("posenc"):
        ends = ends or (options["xmin"], options["xmax"])
        return look_up(options, weights[f"{table}.h"], weights[f"{table}.g"], x, *ends)
    return perceptron(weights, network, np.asarray([x]), relu)


def encode_of(
    options: Options, weights: Weights, prefix: str, distance: float, original: float
) -> Array:
    """Encodes a distance where that is asked for; else gives what the original network reads."""
    if is_encoded(options):
        return encode(options, weights, (f"{prefix}.posenc", f"{prefix}.mlpenc"), distance)
    return np.asarray([original])


# EGNN


def element_code(options: Options, number: int) -> Array:
    """Writes an element as one-hot code times powers of its charge, those of an element in turn."""
    powers = options["charge_power"] + 1
    code = np.zeros(len(options["species"]) * powers)
    place = list(options["species"]).index(number)
    for power in range(powers):
        code[place * powers + power] = (number / options["charge_scale"]) ** power
    return code


def egnn_energy(
    options: Options, weights: Weights, numbers: Sequence[int], positions: Array
) -> float:
    """Computes the energy by the program for QM9, in which positions never move."""
    atoms = range(len(numbers))
    codes = [element_code(options, number) for number in numbers]
    features = [linear(weights, "embedding", code) for code in codes]
    for layer in range(options["n_layers"]):
        prefix = f"layer{layer}"
        updated = []
        for i in atoms:
            total = np.zeros(options["hidden"])
            for j in atoms:
                if j == i:
                    continue
                distance = np.linalg.norm(positions[i] - positions[j])
                seen = encode_of(options, weights, prefix, distance, distance**2)
                pair = np.concatenate([features[i], features[j], seen])
                message = silu(perceptron(weights, f"{prefix}.edge", pair, silu))  # eq. (3)
                if options["attention"]:  # eq. (8)
                    message = message * sigmoid(linear(weights, f"{prefix}.att", message))
                total = total + message  # eq. (5)
            parts = [features[i], total, *([codes[i]] if options["node_attr"] else [])]
            step = perceptron(weights, f"{prefix}.node", np.concatenate(parts), silu)
            updated.append(features[i] + step)  # eq. (6)
        features = updated
    # the last perceptron reads the sum: energies are not sums over atoms
    total = sum(perceptron(weights, "node_dec", feature, silu) for feature in features)
    return float(perceptron(weights, "graph_dec", total, silu)[0])


def egnn_equivariant(
    options: Options, weights: Weights, inputs: Array, positions: Array
) -> tuple[Array, Array]:
    """Computes features and moved positions by the program whose layers move the positions."""
    atoms = range(len(positions))
    features = [linear(weights, "embedding", row) for row in inputs]
    places = list(positions)
    for layer in range(options["n_layers"]):
        prefix = f"layer{layer}"
        new_features, new_places = [], []
        for i in atoms:
            total, shift = np.zeros(options["hidden"]), np.zeros(3)
            for j in atoms:
                if j == i:
                    continue
                vector = places[i] - places[j]
                distance = np.linalg.norm(vector)
                seen = encode_of(options, weights, prefix, distance, distance**2)
                pair = np.concatenate([features[i], features[j], seen])
                message = silu(linear(weights, f"{prefix}.edge1", pair))
                message = silu(linear(weights, f"{prefix}.edge2", message))  # eq. (3)
                if options["attention"]:  # eq. (8)
                    message = message * sigmoid(linear(weights, f"{prefix}.att", message))
                total = total + message  # eq. (5)
                if options["normalize"]:
                    vector = vector / (distance + 1e-8)
                hidden = silu(linear(weights, f"{prefix}.coord1", message))
                size = linear(weights, f"{prefix}.coord2", hidden)
                if options["tanh"]:
                    size = np.tanh(size)
                shift = shift + vector * size
            if options.get("coords_agg", "mean") == "mean":
                shift = shift / max(len(atoms) - 1, 1)
            hidden = silu(linear(weights, f"{prefix}.node1", np.concatenate([features[i], total])))
            new_features.append(features[i] + linear(weights, f"{prefix}.node2", hidden))  # eq. (6)
            new_places.append(places[i] + shift)  # eq. (4)
        features, places = new_features, new_places
    outputs = [linear(weights, "out", feature) for feature in features]
    return np.asarray(outputs), np.asarray(places)


# Transformer


def layer_norm(weights: Weights, name: str, x: Array) -> Array:
    centered = x - x.mean()
    scaled = centered / np.sqrt((centered**2).mean() + 1e-5)
    return scaled * weights[f"{name}.gamma"] + weights[f"{name}.beta"]


def transformer_energy(
    options: Options, weights: Weights, numbers: Sequence[int], positions: Array
) -> float:
    atoms = range(len(numbers))
    width = options["dim"] // options["heads"]
    features = [weights["atom_embedding"][number] for number in numbers]
    for layer in range(options["n_layers"]):
        prefix = f"layer{layer}"
        owner = prefix if options.get("bias_per_layer", True) else "bias"
        normalized = [layer_norm(weights, f"{prefix}.ln1", feature) for feature in features]
        query, key, value = (
            [linear(weights, f"{prefix}.{name}", row) for row in normalized] for name in "qkv"
        )
        updated = []
        for i in atoms:
            logits = np.zeros((len(atoms), options["heads"]))
            for j in atoms:  # the atom itself included, at distance zero
                distance = np.linalg.norm(positions[i] - positions[j])
                seen = encode_of(options, weights, owner, distance, distance)
                bias = perceptron(weights, f"{owner}.biasmlp", seen, gelu)
                for head in range(options["heads"]):
                    part = slice(head * width, (head + 1) * width)
                    # eq. (6) of Graphormer
                    logits[j, head] = query[i][part] @ key[j][part] / math.sqrt(width) + bias[head]
            attended = np.zeros(options["dim"])
            for head in range(options["heads"]):
                part = slice(head * width, (head + 1) * width)
                shares = np.exp(logits[:, head] - logits[:, head].max())
                shares = shares / shares.sum()
                attended[part] = sum(shares[j] * value[j][part] for j in atoms)
            feature = features[i] + linear(weights, f"{prefix}.o", attended)
            hidden = layer_norm(weights, f"{prefix}.ln2", feature)
            updated.append(feature + perceptron(weights, f"{prefix}.ffn", hidden, gelu))
        features = updated
    energies = [
        perceptron(weights, "out", layer_norm(weights, "lnf", feature), gelu)[0]
        for feature in features
    ]
    return float(sum(energies))


# DimeNet++


def legendre(degree: int, x: Array | float) -> Array:
    return np.polynomial.legendre.legval(x, [0.0] * degree + [1.0])


@functools.cache
def _quadrature(degree: int) -> tuple[Array, Array]:
    nodes, factors = np.polynomial.legendre.leggauss(64)
    return nodes, 0.5 * factors * legendre(degree, nodes)


def spherical_bessel(degree: int, x: float) -> float:
    """Computes j_l(x) = (-i)^l / 2 ∫ exp(ixt) P_l(t) dt from -1 to 1, exact far beyond x = 40."""
    nodes, factors = _quadrature(degree)
    phases = x * nodes - 0.5 * math.pi * degree
    return float(factors @ np.cos(phases))


@functools.cache
def bessel_zeros(degree: int, number: int) -> tuple[float, ...]:
    """Finds the first zeros above 0: one lies between each two of the degree below."""
    if degree == 0:
        return tuple(n * math.pi for n in range(1, number + 1))
    found = []
    below = bessel_zeros(degree - 1, number + 1)
    for low, high in itertools.pairwise(below):
        sign = math.copysign(1.0, spherical_bessel(degree, low))
        for _ in range(56):
            middle = 0.5 * (low + high)
            if sign * spherical_bessel(degree, middle) > 0.0:
                low = middle
            else:
                high = middle
        found.append(0.5 * (low + high))
    return tuple(found)


def envelope_over_x(exponent: int, x: float) -> float:
    """Eq. (8) of DimeNet as programmed: divided by x, and p = exponent + 1."""
    if x >= 1.0:
        return 0.0
    p = exponent + 1
    polynomial = -(p + 1) * (p + 2) / 2 * x ** (p - 1) + p * (p + 2) * x**p
    return 1.0 / x + polynomial - p * (p + 1) / 2 * x ** (p + 1)


def edge_basis(options: Options, weights: Weights, distance: float) -> Array:
    x = distance / options["cutoff"]
    envelope = envelope_over_x(options["envelope_exponent"], x)
    if is_encoded(options):
        factor = x * envelope if options.get("use_envelope", True) else 1.0
        return factor * encode(options, weights, ("posenc_rbf", "mlpenc_rbf"), distance)
    return envelope * np.sin(weights["rbf.frequencies"] * x)  # eq. (7) of DimeNet


def triplet_basis(options: Options, weights: Weights, distance: float, angle: float) -> Array:
    """Describes edges k -> j -> i by the length of the first and the angle between both."""
    x = distance / options["cutoff"]
    envelope = envelope_over_x(options["envelope_exponent"], x)
    if is_encoded(options):
        factor = x * envelope if options.get("use_envelope", True) else 1.0
        radial = encode(options, weights, ("posenc_sbf_d", "mlpenc_sbf_d"), distance)
        names = ("posenc_sbf_a", "mlpenc_sbf_a")
        angular = encode(options, weights, names, angle, (0.0, math.pi))
        combine = options.get("sbf_combine", "product")
        if combine == "product":
            return factor * radial * angular
        if combine == "concat":
            return factor * np.concatenate([radial, angular])
        return factor * np.concatenate([number * radial for number in angular])  # outer
    basis = []
    for degree in range(options["num_spherical"]):  # eq. (6) of DimeNet
        harmonic = math.sqrt((2 * degree + 1) / (4.0 * math.pi)) * legendre(degree, np.cos(angle))
        for zero in bessel_zeros(degree, options["num_radial"]):
            norm = 1.0 / math.sqrt(0.5 * spherical_bessel(degree + 1, zero) ** 2)
            basis.append(envelope * norm * spherical_bessel(degree, zero * x) * harmonic)
    return np.asarray(basis)


def residual(weights: Weights, name: str, x: Array) -> Array:
    return x + silu(perceptron(weights, name, x, silu))


def dimenet_energy(
    options: Options, weights: Weights, numbers: Sequence[int], positions: Array
) -> float:
    """Computes the energy as the authors' program does, with its 1/d and its radial factor."""
    atoms = range(len(numbers))
    edges = [  # (i, j) is the edge j -> i
        (i, j)
        for i in atoms
        for j in atoms
        if j != i and np.linalg.norm(positions[i] - positions[j]) <= options["cutoff"]
    ]
    lengths = {(i, j): np.linalg.norm(positions[i] - positions[j]) for i, j in edges}
    rbf = {edge: edge_basis(options, weights, lengths[edge]) for edge in edges}
    triplets = [(i, j, k) for i, j in edges for other, k in edges if other == j and k != i]
    sbf = {}
    for i, j, k in triplets:
        first, second = positions[j] - positions[i], positions[k] - positions[j]
        angle = math.atan2(np.linalg.norm(np.cross(first, second)), first @ second)
        sbf[i, j, k] = triplet_basis(options, weights, lengths[j, k], angle)

    messages = {}
    for i, j in edges:
        elements = [weights["emb.embeddings"][numbers[atom]] for atom in (i, j)]
        radial = silu(linear(weights, "emb.rbf", rbf[i, j]))
        messages[i, j] = silu(linear(weights, "emb", np.concatenate([*elements, radial])))
    energy = output_block(options, weights, "out0", len(numbers), messages, rbf)
    for block in range(options["num_blocks"]):
        messages = interaction_block(options, weights, f"int{block}", messages, rbf, sbf)
        energy += output_block(options, weights, f"out{block + 1}", len(numbers), messages, rbf)
    return energy


def output_block(
    options: Options, weights: Weights, name: str, num_atoms: int, messages: Any, rbf: Any
) -> float:
    energy = 0.0
    for atom in range(num_atoms):
        features = np.zeros(options["emb_size"])
        for edge, message in messages.items():
            if edge[0] == atom:
                features = features + linear(weights, f"{name}.rbf", rbf[edge]) * message
        features = linear(weights, f"{name}.up", features)
        for number in range(options["num_dense_output"]):
            features = silu(linear(weights, f"{name}.dense{number}", features))
        energy += float(linear(weights, f"{name}.final", features)[0])
    return energy


def interaction_block(
    options: Options, weights: Weights, name: str, messages: Any, rbf: Any, sbf: Any
) -> dict[tuple[int, int], Array]:
    sent = {}
    for edge, message in messages.items():
        # the length of the edge that sends, k -> j, not of the one that receives
        radial = linear(weights, f"{name}.rbf2", linear(weights, f"{name}.rbf1", rbf[edge]))
        scaled = silu(linear(weights, f"{name}.kj", message)) * radial
        sent[edge] = silu(linear(weights, f"{name}.down", scaled))
    updated = {}
    for edge, message in messages.items():
        met = np.zeros(options["int_emb_size"])
        for (i, j, k), basis in sbf.items():
            if (i, j) == edge:
                seen = linear(weights, f"{name}.sbf2", linear(weights, f"{name}.sbf1", basis))
                met = met + sent[j, k] * seen
        update = silu(linear(weights, f"{name}.ji", message))
        update = update + silu(linear(weights, f"{name}.up", met))
        for number in range(options["num_before_skip"]):
            update = residual(weights, f"{name}.before{number}", update)
        result = message + silu(linear(weights, f"{name}.skip", update))
        for number in range(options["num_after_skip"]):
            result = residual(weights, f"{name}.after{number}", result)
        updated[edge] = result
    return updated
