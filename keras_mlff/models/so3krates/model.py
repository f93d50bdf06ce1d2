"""So3krates: features and spherical harmonic coordinates that attend to each other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers import radial
from keras_mlff.layers.initializers import Normal, lecun_normal
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.layers.readout import AtomFeatures, PerceptronReadout
from keras_mlff.models.so3krates import spherical_harmonics as harmonics
from keras_mlff.models.so3krates.by_element import ElementChargeSpinEmbedding, ElementReadout
from keras_mlff.models.so3krates.interaction import So3kratesInteraction
from keras_mlff.models.so3krates.nonlocal_reach import NonlocalReach
from keras_mlff.models.so3krates.pair_attention import PairAttention, PairGeometry
from keras_mlff.models.so3krates.pairs import AllPairs
from keras_mlff.models.so3krates.variant import VARIANTS, So3kratesVariant, upgrade_config
from keras_mlff.models.variants import choose
from keras_mlff.ops import geometry, safe, segment
from keras_mlff.ops.pairs import EdgePairs, Pairs


@keras.saving.register_keras_serializable("keras_mlff")
class So3krates(ForceField):
    """Keeps invariant features and one set of spherical harmonic coordinates (SPHC) per atom.

    An atom i has features h_i and coordinates q_i, one block of 2 d + 1 numbers for each degree d,
    which turn with the molecule as spherical harmonics do (eq. 10).

    1. **Start.** h_i = E[Z_i]; q_i = sum of w(r_ij) Y(u_ij) over the neighbors j, divided by a
       constant, where the paper divides by the sum of w (eq. 11). Y are the harmonics of the
       direction u, w is the cutoff function, and radial functions of the distance are prepared.
    2. **Filters.** F_ij = MLP(b(r_ij)) + MLP(|q_i - q_j|), with the difference in each degree; one
       for features, one for coordinates (eqs. 12 and 13), see `PairFilters`.
    3. **Attention.** h_i gets the values of its neighbors times alpha_ij = w (Q_i . F_ij K_j)
       (eq. 15); q_i gets harmonics Y(u_ij) times a coefficient for each degree, see
       `PairAttention`. With `nonlocal_`, q_i also follows atoms beyond the cutoff that are near in
       coordinates (eq. 14), see `NonlocalReach`.
    4. **Exchange.** Within each atom, degrees couple (eq. 16), the measures of degrees change
       features (eq. 17) and features gate coordinates (eq. 18), see `So3kratesInteraction`.
    5. **Readout.** A perceptron of one hidden layer reads h_i.

    Layers repeat the steps 2 to 4. Distances between coordinates are what features learn of angles
    and, with `nonlocal_`, of atoms beyond the cutoff.

    Where paper and program differ, `variant` chooses: `"smooth"`, this package's, has energies
    without jumps and forces without kinks or NaN, at any geometry whose atoms are apart; `"paper"`
    is as published; `"so3krates_v1"` is the network that the authors went on with, and `"so3lr"`
    that of their general force field, see `from_so3lr`.

    Args:
        num_features: Width of the features; divisible by `num_heads`.
        num_layers: How often steps 2 to 4 are repeated, each time with weights of its own.
        num_radial: Number of radial functions.
        num_heads: Heads of the attention that moves features.
        degrees: Degrees d of the coordinates, ascending.
        cutoff: Radius within which atoms are neighbors, Å.
        neighbor_scale: What `"smooth"` divides the first coordinates by, and `"so3lr"` products of
            queries and keys; 8 by default, 3 with
            `nonlocal_`, where coordinates must differ for any atom to be closer than others. Less
            is needed where the cutoff is short: 0.5 suits 2.5 Å. With too little, fresh networks
            overflow.
        nonlocal_: Whether coordinates also follow atoms that are close in coordinates, however far
            in space (eq. 14): those that a softmax of the distances gives less than 1/n among n
            atoms, or less than a number that is given here instead of `True`. All pairs are
            computed, crystals are refused, and energies of far fragments do not add up.
        radial_basis: `"fixed_exponential"` (the paper's), `"fixed_gaussian"`, `"bessel"`,
            `"bernstein"`, or `"gaussian"` (the first with learned centers and widths).
        radial_hidden: Hidden widths of the filters of the distance.
        spherical_hidden: Hidden widths of the filters of the distances between coordinates; `None`
            leaves these filters out, an ablation of the paper (section A.4).
        activation: Name of the activation of filters and readout.
        distance_encoding: What to use instead of radial functions: `"mlp"`, `"posenc"` (a learned
            table), `"smooth"` (posenc with the smoothness loss), or a dict, see
            `keras_mlff.layers.encoding.make_encoding`.
        variant: A name in `So3krates.VARIANTS`, a `So3krates.Variant`, or a dict of its fields.
        **kwargs: Arguments of every `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Raises:
        ValueError: If widths, heads and degrees do not fit together or a name is unknown.

    Reference: Frank, Unke and Müller, 2022, eqs. 10 to 18, https://arxiv.org/abs/2205.14276

    Example:
        >>> model = So3krates(num_features=12, num_layers=1, num_heads=2)
        >>> model.variant.parity
        True
    """

    Variant = So3kratesVariant
    VARIANTS = VARIANTS
    has_attention = True

    def __init__(
        self,
        num_features: int = 132,
        num_layers: int = 6,
        num_radial: int = 32,
        num_heads: int = 4,
        degrees: Sequence[int] = (1, 2, 3),
        cutoff: float = 5.0,
        neighbor_scale: float | None = None,
        nonlocal_: bool | float = False,
        radial_basis: str = "fixed_exponential",
        radial_hidden: Sequence[int] = (128,),
        spherical_hidden: Sequence[int] | None = (32,),
        activation: str = "silu",
        distance_encoding: str | Mapping[str, Any] | None = None,
        variant: str | So3kratesVariant | Mapping[str, Any] = "smooth",
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        _check(num_features, num_heads, degrees, nonlocal_)
        self.variant = choose(VARIANTS, variant)
        self.num_features, self.num_layers = num_features, num_layers
        self.degrees = tuple(int(degree) for degree in degrees)
        self.activation = activation
        self.nonlocal_ = nonlocal_ is not False
        self.is_size_consistent = self.supports_periodic = not self.nonlocal_
        self.num_continuous_derivatives = self.variant.num_continuous_derivatives

        # 1. Start
        self.embedding = keras.layers.Embedding(
            self.variant.num_embeddings,
            num_features,
            embeddings_initializer=Normal(stddev=num_features**-0.5),
        )
        if neighbor_scale is None:
            neighbor_scale = 3.0 if self.nonlocal_ else 8.0
        self.neighbor_scale = neighbor_scale
        divisor = neighbor_scale if self.variant.attention_divisor == "neighbors" else None
        if self.charge_spin is not None and self.variant.element_embeddings:
            self.charge_spin = ElementChargeSpinEmbedding(self.variant.num_embeddings)
        self.envelope = cutoffs.get(self.variant.cutoff_function)
        self.radial_basis = radial.get(radial_basis, num_radial, cutoff, distance_encoding)

        # 2. to 4. Filters, attention and exchange
        self.interactions = [
            So3kratesInteraction(
                num_features,
                PairAttention(
                    num_features,
                    num_heads,
                    self.degrees,
                    self.variant.invariants,
                    radial_hidden,
                    spherical_hidden,
                    self.variant.attention_bias,
                    activation,
                    divisor,
                ),
                NonlocalReach(
                    self.degrees,
                    self.variant.invariants,
                    None if nonlocal_ is True else nonlocal_,
                    self.variant.reach_exponent,
                    self.variant.reach_in_float32,
                )
                if self.nonlocal_
                else None,
                self.degrees,
                self.variant,
                activation,
            )
            for _ in range(num_layers)
        ]

        # 5. Readout
        self.last_norm = None
        if self.variant.pre_layer_norm:
            self.last_norm = LayerNormalization(epsilon=self.variant.layer_norm_epsilon)

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        # 5. Readout
        if self.variant.element_ratios and numbers.names == ("hirshfeld_ratios",):
            return ElementReadout(self.num_features // 2, self.activation)
        return PerceptronReadout(
            numbers.num_scalars,
            self.num_features,
            numbers.use_bias,
            self.activation,
            make_initializer=lecun_normal,
        )

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Computes the features of each atom.

        Args:
            graph: A batch with edges; the non-local network reads positions alone.
            training: Without meaning here: training and prediction are the same.

        Returns:
            Scalars `(num_atoms, num_features)`. Coordinates are not handed on.
        """
        # 1. Start
        numbers = ops.minimum(graph["atomic_numbers"], self.variant.num_embeddings - 1)
        features = self.embedding(numbers)
        if self.variant.element_embeddings:
            features = features * 3.0**-0.5
        features = self.with_charge_spin(features, graph)
        pairs: Pairs = AllPairs(graph) if self.nonlocal_ else EdgePairs(graph)
        known = self._measure_pairs(pairs)
        coordinates = self._initial_coordinates(known, pairs)
        self.record("features", features)
        self.record("coordinates", coordinates)

        # 2. to 4. Filters, attention and exchange
        for index, interaction in enumerate(self.interactions):
            from_zero = index == 0 and self.variant.start == "zeros"
            features, coordinates, inside = interaction(
                features, coordinates, known, pairs=pairs, from_zero=from_zero
            )
            inside |= {"features": features, "coordinates": coordinates}
            for name, value in inside.items():
                self.record(f"layer{index}/{name}", value)
            self._record_attention(index, inside, pairs)

        # 5. Readout
        features = features if self.last_norm is None else self.last_norm(features)
        return AtomFeatures(features, elements=graph["atomic_numbers"])

    @classmethod
    def from_so3lr(cls, path: str | Path, long_range_cutoff: float = 12.0, **kwargs: Any) -> Self:
        """Reads the parameters of SO3LR, a general force field for H, C, N, O, F, P, S and Cl.

        The parameters are not part of this package; see `keras_mlff.models.so3krates.so3lr`.

        Args:
            path: `params.pkl` of the authors' repository, or an npz file of its arrays by paths.
            long_range_cutoff: Distance in Å up to which charges and dispersion act; energies
                depend on it. At most 1000 for molecules, 12 for boxes, in the authors' program.
            **kwargs: Replace arguments of the constructor, such as `dtype="float64"`.

        Returns:
            A model of energy, forces, partial charges, dipole and Hirshfeld ratios.

        Raises:
            ValueError: If the file holds something else.
        """
        from keras_mlff.models.so3krates import so3lr

        return so3lr.build(cls, so3lr.read(path), long_range_cutoff, **kwargs)

    def _measure_pairs(self, pairs: Pairs) -> PairGeometry:
        """Computes envelope, radial functions and harmonics of each pair (step 1)."""
        vectors = pairs.vectors(self.cutoff)
        lengths = geometry.edge_lengths(vectors)
        directions = safe.divide(vectors, lengths[:, None])
        if self.variant.direction == "receiver_minus_sender":
            directions = -directions
        envelope = segment.mask(self.envelope(lengths, self.cutoff), pairs.mask)[:, None]
        basis = self.radial_basis(lengths)
        return PairGeometry(
            envelope,
            envelope * basis if self.variant.basis_envelope else basis,
            harmonics.spherical_harmonics(directions, self.degrees),
        )

    def _initial_coordinates(self, known: PairGeometry, pairs: Pairs) -> Tensor:
        """Sums the harmonics of all neighbors (eq. 11): `(num_atoms, width(degrees))`."""
        if self.variant.start == "mean":
            weighted = ops.concatenate([known.envelope, known.envelope * known.harmonics], axis=1)
            sums = pairs.sum(weighted)
            total = sums[:, :1]
            # neighbors all but at the cutoff are gone: the gradient divides by the square
            gone = 1e-30 if self.compute_dtype == "float64" else 1e-15
            total = ops.where(total < gone, ops.zeros_like(total), total)
            return safe.divide(sums[:, 1:], total)
        sums = pairs.sum(known.envelope * known.harmonics)
        if self.variant.start == "zeros":
            return ops.zeros_like(sums)
        return sums / self.neighbor_scale

    def _record_attention(self, index: int, inside: Mapping[str, Tensor], pairs: Pairs) -> None:
        """Lays the coefficients of a layer out as matrices, while `inspect` runs."""
        if self._recorder is None:
            return
        for name in ("feature", "coordinate", "nonlocal"):
            if f"{name}_coefficients" in inside:
                matrix = pairs.as_matrix(inside[f"{name}_coefficients"])
                self.record(f"layer{index}/{name}s/attention", matrix)

    upgrade_config = staticmethod(upgrade_config)


def _check(
    num_features: int, num_heads: int, degrees: Sequence[int], nonlocal_: bool | float
) -> None:
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
    if not isinstance(nonlocal_, (bool, int, float)) or (nonlocal_ is not False and nonlocal_ <= 0):
        raise ValueError(
            "`nonlocal_` is True, False, or a limit above 0 that replaces 1/n. "
            f"Received: nonlocal_={nonlocal_!r}."
        )
