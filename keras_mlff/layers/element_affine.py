"""A learned factor and term for each element."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor


@keras.saving.register_keras_serializable("keras_mlff")
class ElementAffine(keras.layers.Layer):
    """Multiplies numbers of each atom by a learned factor of its element and adds a term.

    Factors begin as one and terms as zero, so that a new model is what it is without. Terms are in
    units of the network, which the head's scale follows; they are not the head's references, which
    hold the large part of the energy in float64.
    """

    def build(self, *shapes: Any) -> None:
        """Creates factors and terms by atomic number."""
        self.factors = self.add_weight((MAX_ATOMIC_NUMBER + 1,), "ones", name="factors")
        self.terms = self.add_weight((MAX_ATOMIC_NUMBER + 1,), "zeros", name="terms")

    def call(self, numbers: Tensor, graph: Graph) -> Tensor:
        """Maps the numbers of each atom.

        Call arguments:
            numbers: `(num_atoms, n)`.
            graph: The batch, whose `atomic_numbers` choose factor and term.

        Returns:
            `(num_atoms, n)`.
        """
        elements = graph["atomic_numbers"]
        factors, terms = (
            ops.take(each, elements, axis=0)[:, None] for each in (self.factors, self.terms)
        )
        return numbers * factors + terms
