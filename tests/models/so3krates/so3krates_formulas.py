"""So3krates in plain NumPy, one structure and one pair of atoms at a time.

An independent reading of the specification in float64, without cleverness: nothing is padded,
masked or joined, and tables of harmonics and couplings are computed here. Where paper and program
differ, this is the program.

Reference: Frank, Unke and Müller, 2022, https://arxiv.org/abs/2205.14276
"""

import functools
import itertools
import math

import numpy as np

from tests.models.formulas import silu, softplus

VARIANTS = {
    "smooth": {
        "start": "scaled_sum",
        "invariants": "squared",
        "parity": True,
        "direction": "sender_minus_receiver",
        "cutoff_function": "polynomial",
        "coupling": True,
        "basis_envelope": True,
    },
    "paper": {
        "start": "mean",
        "invariants": "norm",
        "parity": False,
        "direction": "receiver_minus_sender",
        "cutoff_function": "cosine",
        "coupling": True,
        "basis_envelope": True,
    },
    "so3krates_v1": {
        "start": "zeros",
        "invariants": "squared",
        "direction": "sender_minus_receiver",
        "cutoff_function": "cosine",
        "coupling": False,
        "basis_envelope": False,
    },
}
BASE = {
    "variant": "smooth",
    "num_features": 6,
    "num_layers": 1,
    "num_radial": 4,
    "num_heads": 2,
    "degrees": (1, 2, 3),
    "cutoff": 3.0,
    "radial_basis": "fixed_exponential",
    "radial_hidden": (5,),
    "spherical_hidden": (4,),
    "nonlocal_": False,
    "activation": "silu",
}
HEAD = {
    "scale": 0.7,
    "references": {1: -0.5, 6: -1.5},
    "shift": 0.3,
    "element_scales": {1: 1.3, 8: 0.6},
}


# Harmonics and couplings


def harmonics(degree, vector):
    """Writes the real harmonics of one degree out, orders from -degree to degree."""
    x, y, z = vector
    x2, y2, z2 = x * x, y * y, z * z
    rows = [
        [(1/4, 1)],
        [(3/4, y), (3/4, z), (3/4, x)],
        [(15/4, x*y), (15/4, y*z), (5/16, 3*z2 - 1), (15/4, x*z), (15/16, x2 - y2)],
        [(35/32, y*(3*x2 - y2)), (105/4, x*y*z), (21/32, y*(5*z2 - 1)), (7/16, 5*z2*z - 3*z),
         (21/32, x*(5*z2 - 1)), (105/16, (x2 - y2)*z), (35/32, x*(x2 - 3*y2))],
        [(315/16, x*y*(x2 - y2)), (315/32, y*(3*x2 - y2)*z), (45/16, x*y*(7*z2 - 1)),
         (45/32, y*(7*z2*z - 3*z)), (9/256, 35*z2*z2 - 30*z2 + 3), (45/32, x*(7*z2*z - 3*z)),
         (45/64, (x2 - y2)*(7*z2 - 1)), (315/32, x*(x2 - 3*y2)*z),
         (315/256, x2*x2 - 6*x2*y2 + y2*y2)],
    ]  # fmt: skip
    return np.asarray([math.sqrt(square / math.pi) * value for square, value in rows[degree]])


def clebsch_gordan(first, second, out):
    """Builds <first m1 second m2|out m>, indices m, m1, m2, by lowering the highest state."""
    state = np.zeros((2 * first + 1, 2 * second + 1))
    m1, m2 = first, out - first
    state[m1 + first, m2 + second] = 1.0  # Condon-Shortley
    while m1 > -first and m2 < second:  # raised, all terms must cancel
        ratio = (second * (second + 1) - m2 * (m2 + 1)) / (first * (first + 1) - m1 * (m1 - 1))
        before = state[m1 + first, m2 + second]
        m1, m2 = m1 - 1, m2 + 1
        state[m1 + first, m2 + second] = -before * math.sqrt(ratio)
    states = [state / np.linalg.norm(state)]
    for m in range(out, -out, -1):
        lowered = lowering(first) @ states[-1] + states[-1] @ lowering(second).T
        states.append(lowered / math.sqrt(out * (out + 1) - m * (m - 1)))
    return np.asarray(states[::-1])


def lowering(degree):
    m = np.arange(-degree + 1, degree + 1)
    return np.diag(np.sqrt(degree * (degree + 1) - m * (m - 1)), 1)


