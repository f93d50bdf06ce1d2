"""AlphaNet in plain NumPy, one structure at a time.

An independent reading of the specification from which the package's was written (sections are its),
in float64 and without cleverness: nothing is padded, masked or joined. Only weights come from the
model, by the names that they have there.

Reference: AlphaNet, 2025, https://arxiv.org/abs/2501.07155
"""

import itertools
import math
from typing import NamedTuple

import keras
import numpy as np

from tests.models.formulas import central_forces, central_stress, silu

SCALES = {1: 0.7, 6: 1.3, 7: 0.9, 8: 1.1}  # a and b of section 5
REFERENCES = {1: -0.4, 6: 1.7, 7: 0.6, 8: -2.1}
REPEATS = range(-4, 5)  # of the cells below, enough for 5 Å


class Item(NamedTuple):
    """Atomic numbers, positions and cell in Å, and along which lattice vectors it repeats."""

    numbers: list
    positions: np.ndarray
    cell: np.ndarray = np.zeros((3, 3))
    pbc: tuple = (False, False, False)


# Section 6, in the words of the package. In `smooth` the package has other numbers, and says so: a
# polynomial for the cosine, 0.01 for 1e-5 where sums are normalized, and `SOFTENING` for 1e-12 in
# the phase and in the modulus, there times the size of the map. Besides, there is no `shortest`
# distance (section 1) in this variant.
V1 = {
    "radial_basis": "bessel",
    "frame": "raw_mean",
    "measure": "absolute",
    "cutoff_function": "cosine",
    "message_envelope": False,
    "phase": "atan2",
    "modulus": "plain",
    "max_num_neighbors": 50,
    "message_epsilon": 1e-5,
    "epsilon": 1e-10,
    "shortest": 1e-2,
}
V2 = V1 | {
    "frame": "edge_mean",
    "measure": "square",
    "modulus": "shifted",
    "max_num_neighbors": None,
    "epsilon": 1e-9,
}
SMOOTH = V2 | {
    "radial_basis": "damped_bessel",
    "frame": "weighted_mean",
    "cutoff_function": "polynomial",
    "message_envelope": True,
    "phase": "sin",
    "modulus": "smooth",
    "message_epsilon": 1e-2,
    "epsilon": 1e-10,
    "shortest": 0.0,
}
SOFTENING = 1e-2
VARIANTS = {"smooth": SMOOTH, "v2": V2, "v1": V1, "p": V1 | {"radial_basis": "damped_gaussian"}}
DEFAULTS = {
    "variant": "smooth",
    "norm_epsilon": 1e-5,
    "normalized_frame": False,
    "message_norm": "all",
    "reduce": "sum",
    "without": [],
    "zbl": False,
}


def normalize(x, epsilon):
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)


def even(x, measure):
    return x**2 if measure == "square" else np.abs(x)


def envelope(kind, x):
    """Goes from one at x = d / cutoff = 0 to zero at one."""
    if kind == "cosine":  # section 3, the only one there
        return (1.0 + np.cos(np.pi * x)) / 2.0
    if kind == "polynomial":  # Gasteiger et al., 2020, eq. 8 with p = 6
        return 1.0 - 28.0 * x**6 + 48.0 * x**7 - 21.0 * x**8
    return np.exp(1.0 - 1.0 / (1.0 - x**2))


def zbl(first, second, distance):
    """Computes the repulsion of a pair (section 5)."""
    if distance >= 1.0:
        return 0.0
    weights = np.asarray([0.187, 0.3769, 0.189, 0.081, 0.003, 0.037, 0.0546, 0.0715])
    rates = np.asarray([3.20, 1.10, 0.102, 0.958, 1.28, 1.14, 1.69, 5.0])
    length = 1.001 * 0.8854 * 0.529177210903 / (first**0.6032 + second**0.6032)
    screening = weights @ np.exp(-rates * distance / length) / weights.sum()
    energy = first * second * 14.399645478425 * screening / distance
    return energy * (1.0 + math.cos(math.pi * distance)) / 2.0


