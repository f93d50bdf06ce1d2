"""Looking inside of a network: intermediate values, attention, encodings of distances."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_mlff import backend
from keras_mlff.core.construction import in_precision
from keras_mlff.graph import Array, Graph, Tensor, centered, inputs_and_labels, split


class Inspection:
    """Lets a network record what it computes on the way, and returns it on request.

    An architecture calls `self.record(name, value)` in its `embed`; outside of `inspect` this does
    nothing, and costs nothing.
    """

    cutoff: float
    compute_dtype: str
    _recorder: dict[str, Tensor] | None = None

    @property
    def is_recording(self) -> bool:
        """Whether `inspect` runs, so that values worth computing only then are wanted."""
        return self._recorder is not None

    def record(self, name: str, value: Tensor) -> None:
        """Keeps an intermediate value while `inspect` runs; else does nothing.

        Args:
            name: The value's name. Names that end in `/attention` are coefficients, which
                `attention` returns.
            value: A tensor. Coefficients have the shape `(num_graphs, max_atoms, max_atoms)` or
                `(num_graphs, num_heads, max_atoms, max_atoms)`, receiver first.
        """
        if self._recorder is not None:
            self._recorder[name] = value

    @in_precision
    def inspect(self: Any, graph: Graph) -> dict[str, Array]:
        """Returns the intermediate values that the architecture records.

        Args:
            graph: One graph or structure.

        Returns:
            NumPy arrays by the names that the architecture gives them.
        """
        inputs, _ = inputs_and_labels(self.make_loader(graph, 1).graphs[0])

        def recorded(tensors: Graph) -> dict[str, Tensor]:
            self._recorder = {}
            try:
                self._properties(tensors, training=False)
                return dict(self._recorder)
            finally:
                self._recorder = None

        inputs = centered(inputs, wrap=not self.sees_wrapping)
        values = backend.run_once(recorded, as_tensors(inputs, self.compute_dtype))
        return {key: ops.convert_to_numpy(value) for key, value in values.items()}

    def attention(self, graph: Graph) -> dict[str, Array]:
        """Returns the attention coefficients of one structure, as the network uses them.

        Args:
            graph: A graph or structure; parts of a batch come from `keras_mlff.graph.split`.

        Returns:
            `"layer0"`, ... (GeomAtt: `"stream0/layer0"`, ...) to arrays `(num_atoms, num_atoms)`
            or `(num_heads, num_atoms, num_atoms)`: how much the atom of the row takes from the
            atom of the column.

        Raises:
            ValueError: If the architecture has no attention or the graph is not one structure.
        """
        if int(np.sum(graph["graph_mask"])) != 1:
            raise ValueError(
                "Attention is returned for one structure at a time. Received: "
                f"{int(np.sum(graph['graph_mask']))} structures. "
                "Split a batch with `keras_mlff.graph.split`."
            )
        graph = split(graph)[0]  # without padding
        suffix = "/attention"
        found = {
            key.removesuffix(suffix): value
            for key, value in self.inspect(graph).items()
            if key.endswith(suffix)
        }
        if not found:
            raise ValueError(
                f"{type(self).__name__} as configured has no attention, so there are no "
                "coefficients to return. `inspect(graph)` lists what it does record."
            )
        return {key: value[0] for key, value in found.items()}

    def encode_distances(self: Any, distances: Tensor) -> list[Tensor]:
        """Computes what each layer makes of distances alone, for `keras-mlff analyze encoding`.

        Args:
            distances: `(n,)`, Å, above 0.

        Returns:
            `(n, width)` of each layer, or of all where they share it; by default the radial basis.

        Raises:
            NotImplementedError: If the architecture neither has a `radial_basis` nor defines this.
        """
        if not hasattr(self, "radial_basis"):
            raise NotImplementedError(
                f"{type(self).__name__} must define `encode_distances(distances)`."
            )
        return [self.radial_basis(distances)]

    @property
    def encoding_range(self) -> float:
        """The distance in Å up to which `encode_distances` is drawn; by default the cutoff."""
        return self.cutoff


def as_tensors(inputs: Graph, dtype: str) -> dict[str, Tensor]:
    """Converts the inputs of a graph to tensors, those of floating point to one precision."""
    return {
        key: ops.convert_to_tensor(value, dtype if value.dtype.kind == "f" else None)
        for key, value in inputs.items()
    }
