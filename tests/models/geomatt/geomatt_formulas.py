"""GeomAtt in plain NumPy, one structure, atom and chain of atoms at a time.

An independent reading of the paper's equations in float64, without cleverness: chains are walked
one by one, nothing is padded or joined. Where the paper and its program differ, this is the
program. Hyper-parameters and weights have that program's names, matrices are (in, out), positions
are in Å.

Reference: Frank and Chmiela, 2021, https://arxiv.org/abs/2106.02549
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.models.formulas import softplus

Array = np.ndarray
Options = Mapping[str, Any]
Weights = Mapping[str, Array]
REPEATS = range(-2, 3)  # of a crystal's cell, which must not be smaller than half the reach


def gaussians(options: Options, distance: float) -> Array:
    """Expands a distance on the grid, whose end is no point."""
    points = [options["d_min"] + n * options["interval"] for n in range(options["n_points"])]
    return np.asarray([math.exp(-options["gamma"] * (distance - mu) ** 2) for mu in points])


def expand_pair(options: Options, apart: Array, cell: Array | None) -> Array:
    """Expands the distance of two atoms; in a crystal those to all images add up."""
    if cell is None:
        return gaussians(options, np.linalg.norm(apart))
    images = itertools.product(REPEATS, repeat=3)
    return sum(gaussians(options, np.linalg.norm(apart + image @ cell)) for image in images)


def overlap(options: Options, weights: Weights, name: str, expanded: Array) -> Array:
    """Computes f_ij, feature by feature (eqs. 6 and 8, with the biases of eq. 16)."""
    query = gaussians(options, 0.0) @ weights[f"{name}.Wq"]
    key = expanded @ weights[f"{name}.Wk"]
    if options["bias"]:
        query = query + weights[f"{name}.bq"]
        if not options["subtract_far_value"]:  # all that is left at infinite distance
            key = key + weights[f"{name}.bk"]
    return query * key


def attention(
    options: Options, weights: Weights, layer: str, order: int, expanded: Sequence[Sequence[Array]]
) -> Array:
    """Computes alpha_ij: the sum over all chains of `order` atoms from i to j, and over features.

    Atoms may occur more than once in a chain.
    """
    num_atoms = len(expanded)
    overlaps = []
    for step in range(order - 1):
        name = f"{layer}.overlap{0 if options['shared'] else step}"
        overlaps.append([[overlap(options, weights, name, g) for g in row] for row in expanded])
    coefficients = np.zeros((num_atoms, num_atoms))
    for chain in itertools.product(range(num_atoms), repeat=order):
        product = 1.0
        for step, (i, j) in enumerate(itertools.pairwise(chain)):
            product = product * overlaps[step][i][j]
        coefficients[chain[0], chain[-1]] += options["interval"] * product.sum()
    return coefficients / len(options["orders"]) if options["stream_scaling"] else coefficients


def energy(
    options: Options,
    weights: Weights,
    numbers: Sequence[int],
    positions: Array,
    cell: Array | None = None,
) -> float:
    """Computes the energy of one structure."""
    num_atoms = len(numbers)
    expanded = [[expand_pair(options, r - s, cell) for s in positions] for r in positions]
    streams = []
    for number, order in enumerate(options["orders"]):
        features = [weights[f"embedding.{z}"] for z in numbers]
        for index in range(options["n_layers"]):
            layer = f"stream{number}.layer{index}"
            alpha = attention(options, weights, layer, order, expanded)
            values = [v @ weights[f"{layer}.W"] + weights[f"{layer}.b"] for v in features]
            features = [
                features[i] + sum(alpha[i, j] * values[j] for j in range(num_atoms))
                for i in range(num_atoms)
            ]
        streams.append(features)
    total = 0.0
    for i in range(num_atoms):
        joined = np.concatenate([features[i] for features in streams])
        hidden = joined @ weights["readout.W1"] + weights["readout.b1"]
        if not options["linear"]:
            hidden = softplus(hidden) - math.log(2.0)
        total += (hidden @ weights["readout.W2"] + weights["readout.b2"])[0]
    return total
