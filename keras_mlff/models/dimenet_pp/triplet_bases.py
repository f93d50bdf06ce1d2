"""What DimeNet++ knows of an edge and of two edges that share an atom."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers.encoding import make_encoding, parse_encoding
from keras_mlff.models.dimenet_pp import spherical_bessel
from keras_mlff.ops import geometry, safe, segment


def edge_pairs(graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Takes the vectors of both edges of each triplet.

    Args:
        graph: A batch with triplets.
        vectors: Sender minus receiver of each edge, `(num_edges, 3)` in Å.

    Returns:
        Vectors of j -> i, then of k -> j, `(num_triplets, 3)` each.
    """
    outgoing = ops.take(vectors, graph["triplet_out"], axis=0)
    return outgoing, ops.take(vectors, graph["triplet_in"], axis=0)


@keras.saving.register_keras_serializable("keras_mlff")
class BesselTripletBasis(keras.layers.Layer):
    """Sine functions of distances; spherical Bessel functions times Legendre polynomials of angles.

    With x = d / cutoff, z_ln the n-th zero of the spherical Bessel function j_l, theta the angle at
    the atom that two edges share and u(x) the envelope (eq. 8, without its 1/x):

    - e_RBF,n(d) = u(x) / x * sin(w_n x), with w_n trainable, n pi at the start (eq. 7),
    - a_SBF,ln(d, theta) = u(x) N_ln j_l(z_ln x) Y_l(theta), with N_ln that makes the functions
      orthonormal and Y_l = sqrt((2 l + 1) / (4 pi)) P_l(cos theta) (eq. 6).

    The polynomials take the cosine, so that nothing is singular where three atoms are in line.

    Args:
        num_radial: Number of functions of the distance, for each degree too.
        num_spherical: Number of degrees l.
        cutoff: Radius in Å where all functions vanish.
        exponent: p - 1 of the envelope.
        over_distance: Whether functions of two edges are divided by x once more, as in the authors'
            program.

    Reference: Gasteiger et al., 2020, eqs. 6 to 8, https://arxiv.org/abs/2003.03123
    """

    def __init__(
        self,
        num_radial: int,
        num_spherical: int,
        cutoff: float,
        exponent: int = 5,
        over_distance: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_radial, self.num_spherical, self.cutoff = num_radial, num_spherical, cutoff
        self.exponent, self.over_distance = exponent, over_distance
        self.edge_width, self.triplet_width = num_radial, num_spherical * num_radial

    def build(self, *shapes: Any) -> None:
        """Creates the trainable frequencies, `(num_radial,)`."""

        def start(shape: Any, dtype: Any = None) -> Tensor:
            return ops.convert_to_tensor(np.arange(1.0, shape[0] + 1.0) * math.pi, dtype=dtype)

        self.frequencies = self.add_weight(
            shape=(self.num_radial,), initializer=start, name="frequencies"
        )

    def call(self, vectors: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        """Computes both bases.

        Call arguments:
            vectors: Sender minus receiver of each edge, `(num_edges, 3)` in Å.
            graph: A batch with edges and triplets.

        Returns:
            e_RBF `(num_edges, edge_width)` and a_SBF `(num_triplets, triplet_width)`, the degrees
            of a_SBF one after the other.
        """
        lengths = geometry.edge_lengths(vectors)
        x, smooth = self._scaled(lengths)
        zeros, factors = (
            ops.convert_to_tensor(
                function(self.num_spherical, self.num_radial), dtype=vectors.dtype
            )
            for function in (spherical_bessel.zeros, spherical_bessel.normalizations)
        )
        radial = spherical_bessel.spherical_bessel(x[:, :, None] * zeros)
        envelope = smooth / x if self.over_distance else smooth
        radial = ops.reshape(radial, (-1, self.triplet_width)) * envelope
        # factors as a matrix: XLA keeps the result of a matrix product, where it would compute what
        # is elementwise, with all its derivatives, again for each triplet that takes it
        radial = ops.matmul(radial, ops.diag(ops.reshape(factors, (-1,))))
        outgoing, incoming = edge_pairs(graph, vectors)
        sizes = ops.take(lengths, graph["triplet_out"], axis=0) * ops.take(
            lengths, graph["triplet_in"], axis=0
        )
        cosines = ops.sum(outgoing * incoming, axis=-1) / sizes
        degrees = np.arange(self.num_spherical)
        scales = np.diag(np.sqrt((2.0 * degrees + 1.0) / (4.0 * math.pi)))
        scales = ops.convert_to_tensor(
            np.repeat(scales, self.num_radial, axis=1), dtype=vectors.dtype
        )
        angular = ops.matmul(spherical_bessel.legendre(cosines, self.num_spherical), scales)
        triplets = ops.take(radial, graph["triplet_in"], axis=0) * angular
        return self.encode_edges(lengths), triplets

    def encode_edges(self, lengths: Tensor) -> Tensor:
        """Computes `(n, edge_width)` from lengths `(n,)` in Å."""
        x, smooth = self._scaled(lengths)
        return smooth / x * ops.sin(ops.convert_to_tensor(self.frequencies) * x)

    def _scaled(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Computes lengths over the cutoff and the envelope, `(n, 1)` each."""
        smooth = cutoffs.polynomial(lengths, self.cutoff, self.exponent + 1)
        return lengths[:, None] * (1.0 / self.cutoff), smooth[:, None]


@keras.saving.register_keras_serializable("keras_mlff")
class EncodedTripletBasis(keras.layers.Layer):
    """Learned encodings of distances and angles, in the place of Bessel functions.

    An edge becomes u(d) h_1(d), a triplet u(d_kj) h_2(d_kj) * h_3(theta), with three encodings h
    that all blocks share. How distance and angle combine, and the envelope u, are choices of this
    package; the paper names neither.

    Args:
        edge: Encoding h_1 of the distance of an edge.
        distance: Encoding h_2 of the distance of the first edge of a triplet.
        angle: Encoding h_3 of the angle of a triplet, 0 to pi, zero where it is straight.
        cutoff: Radius in Å where the envelope vanishes.
        exponent: p - 1 of the envelope.
        use_envelope: Whether all of it vanishes at the cutoff; without it energies jump there.
        combine: How distance and angle combine: `"product"` feature by feature, `"outer"` in all
            products, those of one feature of the angle side by side, or `"concat"`.

    Raises:
        ValueError: If `combine` is unknown.

    Reference: https://arxiv.org/abs/2211.12773
    """

    def __init__(
        self,
        edge: Any,
        distance: Any,
        angle: Any,
        cutoff: float,
        exponent: int = 5,
        use_envelope: bool = True,
        combine: str = "product",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if combine not in ("product", "outer", "concat"):
            raise ValueError(
                f"`combine` is 'product', 'outer' or 'concat'. Received: combine='{combine}'."
            )
        self.edge, self.distance, self.angle = edge, distance, angle
        self.cutoff, self.exponent = cutoff, exponent
        self.use_envelope, self.combine = use_envelope, combine
        width = distance.num_features
        self.edge_width = edge.num_features
        self.triplet_width = {"product": width, "outer": width**2, "concat": 2 * width}[combine]

    def call(self, vectors: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        """Computes both encodings.

        Call arguments:
            vectors: Sender minus receiver of each edge, `(num_edges, 3)` in Å.
            graph: A batch with edges and triplets.

        Returns:
            Encodings of edges `(num_edges, edge_width)` and of triplets
            `(num_triplets, triplet_width)`.
        """
        lengths = geometry.edge_lengths(vectors)
        envelope = segment.mask(self._envelope(lengths), graph["edge_mask"])[:, None]
        outgoing, incoming = edge_pairs(graph, vectors)
        cross = safe.norm(ops.cross(outgoing, incoming, axis=-1))
        angles = ops.arctan2(cross, ops.sum(outgoing * incoming, axis=-1))
        angular = self.angle(angles)  # (num_triplets, num_features)
        encoded = self.distance(lengths)
        if self.combine == "concat":
            pairs = ops.concatenate(
                [ops.take(encoded, graph["triplet_in"], axis=0), angular], axis=-1
            )
            pairs = pairs * ops.take(envelope, graph["triplet_in"], axis=0)
        else:
            radial = ops.take(encoded * envelope, graph["triplet_in"], axis=0)
            if self.combine == "product":
                pairs = radial * angular
            else:
                pairs = angular[:, :, None] * radial[:, None, :]
                pairs = ops.reshape(pairs, (-1, self.triplet_width))
        return self.edge(lengths) * envelope, pairs

    def encode_edges(self, lengths: Tensor) -> Tensor:
        """Computes `(n, edge_width)` from lengths `(n,)` in Å."""
        return self.edge(lengths) * self._envelope(lengths)[:, None]

    def _envelope(self, lengths: Tensor) -> Tensor:
        if not self.use_envelope:
            return ops.ones_like(lengths)
        return cutoffs.polynomial(lengths, self.cutoff, self.exponent + 1)


def encoded_basis(
    distance_encoding: Any, cutoff: float, exponent: int, use_envelope: bool, combine: str
) -> EncodedTripletBasis | None:
    """Makes the three encodings of DimeNet++ from what a user has chosen.

    Tables of distances end at the cutoff, whatever distances the data have; those of angles go from
    0 to pi.

    Args:
        distance_encoding: See `keras_mlff.layers.encoding.make_encoding`.
        cutoff: Radius in Å within which atoms are neighbors.
        exponent: p - 1 of the envelope.
        use_envelope: Whether encodings vanish at the cutoff.
        combine: How encodings of distance and angle combine, see `EncodedTripletBasis`.

    Returns:
        The basis; `None` for `"original"`.
    """
    chosen = parse_encoding(distance_encoding)
    of_distances = of_angles = chosen
    if chosen["kind"] == "posenc":  # ends at the cutoff, whatever distances the data have
        of_distances = {"x_min": 0.0, "x_max": cutoff, **chosen}
        of_angles = {**chosen, "x_min": 0.0, "x_max": math.pi}
    edge, distance = (make_encoding(of_distances, 0.0, cutoff, 3) for _ in range(2))
    angle = make_encoding(of_angles, 0.0, math.pi, 3, quantity="angle")
    if edge is None:
        return None
    return EncodedTripletBasis(edge, distance, angle, cutoff, exponent, use_envelope, combine)