class Network:
    """The network that options describe, with a model's weights."""

    def __init__(self, model, options):
        variant = VARIANTS[options.get("variant", "smooth")]
        self.model, self.options, self.weights = model, DEFAULTS | variant | options, {}

    def weight(self, name):
        if name not in self.weights:
            found = self.model
            for part in name.split("."):
                found = found[int(part)] if part.isdigit() else getattr(found, part)
            self.weights[name] = keras.ops.convert_to_numpy(found)
        return self.weights[name]

    def dense(self, name, x, bias=True):
        product = x @ self.weight(f"{name}.kernel")
        return product + self.weight(f"{name}.bias") if bias else product

    def perceptron(self, hidden, output, x):
        return self.dense(output, silu(self.dense(hidden, x)))

    def layer_norm(self, name, x, epsilon):
        return normalize(x, epsilon) * self.weight(f"{name}.gamma") + self.weight(f"{name}.beta")

    # ----- sections 1 and 3: edges, embedding and local structure

    def find_edges(self, item):
        """Finds receivers, senders, and vectors to all images of the senders."""
        repeats = [REPEATS if periodic else (0,) for periodic in item.pbc]
        shifts = np.asarray(list(itertools.product(*repeats))) @ item.cell
        x = item.positions
        vectors = x[None, :, None] + shifts - x[:, None, None]
        lengths = np.linalg.norm(vectors, axis=-1)
        lengths[(lengths <= self.options["shortest"]) | (lengths == 0.0)] = np.inf
        kept = lengths <= self.options["cutoff"]
        most = self.options["max_num_neighbors"]
        for atom, reached in enumerate(np.count_nonzero(kept, axis=(1, 2))):
            if most is not None and reached > most:
                last, next_one = np.sort(lengths[atom], axis=None)[most - 1 : most + 1]
                assert next_one - last > 1e-4, "which of them is the nearest must be clear"
                kept[atom] &= lengths[atom] <= last
        receivers, senders, _ = np.nonzero(kept)
        return receivers, senders, vectors[kept]

    def sum(self, values):
        """Adds what edges carry up at their receivers."""
        totals = np.zeros((self.num_atoms, *values.shape[1:]))
        np.add.at(totals, self.receivers, values)
        return totals

    def radial_basis(self, w):
        kind, cutoff = self.options["radial_basis"], self.options["cutoff"]
        if kind == "damped_gaussian":
            number, nearest = self.options["num_radial"], math.exp(-cutoff)
            centers = np.linspace(nearest, 1.0, number)
            beta = (2.0 / number * (1.0 - nearest)) ** -2
            return w * np.exp(-beta * (np.exp(-self.lengths) - centers) ** 2)
        frequencies = self.weight("radial_basis.frequencies")
        bessel = 2.0 / cutoff * np.sin(frequencies * self.lengths / cutoff) / self.lengths
        return w * bessel if kind == "damped_bessel" else bessel

    def frames(self, positions, vectors, u, w):
        """Computes f1, f2 and f3 of each edge, `(num_edges, 3, 3)`."""
        neighbors = np.maximum(self.sum(np.ones_like(w)), 1.0)
        if self.options["frame"] == "raw_mean":
            means = (self.sum(positions[self.senders]) / neighbors)[self.receivers]
            f2 = np.cross(positions[self.receivers] - means, positions[self.senders] - means)
        elif self.options["frame"] == "edge_mean":
            f2 = np.cross(vectors, (self.sum(vectors) / neighbors)[self.receivers])
        else:
            f2 = np.cross(vectors, (self.sum(w * vectors) / (self.sum(w) + 1e-3))[self.receivers])
        f3 = np.cross(u, f2)
        if self.options["normalized_frame"]:
            f2, f3 = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (f2, f3))
        return np.stack([u, f2, f3], axis=1)

    def scalarize(self, frames, vectors):
        """Computes A: scalars of the vectors at one end of each edge."""
        sigma = np.einsum("efx,exc->ecf", frames, vectors)
        along = sigma[:, :, 0].copy()
        sigma[:, :, 1] = even(sigma[:, :, 1], self.options["measure"])
        mixed = self.perceptron("scalarization.hidden", "scalarization.output_map", sigma)
        return (mixed[:, :, 0] + along) / math.sqrt(self.options["num_features"])

    # ----- section 4: layers

    def angles(self, layer, x, filters):
        """Computes theta of each edge (section 4.2)."""
        heads, chi = self.options["num_heads"], self.options["chi_features"]
        name = f"{layer}.phase_message"
        psi = self.dense(f"{name}.heads_map", x)
        psi = (psi[:, :chi] + 1j * psi[:, chi:]).reshape(-1, heads, chi // heads)
        psi = np.concatenate([np.ones((len(x), 1, chi // heads)), psi], axis=1)
        kernel = self.weight(f"{name}.kernel_real") + 1j * self.weight(f"{name}.kernel_imag")
        c = np.einsum("ehl,hlk->ek", psi, kernel)
        c = c / math.sqrt(self.options["num_features"] // heads)
        gates = silu(self.perceptron(f"{name}.gate_hidden", f"{name}.gate_output", filters))
        diagonal = gates[:, :, None] * self.weight(f"{name}.diagonal") + 1.0
        k = (c[:, :, None] * self.dense(f"{name}.diagonal_map", diagonal)).sum(axis=1)
        real, imaginary = (self.dense(f"{name}.phase_map", part) for part in (k.real, k.imag))
        if self.options["phase"] == "atan2":
            return np.arctan2(imaginary, real)
        modulus = np.sqrt(real**2 + imaginary**2 + SOFTENING)
        parts = [imaginary] if self.options["phase"] == "sin" else [real, imaginary]
        return np.concatenate([part / modulus for part in parts], axis=1)

    def send(self, layer, s, vectors, u, w, rho, structure):
        """Computes omega and what is added to scalars and vectors (sections 4.1 to 4.3)."""
        width = self.options["num_features"]
        y = self.layer_norm(f"{layer}.normalization", s, self.options["norm_epsilon"])
        y = self.perceptron(f"{layer}.atom_hidden", f"{layer}.atom_output", y)
        filters = self.perceptron(f"{layer}.edge_hidden", f"{layer}.edge_output", structure)
        filters = filters * self.dense(f"{layer}.radial_map", rho)
        x, x2, x3 = np.split(y[self.senders] * filters, 3, axis=1)
        x2 = x2 / math.sqrt(3.0)
        theta = np.zeros((len(x), 0))
        if "phase" not in self.options["without"]:
            theta = self.angles(layer, x, filters)
        factors = w if self.options["message_envelope"] else np.ones_like(w)
        sums = self.sum(factors * np.concatenate([theta, x], axis=1))
        added = vectors[self.senders] * x2[:, None, :] + u[:, :, None] * x3[:, None, :]
        added = self.sum(factors[:, :, None] * added) / math.sqrt(width)
        if self.options["reduce"] == "mean":  # over all messages, vectors too
            number = self.sum(factors)
            smooth = self.options["variant"] == "smooth"  # without the kink that a maximum has
            number = np.sqrt(1.0 + number**2) if smooth else np.maximum(number, 1.0)
            sums, added = sums / number, added / number[:, :, None]
        norm, epsilon = f"{layer}.sum_normalization", self.options["message_epsilon"]
        if self.options["message_norm"] == "all":
            sums = self.layer_norm(norm, sums, epsilon)
        theta, sums = np.split(sums, [theta.shape[1]], axis=1)
        if self.options["message_norm"] == "phases":
            theta = self.layer_norm(norm, theta, epsilon)
        if "phase" in self.options["without"]:
            return None, sums, added
        return np.exp(1j * self.dense(f"{layer}.angle_map", theta)), sums, added

    def turn_state(self, connection, s, phi):
        """Computes Phi (section 4.4)."""
        name = f"connections.{connection}"
        kernel = self.weight(f"{name}.kernel_real") + 1j * self.weight(f"{name}.kernel_imag")
        phi = np.einsum("nc,ckl,nl->nk", s, kernel, phi)
        modulus = {
            "plain": np.abs(phi),
            "shifted": np.abs(phi) + self.options["epsilon"],
            "smooth": np.sqrt(phi.real**2 + phi.imag**2 + SOFTENING * kernel[..., 0].size),
        }
        return phi / modulus[self.options["modulus"]]

    def change_frame(self, transition, s, vectors):
        """Lets scalars and vectors of an atom mix (section 4.5)."""
        name = f"transitions.{transition}"
        first, second = np.split(self.dense(f"{name}.vector_maps", vectors, bias=False), 2, axis=2)
        nu = even(first, self.options["measure"]).sum(axis=1)
        dot = (first * second).sum(axis=1) / math.sqrt(self.options["num_features"])
        q = np.concatenate([s, nu], axis=1)
        q = self.perceptron(f"{name}.hidden", f"{name}.outputs", q)
        q1, q2, q3 = np.split(q, 3, axis=1)
        return s + (q1 + q2 + dot) / math.sqrt(2.0), vectors + q3[:, None, :] * second

    # ----- the whole

    def __call__(self, item):
        """Computes the energy of each atom, `(num_atoms,)`, references left out."""
        numbers, width = np.asarray(item.numbers), self.options["num_features"]
        epsilon = self.options["norm_epsilon"]
        self.num_atoms = len(numbers)
        self.receivers, self.senders, vectors = self.find_edges(item)
        self.lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        u = vectors / (self.lengths + self.options["epsilon"])
        w = envelope(self.options["cutoff_function"], self.lengths / self.options["cutoff"])
        rho = self.radial_basis(w)
        r = w * self.perceptron("radial_hidden", "radial_filter", rho)
        a = normalize(self.weight("embedding.embeddings")[numbers], epsilon)
        sent = normalize(self.weight("neighbor_embedding.embeddings")[numbers], epsilon)
        s = a + self.sum(r * sent[self.senders])
        g = silu(normalize(self.dense("structure_map", s), epsilon))
        local = self.sum(u[:, :, None] * (r * g[self.senders])[:, None, :])
        frames = self.frames(item.positions, vectors, u, w)
        seen = [w * self.scalarize(frames, local[ends]) for ends in (self.receivers, self.senders)]
        structure = np.concatenate([*seen, r, rho], axis=1)

        half, vectors, omega = width // 2, np.zeros((self.num_atoms, 3, width)), None
        if "phase" not in self.options["without"]:
            phi = self.dense("start_map", a, bias=False)
            phi = phi[:, : phi.shape[1] // 2] + 1j * phi[:, phi.shape[1] // 2 :]
        for index in range(self.options["num_layers"]):
            turned = s
            if omega is not None and "rotation" not in self.options["without"]:
                turned = (s[:, :half] + 1j * s[:, half:]) * omega
                turned = np.concatenate([turned.real, turned.imag], axis=1)
            layer = f"interactions.{index}"
            omega, added, added_vectors = self.send(layer, turned, vectors, u, w, rho, structure)
            s, vectors = s + added, vectors + added_vectors
            if "phase" not in self.options["without"]:
                phi = self.turn_state(index, s, phi)
            if "frame_transition" not in self.options["without"]:
                s, vectors = self.change_frame(index, s, vectors)

        energies = self.dense("readouts.0.from_features", s)[:, 0]
        if "phase" not in self.options["without"]:
            state = np.concatenate([phi.real, phi.imag], axis=1)
            state = self.dense("readouts.0.from_state", state)[:, 0]
            energies = energies + state / self.options["state_features"]
        energies = energies * [SCALES[number] for number in item.numbers]
        if self.options["zbl"]:
            pairs = zip(numbers[self.receivers], numbers[self.senders], self.lengths, strict=True)
            energies += 0.5 * self.sum(np.asarray([zbl(i, j, float(d[0])) for i, j, d in pairs]))
        return energies

    def forces(self, item):
        return central_forces(
            lambda positions: self(item._replace(positions=positions)).sum(), item.positions
        )

    def stress(self, item):
        """Positive under tension (section 5)."""

        def energy(positions, cell):
            return self(item._replace(positions=positions, cell=cell)).sum()

        return central_stress(energy, item.positions, item.cell)