def to_real(degree):
    """Builds the matrix from complex harmonics to real ones."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    matrix[degree, degree] = 1.0
    for m in range(1, degree + 1):
        for sign, factor in ((1, 1.0), (-1, 1j)):
            row = matrix[degree + sign * m]
            row[degree - m] = factor / math.sqrt(2.0)
            row[degree + m] = sign * (-1) ** m * factor / math.sqrt(2.0)
    return matrix


@functools.cache
def coupling(first, second, out):
    """Builds the real 3j symbol, indices out, first, second."""
    maps = to_real(out), to_real(first).conj(), to_real(second).conj()
    table = np.einsum("oc,fa,sb,cab->ofs", *maps, clebsch_gordan(first, second, out))
    table = table.imag if (first + second + out) % 2 else table.real
    table = table / math.sqrt(2 * out + 1)
    if abs(table.sum()) > 1e-10:
        return table * np.sign(table.sum())
    signs = {(1, 2, 2): -1, (1, 3, 3): -1, (1, 4, 4): 1, (2, 3, 2): 1, (3, 4, 4): -1}
    return table * signs[first, second, out]


# Functions of the distance, and perceptrons


ACTIVATIONS = {"silu": silu, "softplus": softplus}


def linear(layer, x):
    kernel, bias = layer
    return x @ kernel + bias


def perceptron(layers, x, activation):
    for layer in layers[:-1]:
        x = ACTIVATIONS[activation](linear(layer, x))
    return linear(layers[-1], x)


def polynomial(x, p=6):
    inside = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1)
    return np.where(x < 1, inside - p * (p + 1) / 2 * x ** (p + 2), 0.0)


ENVELOPES = {  # of distances in cutoffs
    "cosine": lambda x: np.where(x < 1, (1 + np.cos(np.pi * x)) / 2, 0.0),
    "polynomial": polynomial,
    "smooth": lambda x: np.exp(1 - 1 / (1 - np.where(x < 1, x, 0.0) ** 2)) * (x < 1),
}


def radial_basis(name, r, number, cutoff, weights):
    """Expands distances without their envelope, `(num_pairs, number)`."""
    r, k = r[:, None], np.arange(number)
    if "encoding" in weights:
        return perceptron(weights["encoding"], r, "silu")
    if name == "gaussian":
        return np.exp(-weights["widths"] * (np.exp(-r) - weights["centers"]) ** 2)
    if name == "fixed_exponential":
        end = math.exp(-cutoff)
        centers = end + k / (number - 1) * (1 - end)
        return np.exp(-((2 / number * (1 - end)) ** -2) * (np.exp(-r) - centers) ** 2)
    if name == "fixed_gaussian":
        return np.exp(-10 * (r - k * cutoff / (number - 1)) ** 2)
    if name == "bernstein":
        x, n = np.exp(-0.9448630629 * r), number - 1
        return np.asarray([math.comb(n, m) for m in k]) * x**k * (1 - x) ** (n - k)
    return np.sin(np.pi * (k + (name == "bessel")) * r / cutoff) / r


# The network


class Pairs:
    """Ordered pairs of receivers i and senders j, and what all layers know of them."""

    def __init__(self, options, weights, positions, cell):
        cutoff, degrees = options["cutoff"], options["degrees"]
        reach = np.inf if options["nonlocal_"] else cutoff
        shifts = [np.zeros(3)]
        if cell is not None:
            shifts = np.asarray(list(itertools.product(range(-2, 3), repeat=3))) @ np.asarray(cell)
        found = [
            (i, j, sender + shift - receiver)
            for (i, receiver), (j, sender) in itertools.product(enumerate(positions), repeat=2)
            for shift in shifts
            if 0.0 < np.linalg.norm(sender + shift - receiver) <= reach
        ]
        self.number = len(positions)
        self.i, self.j = (np.asarray([pair[k] for pair in found], int) for k in (0, 1))
        vectors = np.reshape([vector for *_, vector in found], (-1, 3))
        r = np.linalg.norm(vectors, axis=1)
        self.envelope = ENVELOPES[options["cutoff_function"]](r / cutoff)
        basis = radial_basis(options["radial_basis"], r, options["num_radial"], cutoff, weights)
        self.basis = self.envelope[:, None] * basis if options["basis_envelope"] else basis
        sign = {"sender_minus_receiver": 1, "receiver_minus_sender": -1}[options["direction"]]
        self.harmonics = [
            np.reshape(
                [harmonics(d, sign * v / np.linalg.norm(v)) for v in vectors], (-1, 2 * d + 1)
            )
            for d in degrees
        ]

    def sum(self, values):
        """Sums over the pairs of each receiver: `(num_pairs, n)` -> `(num_atoms, n)`."""
        sums = np.zeros((self.number, values.shape[1]))
        np.add.at(sums, self.i, values)
        return sums

    def as_matrices(self, rows):
        """Lays rows of numbers for each pair out by receiver and sender; images add up."""
        matrices = np.zeros((len(rows), self.number, self.number))
        for matrix, row in zip(matrices, rows, strict=True):
            np.add.at(matrix, (self.i, self.j), row)
        return matrices


class Network:
    """So3krates of the specification in plain NumPy: one structure, nothing padded or joined.

    Coordinates are lists with an array `(num_atoms, 2 d + 1)` for each degree d.
    """

    def __init__(self, options, weights):
        self.options = {**BASE, **VARIANTS[options.get("variant", "smooth")], **options}
        self.weights = weights

    def __call__(self, numbers, positions, cell=None, charge=0.0, multiplicity=1):
        """Computes the energy, those of the atoms, and by the model's names what comes before."""
        options, weights = self.options, self.weights
        pairs = Pairs(options, weights, np.asarray(positions), cell)
        h = weights["embedding"][np.minimum(numbers, options.get("num_embeddings", 100) - 1)]
        if options.get("charge_spin"):
            h = self.add_charge_and_spin(h, charge, multiplicity)
        q = self.start(pairs)
        outputs = {"features": h, "coordinates": q}
        for index, layer in enumerate(weights["layers"]):
            h, q, inside = self.layer(layer, h, q, pairs)
            outputs |= {f"layer{index}/{name}": value for name, value in inside.items()}
        if options.get("pre_layer_norm"):
            h = self.layer_norm(h, *weights["last norm"])
        raw = perceptron(weights["readout"], h, options["activation"])[:, 0]
        if options.get("element_affine"):
            own_factors, terms = weights["elements"]
            raw = own_factors[numbers] * raw + terms[numbers]
        factors = np.asarray([HEAD["element_scales"].get(z, 1.0) for z in numbers])
        references = np.asarray([HEAD["references"].get(z, 0.0) for z in numbers])
        energies = HEAD["scale"] * factors * raw + references
        return {"energy": energies.sum() + HEAD["shift"], "atomic_energies": energies, **outputs}

    def start(self, pairs):
        """Computes the first coordinates (section 3)."""
        w = pairs.envelope[:, None]
        sums = [pairs.sum(w * values) for values in pairs.harmonics]
        if self.options["start"] == "mean":
            total = pairs.sum(w)
            return [np.where(total > 0, b, 0) / np.where(total > 0, total, 1) for b in sums]
        if self.options["start"] == "zeros":
            return [np.zeros_like(b) for b in sums]
        usual = 3.0 if self.options["nonlocal_"] else 8.0
        return [b / self.options.get("neighbor_scale", usual) for b in sums]

    def layer(self, layer, h, q, pairs):
        """Computes features and coordinates after a layer (section 4)."""
        options, width, w, j = self.options, h.shape[1], pairs.envelope, pairs.j
        filters = [perceptron(maps, pairs.basis, options["activation"]) for maps in layer["rad"]]
        if options["spherical_hidden"] is not None:
            distances = self.invariants([b[pairs.i] - b[j] for b in q])
            for k, maps in enumerate(layer["sph"]):
                filters[k] = filters[k] + perceptron(maps, distances, options["activation"])

        # both kinds of attention see the features before the layer
        seen = self.seen(layer, 0, h)
        scores = head_scores(layer["QK"], seen, filters[0], pairs)
        degree_scores = head_scores(layer["degree QK"], seen, filters[1], pairs)
        inside = {
            "features/attention": pairs.as_matrices(w * scores),
            "coordinates/attention": pairs.as_matrices(w * degree_scores),
        }
        messages = [
            (w * a)[:, None] * linear(value, part)[j]
            for a, value, part in zip(scores, layer["V"], slices(seen, len(scores)), strict=True)
        ]
        h = self.residual(layer, 0, h + pairs.sum(np.concatenate(messages, axis=1)))
        if options["nonlocal_"]:
            nu = self.reach(q, pairs)
            inside["nonlocals/attention"] = pairs.as_matrices(nu * degree_scores)
            w = w + nu
        steps = [
            pairs.sum((w * a)[:, None] * values)
            for a, values in zip(degree_scores, pairs.harmonics, strict=True)
        ]
        q = [b + step for b, step in zip(q, steps, strict=True)]
        inside |= {"attended_features": h, "attended_coordinates": q}

        h, q = self.normalize(layer, 0, h, q)
        seen = np.concatenate([self.seen(layer, 1, h), self.invariants(q)], axis=1)
        mixed = linear(layer["mix"], seen)
        if not options["coupling"]:
            h = self.residual(layer, 1, h + mixed[:, :width])
            q = [(1 + own[:, None]) * b for own, b in zip(mixed[:, width:].T, q, strict=True)]
            h, q = self.normalize(layer, 1, h, q)
            return h, q, {**inside, "features": h, "coordinates": q}
        t = self.couple(layer["kappa"], q)
        p1, p2, g1, g2 = np.split(mixed, np.cumsum([width, width, len(q)]), axis=1)
        h = (h + p1 + p2 * linear(layer["mix t"], self.invariants(t))) / math.sqrt(3)
        q = [
            (1 + own[:, None]) * b + other[:, None] * c
            for own, other, b, c in zip(g1.T, g2.T, q, t, strict=True)
        ]
        h, q = self.normalize(layer, 1, self.residual(layer, 1, h), q)
        return h, q, {**inside, "coupled_coordinates": t, "features": h, "coordinates": q}

    def invariants(self, blocks):
        """Measures each degree: `(n, num_degrees)`."""
        squares = np.stack([np.sum(b**2, axis=1) for b in blocks], axis=1)
        if self.options["invariants"] == "norm":
            return np.sqrt(squares)
        return squares / np.sqrt([2 * d + 1 for d in self.options["degrees"]])

    def couple(self, kappa, q):
        """Couples each two degrees to every degree that they can give (section 4.4)."""
        degrees = self.options["degrees"]
        t = [np.zeros_like(b) for b in q]
        for (a, d1), (b, d2), (c, d3) in itertools.product(enumerate(degrees), repeat=3):
            is_odd = (d1 + d2 + d3) % 2 == 1
            if d1 < d2 and d2 - d1 <= d3 <= d1 + d2 and not (is_odd and self.options["parity"]):
                products = np.einsum("ofs,nf,ns->no", coupling(d1, d2, d3), q[a], q[b])
                t[c] += kappa[c, a, b] * products
        return t

    def normalize(self, layer, place, h, q):
        if self.options.get("feature_layer_norm"):
            h = self.layer_norm(h, *layer["norm"][place])
        if self.options.get("coordinate_layer_norm"):
            lengths = [np.linalg.norm(b, axis=1, keepdims=True) for b in q]
            scaled = zip(layer["degree norm"][place], q, lengths, strict=True)
            q = [scale * b / np.where(length > 0, length, 1) for scale, b, length in scaled]
        return h, q

    def layer_norm(self, h, scale, bias):
        epsilon = self.options.get("layer_norm_epsilon", 1e-6)
        rows = [(row - row.mean()) / math.sqrt(row.var() + epsilon) for row in h]
        return np.asarray(rows) * scale + bias

    def seen(self, layer, place, h):
        """Normalizes what attention and exchange see, not what they add to (section 11)."""
        if not self.options.get("pre_layer_norm"):
            return h
        return self.layer_norm(h, *layer["pre norm"][place])

    def residual(self, layer, place, h):
        """Feeds features through a perceptron with a way around it (section 11)."""
        if not self.options.get("residual_mlp"):
            return h
        first, second, last = layer["residual"][place]
        act = ACTIVATIONS[self.options["activation"]]
        return act(h + act(act(h) @ first) @ second) @ last

    def reach(self, q, pairs):
        """Weighs all pairs by how close they are in coordinates (section 5)."""
        by_degree = self.invariants([b[pairs.i] - b[pairs.j] for b in q])
        if self.options["invariants"] == "norm":  # of all degrees together
            x = np.linalg.norm(by_degree, axis=1)
        else:
            x = by_degree.sum(axis=1)
        rho = np.asarray(
            [np.exp(x[p]) / np.exp(x[pairs.i == i]).sum() for p, i in enumerate(pairs.i)]
        )
        limit = 1 / pairs.number if self.options["nonlocal_"] is True else self.options["nonlocal_"]
        if self.options.get("reach_in_float32"):
            limit = float(np.float32(1) / np.float32(pairs.number))
        return polynomial(rho / limit, self.options.get("reach_exponent", 6))

    def add_charge_and_spin(self, h, charge, multiplicity):
        """Adds the atoms' shares of Unke et al., 2021, eqs. 9 to 11; So3krates itself has none."""
        weights, width = self.weights["charge and spin"], h.shape[1]
        queries = np.split(linear(weights["query"], h), 2, axis=1)
        shared = np.zeros_like(h)
        for place, amount in enumerate((charge, multiplicity - 1)):
            row = 2 * place + (amount > 0)
            parts = softplus(queries[place] @ weights["keys"][row] / math.sqrt(width))
            shared += np.outer(amount * parts / parts.sum(), weights["values"][row])
        return h + shared + perceptron(weights["residual"], shared, "silu")


def slices(h, number):
    """Cuts features for heads; where these do not divide them, the last features are left."""
    width = h.shape[1] // number
    return [h[:, k * width : (k + 1) * width] for k in range(number)]


def head_scores(maps, h, pair_filter, pairs):
    """Computes query times filter times key for each head: `(num_heads, num_pairs)`."""
    scores = []
    parts = zip(maps, slices(h, len(maps)), slices(pair_filter, len(maps)), strict=True)
    for (query, key), part, values in parts:
        products = linear(query, part)[pairs.i] * values * linear(key, part)[pairs.j]
        scores.append(products.sum(axis=1) / math.sqrt(part.shape[1]))
    return np.asarray(scores)
