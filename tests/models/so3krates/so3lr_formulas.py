"""SO3LR in plain NumPy, by the names of its parameters, one structure and all ordered pairs.

An independent reading of the specification in float64, without cleverness.

Reference: Kabylda et al., 2025, https://doi.org/10.1021/jacs.5c09558
"""

import itertools
import math

import numpy as np

from keras_mlff.layers.free_atoms import FREE_ATOMS
from tests.models.formulas import silu, softplus
from tests.models.so3krates.so3krates_formulas import harmonics

CONSTANTS = {  # hartree in eV, bohr in Å, fine structure constant
    2014: (27.211386024367243, 0.5291772105638411, 0.007297352566206496),
    2018: (27.211386245988, 0.529177210903, 0.0072973525693),
}
NEIGHBORS = 13.168995780096482
SHARED = "observables_0/electrostatic_energy/partial_charges"


def switch(r, first, last):
    def rise(t):
        return np.where(t > 0, np.exp(-1 / np.where(t > 0, t, 1)), 0.0)

    u = (r - first) / (last - first)
    return rise(1 - u) / (rise(1 - u) + rise(u))


def far_pairs(positions, cutoff, cell=None):
    """Lists all ordered pairs up to a cutoff: receivers, senders, vectors `(num_pairs, 3)`."""
    shifts = np.zeros((1, 3))
    if cell is not None:
        shifts = np.asarray(list(itertools.product(range(-4, 5), repeat=3))) @ np.asarray(cell)
    vectors = positions[None, :, None] + shifts - positions[:, None, None]
    lengths = np.linalg.norm(vectors, axis=-1)
    receivers, senders, images = np.nonzero((lengths > 0) & (lengths <= cutoff))
    return receivers, senders, vectors[receivers, senders, images]


def halves(pairs, energies, number):
    return 0.5 * np.bincount(pairs[0], energies, minlength=number)


def coulomb(pairs, charges, cutoff, damping=4.0, codata=2014):
    hartree, bohr, _ = CONSTANTS[codata]
    i, j, vectors = pairs
    r = np.linalg.norm(vectors, axis=1)
    potential = np.asarray([math.erf(x) for x in r / damping]) / r
    if cutoff < math.inf:
        end = math.erf(cutoff / damping)
        slope = 2 * cutoff * math.exp(-((cutoff / damping) ** 2)) / (damping * math.pi**0.5)
        slope = (slope - end) / cutoff**2
        shifted = potential - end / cutoff
        f = switch(r, 0.45 * cutoff, cutoff)
        potential = f * shifted + (1 - f) * (shifted - (r - cutoff) * slope)
    return halves(pairs, hartree * bohr * charges[i] * charges[j] * potential, len(charges))


def dispersion(pairs, numbers, ratios, cutoff, taper=2.0, codata=2014):
    hartree, bohr, fine = CONSTANTS[codata]
    free = np.asarray([FREE_ATOMS[z] for z in numbers])
    alpha, own = free[:, 0] * ratios, free[:, 1] * ratios**2
    i, j, vectors = pairs
    r = np.linalg.norm(vectors, axis=1)
    mean = (alpha[i] + alpha[j]) / 2
    c6 = 2 * own[i] * own[j] * alpha[i] * alpha[j]
    c6 = c6 / (alpha[i] ** 2 * own[j] + alpha[j] ** 2 * own[i])
    x = fine ** (-4 / 21) * mean ** (1 / 7)
    sigma = -0.00078893 * x**3 + 0.04125273 * x**2 + 0.24428889 * x - 0.00433008
    gamma = 1 / (2 * sigma**2)
    p = 1.2 * 2 * 2.54 * mean ** (1 / 7)
    coefficients = {6: c6, 8: 5 * c6 / gamma, 10: 245 / 8 * c6 / gamma**2}
    energies = -sum(c / ((r / bohr) ** n + p**n) for n, c in coefficients.items()) * hartree
    if cutoff < math.inf:
        energies = energies * switch(r, cutoff - taper, cutoff)
    return halves(pairs, energies, len(numbers))


