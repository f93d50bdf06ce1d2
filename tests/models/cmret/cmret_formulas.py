"""CMRET in plain NumPy, one molecule, atom and pair at a time.

An independent reading of the paper's equations in float64, without cleverness: nothing is padded,
masked or joined. Where the paper and its program differ, this is the program. Hyper-parameters and
weights have that program's names, matrices are (in, out), positions are in Å.

Reference: Tao, Morimoto and Leoni, 2023, https://arxiv.org/abs/2308.10752
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tests.models.formulas import silu, softplus

Array = np.ndarray

SUBSHELLS = [
    "1s", "2s", "2p", "3s", "3p", "4s", "3d", "4p", "5s", "4d", "5p", "6s", "4f", "5d", "6p", "7s",
    "5f", "6d", "7p", "6f", "7d", "7f",
]  # fmt: skip
CAPACITIES = {"s": 2, "p": 6, "d": 10, "f": 14}


def electron_configuration(number: int) -> Array:
    """Pours the electrons into the subshells from left to right, without the real exceptions."""
    row = []
    for subshell in SUBSHELLS:
        row.append(min(number, CAPACITIES[subshell[-1]]))
        number -= row[-1]
    return np.asarray(row, np.float64)


ELEMENTWISE = {
    "swish": silu,
    "softplus": softplus,
    "gelu": lambda x: 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0))),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "relu": lambda x: np.where(x > 0.0, x, 0.0),
}


def attention_weights(scores: Array, activation: str) -> Array:
    """Turns the scores of one head, a row for each atom i over all atoms j, into weights."""
    if activation == "softmax":
        return np.asarray([np.exp(row) / np.exp(row).sum() for row in scores])
    if activation == "softmax2d":  # over all pairs of the molecule
        return np.exp(scores) / np.exp(scores).sum()
    return ELEMENTWISE[activation](scores)


def initial_components(mode: str, charge: float, spin: float, nuclear: float) -> list[float]:
    """Gives what the vectors start with, the same for every atom and feature."""
    kappa = (spin - charge) / nuclear
    root3 = math.sqrt(3.0)
    return {
        "vector": [kappa, kappa, kappa],  # eq. 9
        "invariant": [0.0, 0.0, 0.0, root3 * kappa],
        "invariant_qs": [
            0.0,
            0.0,
            0.0,
            root3 * (1.0 - charge / nuclear),
            root3 * spin / nuclear,
        ],
        "none": [0.0, 0.0, 0.0],
    }[mode]


class CMRET:
    """The network that hyper-parameters and weights describe.

    Args:
        options: Hyper-parameters by the reference program's names, none left out.
        weights: By the reference program's names.
        charge_spin: How charge and spin enter; the program knows `"vector"` alone.
        norm_mode: How vectors are measured; the program knows `"component_shift"` alone.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        weights: Mapping[str, Array],
        charge_spin: str,
        norm_mode: str,
    ) -> None:
        self.options, self.weights = options, weights
        self.charge_spin, self.norm_mode = charge_spin, norm_mode

    def dense(self, name: str, x: Array) -> Array:
        product = x @ self.weights[f"{name}.W"]
        return product + self.weights[f"{name}.b"] if f"{name}.b" in self.weights else product

    # ----- pairs

    def envelope(self, distance: float) -> float:
        cutoff = self.options["cutoff"]
        return 0.5 * (math.cos(math.pi * distance / cutoff) + 1.0) if distance <= cutoff else 0.0

    def radial_basis(self, distance: float) -> Array:
        if self.options["rbf_type"] == "bessel":
            frequencies = [
                k * math.pi / self.options["cutoff"] for k in range(1, self.options["n_kernel"] + 1)
            ]
            return np.asarray([math.sin(f * distance) / distance for f in frequencies])
        centers, betas = self.weights["rbf.centers"], self.weights["rbf.betas"]
        return np.exp(-betas * (math.exp(-distance) - centers) ** 2)

    def message(self, layer: str, hidden_i: Array, hidden_j: Array, distance: float) -> list[Array]:
        """Computes the three parts of m_ij (eq. 8 with the program's further factor phi)."""
        phi = self.envelope(distance)
        edge = phi * self.radial_basis(distance)
        x = hidden_i * silu(self.dense(f"{layer}.filter_self", edge)) * phi
        y = hidden_j * silu(self.dense(f"{layer}.filter_nbr", edge)) * phi
        return np.split(self.dense(f"{layer}.mix", np.concatenate([x, y])) * phi, 3)

    # ----- layers

    def attend(self, layer: str, scalars: Array) -> Array:
        """Computes t_i, from all atoms of the molecule, atom i included, however far."""
        num_atoms, num_heads = len(scalars), self.options["num_head"]
        width = self.options["n_atom_basis"] // num_heads
        tau = math.sqrt(self.options["temperature_coeff"] * width)
        queries, keys, values = (self.dense(f"{layer}.{name}", scalars) for name in "qkv")
        attended = np.zeros_like(scalars)
        for head in range(num_heads):
            block = slice(head * width, (head + 1) * width)
            scores = np.empty((num_atoms, num_atoms))
            for i in range(num_atoms):
                for j in range(num_atoms):
                    scores[i, j] = queries[i, block] @ keys[j, block] / tau
            coefficients = attention_weights(scores, self.options["attention_activation"])
            for i in range(num_atoms):
                for j in range(num_atoms):
                    attended[i, block] += coefficients[i, j] * values[j, block]
        return attended

    def interact(
        self, layer: str, scalars: Array, vectors: Array, positions: Array
    ) -> tuple[Array, Array, Array]:
        """Computes the scalars and vectors that replace the old, and what is added to o."""
        attended = self.attend(layer, scalars)
        hidden = silu(self.dense(f"{layer}.phi", scalars))
        new_scalars, new_vectors = np.empty_like(scalars), np.empty_like(vectors)
        added = np.empty_like(scalars)
        for i in range(len(scalars)):
            to_scalars, to_vectors = np.zeros_like(scalars[i]), np.zeros_like(vectors[i])
            for j in range(len(scalars)):
                if j == i:
                    continue
                apart = positions[i] - positions[j]
                distance = np.linalg.norm(apart)
                m1, m2, m3 = self.message(layer, hidden[i], hidden[j], distance)
                to_scalars += m1
                to_vectors += m2 * vectors[i]  # the atom's own vector, not the neighbor's
                for axis in range(3):  # directions do not reach what carries charge and spin
                    to_vectors[axis] += m3 * apart[axis] / distance
            total = scalars[i] + attended[i] + to_scalars
            g1, g2, g3 = np.split(self.dense(f"{layer}.O", total), 3)
            u1, u2, u3 = np.split(self.dense(f"{layer}.U", vectors[i]), 3, axis=-1)
            new_scalars[i] = g1 + g2 * (u1 * u2).sum(axis=0)
            new_vectors[i] = g3 * u3 + to_vectors
            inner = silu(self.dense(f"{layer}.res1", new_scalars[i]))
            added[i] = new_scalars[i] + self.dense(f"{layer}.res2", inner)
        return new_scalars, new_vectors, added

    def features(
        self, numbers: Sequence[int], positions: Array, charge: float, spin: float
    ) -> Iterator[tuple[Array, Array]]:
        """Computes the scalars and vectors of each atom before the heads."""
        width = self.options["n_atom_basis"]
        components = initial_components(self.charge_spin, charge, spin, sum(numbers))
        scalars = np.stack([self.dense("embed", electron_configuration(z)) for z in numbers])
        vectors = np.stack([np.outer(components, np.ones(width)) for _ in numbers])
        outputs = np.zeros_like(scalars)
        for index in range(self.options["n_interaction"]):
            scalars, vectors, added = self.interact(f"layer{index}", scalars, vectors, positions)
            outputs += added  # scalars and vectors are replaced, this alone accumulates
        for output, vector in zip(outputs, vectors, strict=True):
            normal = (output - output.mean()) / math.sqrt(output.var() + 1e-5)
            yield normal * self.weights["norm.gamma"] + self.weights["norm.beta"], vector

    # ----- heads

    def measure(self, components: Array) -> Array:
        if self.norm_mode == "component_shift":
            return np.sqrt(((components + 1e-8) ** 2).sum(axis=0))
        return np.sqrt((components**2).sum(axis=0) + 1e-6**2) - 1e-6

    def gate(self, head: str, scalars: Array, vectors: Array) -> tuple[Array, Array]:
        """Sends one atom through the gated blocks of a head."""
        for index in range(self.options["n_output"]):
            block = f"head_{head}.block{index}"
            lengths = self.measure(self.dense(f"{block}.Vv", vectors))
            inner = silu(self.dense(f"{block}.mlp1", np.concatenate([scalars, lengths])))
            scalars, gate = np.split(self.dense(f"{block}.mlp2", inner), 2)
            vectors = self.dense(f"{block}.Vu", vectors) * gate
        return scalars, vectors

    def __call__(
        self,
        heads: Sequence[str],
        numbers: Sequence[int],
        positions: Array,
        charge: float = 0.0,
        spin: float = 0.0,
    ) -> dict[str, Any]:
        """Computes the properties of some heads; S = 1/2 is a doublet."""
        center = sum(z * r for z, r in zip(numbers, positions, strict=True)) / sum(numbers)
        totals: dict[str, Any] = dict.fromkeys(heads, 0.0)
        features = self.features(numbers, positions, charge, spin)
        for (scalars, vectors), position in zip(features, positions, strict=True):
            offset = position - center
            for head in heads:
                x, v = self.gate(head, scalars, vectors)
                if head == "scalar":
                    totals[head] += self.dense("head_scalar.out", x)[0]
                    continue
                s = self.dense(f"head_{head}.out_s", x)[0]
                if head == "r2":  # eq. 12 with the program's square
                    totals[head] += s * (offset @ offset)
                    continue
                vector = self.dense(f"head_{head}.out_v", v[:3])[:, 0]
                if head == "dipole":
                    totals[head] += vector + s * offset
                else:
                    totals[head] += (
                        s * np.eye(3) + np.outer(vector, offset) + np.outer(offset, vector)
                    )
        names = {
            "scalar": "energy",
            "dipole": "dipole",
            "alpha": "polarizability",
            "r2": "spatial_extent",
        }
        properties = {names[head]: total for head, total in totals.items()}
        for name in ("dipole", "polarizability"):
            if name in properties:
                properties[f"{name}_norm"] = np.sqrt((properties[name] ** 2).sum())
        return properties
