"""So3krates: features and spherical harmonic coordinates that attend to each other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import Array, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers import radial
from keras_mlff.layers.initializers import Normal, lecun_normal
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.layers.readout import AtomFeatures, PerceptronReadout
from keras_mlff.models.so3krates.harmonic_coordinates import (
    INVARIANTS,
    CoordinateNormalization,
    DegreeCoupling,
    invariants,
)
from keras_mlff.models.so3krates.nonlocal_reach import NonlocalReach
from keras_mlff.models.so3krates.pair_attention import PairAttention, PairGeometry
from keras_mlff.models.so3krates.residual_perceptron import ResidualPerceptron
from keras_mlff.ops import geometry, safe, segment
from keras_mlff.ops import spherical_harmonics as harmonics
from keras_mlff.ops.pairs import AllPairs, EdgePairs, Pairs

_COMMON = {"coupling": True, "attention_bias": True, "basis_envelope": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "smooth": {
        "start": "scaled_sum",
        "invariants": "squared",
        "parity": True,
        "direction": "sender_minus_receiver",
        "cutoff_function": "polynomial",
        **_COMMON,
    },
    "paper": {
        "start": "mean",
        "invariants": "norm",
        "parity": False,
        "direction": "receiver_minus_sender",
        "cutoff_function": "cosine",
        **_COMMON,
    },
    "so3krates_v1": {
        "start": "zeros",
        "invariants": "squared",
        "parity": True,
        "direction": "sender_minus_receiver",
        "cutoff_function": "cosine",
        **dict.fromkeys(_COMMON, False),
    },
}
_CHOICES = {
    "start": ("scaled_sum", "mean", "zeros"),
    "invariants": INVARIANTS,
    "direction": ("sender_minus_receiver", "receiver_minus_sender"),
}


@keras.saving.register_keras_serializable("keras_mlff")
class So3krates(ForceField):
    """Keeps invariant features and one set of spherical harmonic coordinates (SPHC) per atom.

    Features are moved by attention between neighbors; coordinates by attention times the harmonics
    of the neighbors' directions. Distances between coordinates are what features learn of angles,
    and, with `nonlocal_`, of atoms beyond the cutoff.

    Args:
        num_features: Width, divisible by `num_heads`.
        num_layers: Layers.
        num_radial: Radial basis functions.
        num_heads: Heads of the feature attention.
        degrees: Of the coordinates, ascending.
        cutoff: Å.
        variant: `"smooth"`: energies without jumps and forces without kinks or NaN, at any
            geometry whose atoms are apart; `"paper"`: as published; `"so3krates_v1"`: the authors'
            later network. It stands for the next eight arguments, each of which may be given by
            itself.
        start: Coordinates before the first layer: `"scaled_sum"` of harmonics times envelope over
            `neighbor_scale`, their `"mean"` (eq. 11, which jumps where the last neighbor leaves),
            or `"zeros"`.
        invariants: Of a degree: `"squared"` length over sqrt(2 d + 1), or its `"norm"`, which has
            no derivative at sites of high symmetry.
        parity: Whether couplings leave pseudotensors out; without, mirror images differ in energy.
        direction: Of the unit vectors: `"sender_minus_receiver"` (the paper's text) or
            `"receiver_minus_sender"` (the authors' program).
        cutoff_function: `"polynomial"` (second derivatives continuous), `"cosine"` (the paper's,
            first derivatives) or `"smooth"` (all).
        coupling: Whether degrees couple within an atom; without, features are not scaled either.
        attention_bias: Whether queries, keys and values have biases.
        basis_envelope: Whether the radial basis ends at the cutoff; attention does anyway.
        neighbor_scale: What `"scaled_sum"` divides by; 8 by default, 3 with `nonlocal_`, where
            coordinates must differ for any atom to be closer than others. Less is needed where
            the cutoff is short: 0.5 suits 2.5 Å. With too little, fresh networks overflow.
        radial_basis: `"fixed_exponential"` (the paper's), `"fixed_gaussian"`, `"bessel"`,
            `"bernstein"`, or `"gaussian"` (the first with learned centers and widths).
        distance_encoding: Instead of the radial basis: `"mlp"`, `"posenc"` (a learned table),
            `"smooth"` (posenc with the smoothness loss), or a dict, see
            `keras_mlff.layers.positional_encoding.get`.
        radial_hidden: Hidden widths of filters of the distance.
        spherical_hidden: Hidden widths of filters of the distances between coordinates; `None`
            leaves these filters out (ablation).
        feature_layer_norm: Whether features are normalized, twice in each layer.
        coordinate_layer_norm: Whether coordinates are; not smooth at sites of high symmetry.
        pre_layer_norm: Whether attention and exchange, and the readout, see normalized features,
            while those that are added to are left as they are.
        residual_mlp: Whether each addition to the features is followed by a `ResidualPerceptron`.
        nonlocal_: Whether coordinates also follow atoms that are close in coordinates, however far
            in space (eq. 14). All pairs are computed, and energies of far fragments do not add up.
        chi_cut: Where the weight of far atoms ends: `"1/n"` for n atoms, or a number.
        chi_cut_exponent: Of that envelope.
        chi_cut_float32: Whether 1/n is rounded to float32, as in the authors' program.
        activation: Of filters and readout.
        layer_norm_epsilon: Of the feature layer norms.
        num_embeddings: Elements with an embedding of their own, padding (0) included; heavier ones
            share the last.
        **kwargs: Of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Reference: Frank, Unke and Müller, 2022, https://arxiv.org/abs/2205.14276

    Example:
        >>> model = So3krates(num_features=12, num_layers=1, num_heads=2)
        >>> model.parity
        True
    """

    def __init__(
        self,
        num_features: int = 132,
        num_layers: int = 6,
        num_radial: int = 32,
        num_heads: int = 4,
        degrees: Sequence[int] = (1, 2, 3),
        cutoff: float = 5.0,
        variant: str = "smooth",
        start: str | None = None,
        invariants: str | None = None,
        parity: bool | None = None,
        direction: str | None = None,
        cutoff_function: str | None = None,
        coupling: bool | None = None,
        attention_bias: bool | None = None,
        basis_envelope: bool | None = None,
        neighbor_scale: float | None = None,
        radial_basis: str = "fixed_exponential",
        radial_hidden: Sequence[int] = (128,),
        spherical_hidden: Sequence[int] | None = (32,),
        feature_layer_norm: bool = False,
        coordinate_layer_norm: bool = False,
        pre_layer_norm: bool = False,
        residual_mlp: bool = False,
        nonlocal_: bool = False,
        chi_cut: float | str = "1/n",
        chi_cut_exponent: int = 6,
        chi_cut_float32: bool = False,
        activation: str = "silu",
        layer_norm_epsilon: float = 1e-6,
        num_embeddings: int = 100,
        distance_encoding: str | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        given = {
            "start": start,
            "invariants": invariants,
            "parity": parity,
            "direction": direction,
            "cutoff_function": cutoff_function,
            "coupling": coupling,
            "attention_bias": attention_bias,
            "basis_envelope": basis_envelope,
        }
        chosen = _choose(variant, given)
        _check(num_features, num_heads, degrees)
        self.num_features, self.num_layers = num_features, num_layers
        self.degrees = tuple(int(degree) for degree in degrees)
        self.start, self.invariants, self.parity = (
            chosen["start"],
            chosen["invariants"],
            bool(chosen["parity"]),
        )
        self.direction, self.basis_envelope = chosen["direction"], chosen["basis_envelope"]
        if neighbor_scale is None:
            neighbor_scale = 3.0 if nonlocal_ else 8.0
        self.neighbor_scale = neighbor_scale
        self.nonlocal_ = nonlocal_
        self.activation = activation
        self.num_embeddings = num_embeddings
        self.is_size_consistent = not nonlocal_
        self.supports_periodic = not nonlocal_
        self.envelope = cutoffs.get(chosen["cutoff_function"])
        self.num_continuous_derivatives = (  # type: ignore[misc]
            0
            if self.start == "mean"
            else cutoffs.NUM_CONTINUOUS_DERIVATIVES[chosen["cutoff_function"]]
        )
        self.embedding = keras.layers.Embedding(
            num_embeddings,
            num_features,
            embeddings_initializer=Normal(stddev=num_features**-0.5),
        )
        self.radial_basis = radial.get(radial_basis, num_radial, cutoff, distance_encoding)
        self.interactions = [
            So3kratesInteraction(
                num_features,
                PairAttention(
                    num_features,
                    num_heads,
                    self.degrees,
                    self.invariants,
                    radial_hidden,
                    spherical_hidden,
                    chosen["attention_bias"],
                    activation,
                ),
                NonlocalReach(
                    self.degrees, self.invariants, chi_cut, chi_cut_exponent, chi_cut_float32
                )
                if nonlocal_
                else None,
                self.degrees,
                self.invariants,
                self.parity if chosen["coupling"] else None,
                layer_norm_epsilon if feature_layer_norm else None,
                coordinate_layer_norm,
                layer_norm_epsilon if pre_layer_norm else None,
                activation if residual_mlp else None,
            )
            for _ in range(num_layers)
        ]
        self.last_norm = LayerNormalization(epsilon=layer_norm_epsilon) if pre_layer_norm else None

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        numbers = ops.minimum(graph["atomic_numbers"], self.num_embeddings - 1)
        features = self.with_charge_spin(self.embedding(numbers), graph)
        pairs: Pairs = AllPairs(graph) if self.nonlocal_ else EdgePairs(graph)
        vectors = pairs.vectors(self.cutoff)
        lengths = geometry.edge_lengths(vectors)
        directions = safe.divide(vectors, lengths[:, None])
        if self.direction == "receiver_minus_sender":
            directions = -directions
        envelope = segment.mask(self.envelope(lengths, self.cutoff), pairs.mask)[:, None]
        basis = self.radial_basis(lengths)
        known = PairGeometry(
            envelope,
            envelope * basis if self.basis_envelope else basis,
            harmonics.spherical_harmonics(directions, self.degrees),
        )
        coordinates = self._initial_coordinates(known, pairs)
        self.record("features", features)
        self.record("coordinates", coordinates)
        for index, interaction in enumerate(self.interactions):
            features, coordinates, inside = interaction(features, coordinates, known, pairs=pairs)
            inside |= {"features": features, "coordinates": coordinates}
            for name, value in inside.items():
                self.record(f"layer{index}/{name}", value)
            self._record_attention(index, inside, pairs)
        return AtomFeatures(features if self.last_norm is None else self.last_norm(features))

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        return PerceptronReadout(
            numbers.num_scalars,
            self.num_features,
            numbers.use_bias,
            self.activation,
            make_initializer=lecun_normal,
        )

    def _initial_coordinates(self, known: PairGeometry, pairs: Pairs) -> Tensor:
        """Sums the harmonics of all neighbors (eq. 11): `(num_atoms, width(degrees))`."""
        if self.start == "mean":
            weighted = ops.concatenate([known.envelope, known.envelope * known.harmonics], axis=1)
            sums = pairs.sum(weighted)
            total = sums[:, :1]
            # neighbors all but at the cutoff are gone: the gradient divides by the square
            gone = 1e-30 if self.compute_dtype == "float64" else 1e-15
            total = ops.where(total < gone, ops.zeros_like(total), total)
            return safe.divide(sums[:, 1:], total)
        sums = pairs.sum(known.envelope * known.harmonics)
        return ops.zeros_like(sums) if self.start == "zeros" else sums / self.neighbor_scale

    def _record_attention(self, index: int, inside: Mapping[str, Tensor], pairs: Pairs) -> None:
        if self._recorder is None:
            return
        for name in ("feature", "coordinate", "nonlocal"):
            if f"{name}_coefficients" in inside:
                matrix = pairs.as_matrix(inside[f"{name}_coefficients"])
                self.record(f"layer{index}/{name}s/attention", matrix)

    @classmethod
    def from_reference(
        cls,
        hyperparameters: Mapping[str, Any],
        weights: Mapping[str, Array],
        **kwargs: Any,
    ) -> Self:
        """Builds the authors' network from its hyper-parameters and weights.

        Args:
            hyperparameters: By the names `features`, `degrees`, `n_layers`, `n_heads`, `n_rbf`,
                `r_cut`, `rad_filter`, `sph_filter`, `parity`, `nonlocal`, `scale`, `shift`, ...;
                those not given have that program's defaults. `sph_filter=None` is the ablation
                without filters of coordinates.
            weights: Arrays by their flax paths, a prefix `w:` allowed.
            **kwargs: Replace arguments of the constructor.

        Raises:
            ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
        """
        from keras_mlff.models.so3krates.port import build_so3krates

        return build_so3krates(cls, hyperparameters, weights, **kwargs)


@keras.saving.register_keras_serializable("keras_mlff")
class So3kratesInteraction(keras.layers.Layer):
    """One layer: attention, then exchange between features and coordinates of each atom.

    Args:
        num_features: Width.
        attention: Between pairs.
        reach: Of coordinates beyond the cutoff.
        degrees: Of the coordinates.
        kind: Of `invariants`.
        parity: Of `DegreeCoupling`; `None` leaves the coupling out.
        feature_norm: Epsilon of norms after attention and exchange, `None` for none.
        coordinate_norm: Whether coordinates are normalized there.
        pre_norm: Epsilon of norms of what attention and exchange see, `None` for none.
        residual: Activation of perceptrons after attention and exchange, `None` for none.
    """

    def __init__(
        self,
        num_features: int,
        attention: PairAttention,
        reach: NonlocalReach | None,
        degrees: Sequence[int],
        kind: str,
        parity: bool | None,
        feature_norm: float | None,
        coordinate_norm: bool,
        pre_norm: float | None,
        residual: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.degrees, self.kind = num_features, tuple(degrees), kind
        self.attention, self.reach = attention, reach
        self.coupling = None if parity is None else DegreeCoupling(degrees, parity)
        width = (num_features + len(self.degrees)) * (1 if self.coupling is None else 2)
        self.mix = keras.layers.Dense(width, kernel_initializer=lecun_normal())
        self.mix_coupled: Any = None
        if self.coupling is not None:
            self.mix_coupled = keras.layers.Dense(num_features, kernel_initializer=lecun_normal())
        self.feature_norms, self.pre_norms = (
            [LayerNormalization(epsilon=epsilon) for _ in range(2 if epsilon is not None else 0)]
            for epsilon in (feature_norm, pre_norm)
        )
        self.coordinate_norms = [
            CoordinateNormalization(degrees) for _ in range(2 if coordinate_norm else 0)
        ]
        self.residuals: list[Any] = []
        if residual is not None:
            self.residuals = [ResidualPerceptron(num_features, residual) for _ in range(2)]

    def build(self, *shapes: Any) -> None:
        """Creates the weights of the exchange."""
        width, number = self.num_features, len(self.degrees)
        if self.coupling is not None:
            self.coupling.build()
            self.mix_coupled.build((None, number))
        self.mix.build((None, width + number))
        parts: list[Any] = [*self.feature_norms, *self.pre_norms, *self.residuals]
        for part in parts:
            part.build((None, width))
        for norm in self.coordinate_norms:
            norm.build()

    def call(
        self, features: Tensor, coordinates: Tensor, known: PairGeometry, pairs: Pairs
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Computes new features, new coordinates, and what to record.

        Call arguments:
            features: `(num_atoms, num_features)`.
            coordinates: `(num_atoms, width(degrees))`.
            known: Geometry of the pairs.
            pairs: Which atoms send to which.
        """
        reach = None
        if self.reach is not None and isinstance(pairs, AllPairs):
            reach = self.reach(coordinates, pairs=pairs)  # (num_pairs, 1)
        attended = self.attention(
            _apply(self.pre_norms, 0, features), coordinates, known, reach, pairs=pairs
        )
        features = _apply(self.residuals, 0, features + attended.features)
        coordinates = coordinates + attended.coordinates
        inside = {
            "attended_features": features,
            "attended_coordinates": coordinates,
            "feature_coefficients": attended.feature_coefficients,
            "coordinate_coefficients": known.envelope * attended.coordinate_scores,
        }
        if reach is not None:
            inside["nonlocal_coefficients"] = reach * attended.coordinate_scores
        features = _apply(self.feature_norms, 0, features)
        coordinates = _apply(self.coordinate_norms, 0, coordinates)

        # 4.5: the atom's own exchange (eqs. 17 and 18)
        lengths = invariants(coordinates, self.degrees, self.kind)
        seen = _apply(self.pre_norms, 1, features)
        mixed = self.mix(ops.concatenate([seen, lengths], axis=1))
        if self.coupling is None:
            added, own = ops.split(mixed, [self.num_features], axis=1)
            features = features + added
            coordinates = coordinates + self._spread(own) * coordinates
        else:
            width, number = self.num_features, len(self.degrees)
            ends = (width, 2 * width, 2 * width + number)
            added, gated, own, other = ops.split(mixed, ends, axis=1)
            coupled = self.coupling(coordinates)
            gate = self.mix_coupled(invariants(coupled, self.degrees, self.kind))
            features = (features + added + gated * gate) * 3.0**-0.5
            own, other = self._spread(own), self._spread(other)
            coordinates = coordinates + own * coordinates + other * coupled
            inside["coupled_coordinates"] = coupled
        features = _apply(self.feature_norms, 1, _apply(self.residuals, 1, features))
        return features, _apply(self.coordinate_norms, 1, coordinates), inside

    def _spread(self, by_degree: Tensor) -> Tensor:
        return harmonics.spread_degrees(by_degree, self.degrees)


def _apply(layers: Sequence[Any], place: int, values: Tensor) -> Tensor:
    """Applies the layer of a place, where there are any."""
    return layers[place](values) if layers else values


def _choose(variant: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Takes what is given, and of the variant what is not."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant of So3krates. Received: '{variant}'. Choose from {sorted(VARIANTS)}."
        )
    chosen = {
        key: VARIANTS[variant][key] if value is None else value for key, value in given.items()
    }
    for key, choices in _CHOICES.items():
        if chosen[key] not in choices:
            raise ValueError(
                f"Unknown `{key}` of So3krates. Received: '{chosen[key]}'. Choose from {choices}."
            )
    return chosen


def _check(num_features: int, num_heads: int, degrees: Sequence[int]) -> None:
    if num_features % num_heads:
        raise ValueError(
            "The features are shared out to heads, so their number must be divisible by "
            f"num_heads. Received: num_features={num_features}, num_heads={num_heads}."
        )
    ascending = all(a < b for a, b in itertools.pairwise(degrees))
    if len(degrees) == 0 or min(degrees) < 0 or not ascending or num_features < len(degrees):
        raise ValueError(
            "`degrees` lists degrees of spherical harmonics in ascending order, no more than "
            f"features. Received: degrees={list(degrees)}, num_features={num_features}."
        )