class Network:
    """The energies of SO3LR for parameters by their flax paths, cutoff 4.5 Å."""

    def __init__(self, weights, long_range_cutoff):
        self.weights = {key: value.astype("float64") for key, value in weights.items()}
        self.far = long_range_cutoff

    def dense(self, name, x):
        return x @ self.weights[f"{name}/kernel"] + self.weights[f"{name}/bias"]

    def __call__(self, numbers, positions, cell=None, charge=0.0, multiplicity=1):
        numbers, positions = np.asarray(numbers), np.asarray(positions, float)
        weights, dense = self.weights, self.dense
        pairs = far_pairs(positions, 4.5, cell)
        h = weights["feature_embeddings_0/Embed_0/embedding"][numbers]
        for place, amount in enumerate((charge, multiplicity - 1), start=1):
            h = h + self.share(
                f"feature_embeddings_{place}/ChargeSpinEmbedSparse_0", amount, numbers
            )
        h = h / math.sqrt(3)
        q = np.zeros((len(numbers), 24))
        outputs = {}
        for layer in range(sum("Wq1" in key for key in weights)):
            h, q = self.layer(f"layers_{layer}", h, q, pairs)
            outputs |= {f"layer{layer}/features": h, f"layer{layer}/coordinates": q}
        name = "observables_0/energy_dense"
        raw = dense(f"{name}_final", silu(dense(f"{name}_regression", h)))[:, 0]
        network = weights["observables_0/atomic_scales"][numbers] * raw
        network = network + weights["observables_0/energy_offset"][numbers]
        hidden = silu(dense(f"{SHARED}/charge_dense_regression_vec", h))
        charges = dense(f"{SHARED}/charge_dense_final_vec", hidden)[:, 0]
        charges = charges + weights[f"{SHARED}/Embed_0/embedding"][numbers, 0]
        charges = charges + (charge - charges.sum()) / len(numbers)
        name = "observables_2/hirshfeld_ratios_dense"
        product = dense(f"{name}_final", silu(dense(f"{name}_regression", h)))
        table = weights["observables_2/Embed_1/embedding"][numbers]
        ratios = (table * product).sum(axis=1) / math.sqrt(table.shape[1])
        ratios = abs(weights["observables_2/Embed_0/embedding"][numbers, 0] + ratios)
        far = far_pairs(positions, self.far, cell)
        outputs |= {
            "partial_charges": charges,
            "hirshfeld_ratios": ratios,
            "repulsion": self.repulsion(pairs, numbers),
            "electrostatics": coulomb(far, charges, self.far),
            "dispersion": dispersion(far, numbers, ratios, self.far),
        }
        terms = ("repulsion", "electrostatics", "dispersion")
        return {"energy": (network + sum(outputs[term] for term in terms)).sum(), **outputs}

    def share(self, name, amount, numbers):
        """Embeds the shares of charge or spin."""
        queries, keys, values = (self.weights[f"{name}/Embed_{k}/embedding"] for k in range(3))
        row = int(amount < 0)
        parts = softplus(queries[numbers] @ keys[row] / math.sqrt(keys.shape[1]))
        e = np.outer(amount * parts / parts.sum(), values[row])
        first, second = (self.weights[f"{name}/Residual_0/layers_{k}/kernel"] for k in range(2))
        return e + silu(silu(e) @ first) @ second

    def layer(self, name, h, q, pairs):
        i, j, vectors = pairs
        r = np.linalg.norm(vectors, axis=1)
        t = np.exp(-float(np.float32(0.9448630629184640)) * r)[:, None]
        last = self.weights[f"{name}/attention_block/radial_filter1_layer_1/kernel"].shape[0] - 1
        k = np.arange(last + 1)
        basis = [math.comb(last, m) for m in k] * t**k * (1 - t) ** (last - k)
        x = r / 4.5
        w = np.where(x < 1, 1 - 6 * x**5 + 15 * x**4 - 10 * x**3, 0.0) / NEIGHBORS
        parts = invariants(q[j] - q[i])
        values = []
        for place in (1, 2):
            f = 0.0
            for kind, seen in (("radial", basis), ("spherical", parts)):
                filter_name = f"{name}/attention_block/{kind}_filter{place}_layer"
                f = f + self.dense(f"{filter_name}_2", silu(self.dense(f"{filter_name}_1", seen)))
            query, key = (self.heads(f"{name}/attention_block/W{c}{place}", h) for c in "qk")
            f = f.reshape(len(r), 4, h.shape[1] // 4)
            values.append((query[i] * f * key[j]).sum(axis=2) * w[:, None])  # (num_pairs, 4)
        messages = values[0][:, :, None] * self.heads(f"{name}/attention_block/Wv1", h)[j]
        h1, q1 = h.copy(), q.copy()
        np.add.at(h1, i, messages.reshape(len(r), h.shape[1]))
        units = vectors / r[:, None]
        rows = [np.reshape([harmonics(d, u) for u in units], (-1, 2 * d + 1)) for d in (1, 2, 3, 4)]
        steps = [values[1][:, d : d + 1] * rows[d] for d in range(4)]
        np.add.at(q1, i, np.concatenate(steps, axis=1))
        h2 = self.norm(f"{name}/layer_normalization_1", h1)
        perceptron = silu(self.dense(f"{name}/res_mlp_1_layer_1", silu(h2)))
        h3 = h2 + self.dense(f"{name}/res_mlp_1_layer_2", perceptron)
        y = np.concatenate([h3, invariants(q1)], axis=1)
        y = self.dense(f"{name}/exchange_block/mlp_layer_2", y)
        gates = np.repeat(y[:, h.shape[1] :], [3, 5, 7, 9], axis=1)
        h4 = h3 + y[:, : h.shape[1]]
        return self.norm(f"{name}/layer_normalization_2", h4), (1 + gates) * q1

    def heads(self, name, h):
        """Maps each head's slice: `(num_atoms, 4, width)`."""
        return np.einsum("hoi,ahi->aho", self.weights[name], h.reshape(len(h), 4, -1))

    def norm(self, name, h):
        centered = h - h.mean(axis=1, keepdims=True)
        scaled = centered / np.sqrt(h.var(axis=1, keepdims=True) + 1e-6)
        return scaled * self.weights[f"{name}/scale"] + self.weights[f"{name}/bias"]

    def repulsion(self, pairs, numbers):
        i, j, vectors = pairs
        get = {k: softplus(self.weights[f"observables_0/zbl_repulsion/{k}"][0]) for k in NAMES}
        r, x = np.linalg.norm(vectors, axis=1), np.linalg.norm(vectors, axis=1) / 4.5
        scaled = r * (numbers[i] ** get["p"] + numbers[j] ** get["p"]) * get["d"]
        total = sum(get[f"c{k}"] for k in (1, 2, 3, 4))
        phi = sum(get[f"c{k}"] / total * np.exp(-get[f"a{k}"] * scaled) for k in (1, 2, 3, 4))
        w = np.where(x < 1, 1 - 6 * x**5 + 15 * x**4 - 10 * x**3, 0.0)
        energies = 14.399645351950548 * numbers[i] * numbers[j] / r * phi * w * switch(r, 0, 1.5)
        return halves(pairs, energies, len(numbers))


NAMES = [*(f"{letter}{k}" for letter in "ac" for k in (1, 2, 3, 4)), "p", "d"]


def invariants(q):
    squares = np.add.reduceat(q**2, [0, 3, 8, 15], axis=1)
    return squares / np.sqrt([3, 5, 7, 9])


def random_weights(width=8, layers=2, radial=5, spherical=3, basis=6):
    """Draws parameters of a small network of the same names and kinds."""
    random = np.random.default_rng(0)
    shapes = {"feature_embeddings_0/Embed_0/embedding": (119, width)}
    for place in (1, 2):
        name = f"feature_embeddings_{place}/ChargeSpinEmbedSparse_0"
        rows = (119, 2, 2)
        shapes |= {f"{name}/Embed_{k}/embedding": (n, width) for k, n in enumerate(rows)}
        shapes |= {f"{name}/Residual_0/layers_{k}/kernel": (width, width) for k in range(2)}
    dense = {}
    for layer in range(layers):
        name = f"layers_{layer}"
        letters = ("q1", "k1", "v1", "q2", "k2")
        head = (4, width // 4, width // 4)
        shapes |= {f"{name}/attention_block/W{letter}": head for letter in letters}
        for kind, seen, hidden in (("radial", basis, radial), ("spherical", 4, spherical)):
            for k in (1, 2):
                dense[f"{name}/attention_block/{kind}_filter{k}_layer_1"] = (seen, hidden)
                dense[f"{name}/attention_block/{kind}_filter{k}_layer_2"] = (hidden, width)
            dense[f"{name}/exchange_block/mlp_layer_2"] = (width + 4, width + 4)
        for k in (1, 2):
            norm = f"{name}/layer_normalization_{k}"
            shapes |= {f"{norm}/scale": (width,), f"{norm}/bias": (width,)}
            dense[f"{name}/res_mlp_1_layer_{k}"] = (width, width)
    dense["observables_0/energy_dense_regression"] = (width, width)
    dense["observables_0/energy_dense_final"] = (width, 1)
    dense[f"{SHARED}/charge_dense_regression_vec"] = (width, width)
    dense[f"{SHARED}/charge_dense_final_vec"] = (width, 1)
    dense["observables_2/hirshfeld_ratios_dense_regression"] = (width, width // 2)
    dense["observables_2/hirshfeld_ratios_dense_final"] = (width // 2, width // 2)
    for name, shape in dense.items():
        shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
    shapes |= {"observables_0/atomic_scales": (119,), "observables_0/energy_offset": (119,)}
    shapes |= {f"observables_0/zbl_repulsion/{name}": (1,) for name in NAMES}
    shapes |= {f"{SHARED}/Embed_0/embedding": (100, 1)}
    shapes |= {"observables_2/Embed_0/embedding": (100, 1)}
    shapes |= {"observables_2/Embed_1/embedding": (100, width // 2)}
    weights = {name: random.normal(size=shape) * 0.5 for name, shape in shapes.items()}
    return {name: value.astype("float32") for name, value in weights.items()}
