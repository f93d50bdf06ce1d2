"""Prediction in the order given, and the offsets that are added outside of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_mlff import backend, quantities
from keras_mlff.backend import keras_private
from keras_mlff.core import deviations
from keras_mlff.core.construction import in_precision
from keras_mlff.core.deviations import Policy
from keras_mlff.core.domain import Domain
from keras_mlff.core.results import refuse_nonsense, with_labels
from keras_mlff.core.training import Training
from keras_mlff.graph import Array, Graph, centered, has_volume, is_known, level
from keras_mlff.heads import collection
from keras_mlff.layers.encoding import fit_ranges, parse_encoding
from keras_mlff.packing.offsets import label_offsets


class Prediction(Training):
    """Predicts totals: what the network computes plus what it did not have to learn.

    Energies of atoms are thousands of eV, of which float32 keeps no meV. So each head may have
    *offsets*: `references`, a value per element, and a `shift`, a value per structure. They are
    taken out of labels before training and added to predictions, both in float64.
    """

    @in_precision
    def predict(
        self, x: Any, batch_size: int = 32, verbose: Any = 0, domain: Policy | None = None
    ) -> dict[str, Array]:
        """Predicts all properties of the real atoms and structures, in the order given.

        Args:
            x: A structure or graph, a list or store of them, or a loader that does not shuffle.
            batch_size: Structures per batch, for lists. Defaults to 32.
            verbose: As in Keras: 0 prints nothing, 1 or `"auto"` a progress bar, 2 one line.
                Defaults to 0.
            domain: What happens to structures unlike those that the model has learned from:
                `"refuse"` refuses them, `"warn"` warns once, `"ignore"` says nothing. `None`, the
                default, refuses elements, charges, spin multiplicities and periodic directions
                that were not learned, and warns once of sizes and compositions. Charges and
                multiplicities that no atoms can have are always refused.

        Returns:
            NumPy arrays by name, such as `energy` `(num_graphs,)` in eV, `forces` `(num_atoms, 3)`
            in eV/Å and, for periodic structures, `stress` `(num_graphs, 3, 3)` in eV/Å³, which is
            NaN for those among them whose cell has no volume. Energies
            and other properties with offsets are float64 totals.

        Raises:
            ValueError: If the loader shuffles, or a structure is refused.
            FloatingPointError: If a prediction is NaN, infinite, or far beyond anything that the
                model has learned.
        """
        deviations.check_policy(domain)
        loader = self.make_loader(x, batch_size)
        if getattr(loader, "shuffle", False) is True:  # a tf.data.Dataset has a method of that name
            raise ValueError(
                "Predictions come in the order of the batches, which this loader shuffles. "
                "Received: a loader with shuffle=True. Make one with shuffle=False."
            )
        verbose = 1 if verbose == "auto" else int(verbose)
        length = len(loader) if hasattr(loader, "__len__") else None
        progress = keras.utils.Progbar(length, verbose=verbose) if verbose else None
        parts: list[dict[str, Array]] = []
        first = 0  # structure of the batch
        for inputs in (_as_numpy(batch) for batch in loader):
            self.notice_shapes("predict", inputs)
            self.check_domain(inputs, domain, first)
            predicted = keras.tree.map_structure(np.asarray, self.predict_on_batch(inputs))
            if backend.replicas().total > 1:  # TensorFlow's replicas all predict the same
                predicted = {key: _first_rows(key, predicted[key], inputs) for key in predicted}
            refuse_nonsense(predicted, inputs, self.domain, domain, first)
            first += int(np.sum(inputs["graph_mask"]))
            parts.append(_without_padding(self.add_offsets(predicted, inputs), inputs))
            if progress is not None:
                progress.update(len(parts), finalize=len(parts) == length)
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    @in_precision
    def predict_on_batch(self, x: Any) -> Any:
        """Predicts one padded batch, centered but without offsets; `predict` does more."""
        graph = centered(_as_numpy(x), wrap=not self.sees_wrapping)
        return backend.predict_on_batch(self, graph)

    def add_offsets(
        self, predictions: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> dict[str, Array]:
        """Adds element references and shifts to predictions of one batch, in float64.

        Args:
            predictions: What the network predicts, by name.
            inputs: The inputs of the same batch.

        Returns:
            NumPy arrays by the same names; what has no offset stays as it was.
        """
        return collection.add_offsets(self.heads, predictions, inputs)

    @in_precision
    def fit_offsets(self, graphs: Sequence[Graph]) -> None:
        """Sets references, shift and scale of each head from data; call it before training.

        Energies and other sums get least-squares values per element, averages get their mean, and
        scalars of atoms the mean of each element. The scale is the root mean square of the forces,
        or the spread of what remains. Structures and atoms without a label do not count. Learned
        tables of distances get the range that occurs, unless `distance_encoding` gives one. The
        domain of the model becomes that of the structures.

        Args:
            graphs: Structures or graphs with labels, those of the training alone.

        Raises:
            ValueError: If a head's label is missing in all structures.
        """
        if not graphs:
            raise ValueError("Offsets are fitted to structures. Received: an empty list.")
        for head in self.heads:
            head.fit_offsets(graphs)
        ends = fit_ranges(keras_private.layers_inside(self), graphs)
        if ends is not None:  # a saved model must know them
            chosen = parse_encoding(self.arguments["distance_encoding"])
            self.arguments["distance_encoding"] = chosen | ends
        self.preset = None  # whose references are gone
        self.learn_domain(self._domain_of(graphs))
        keras_private.forget_compiled_functions(self)

    def adapt_offsets(self, graphs: Sequence[Graph]) -> None:
        """Moves the offsets of a trained model to another level of theory.

        Energies of two methods differ mostly by a constant per element. Each head that has
        offsets and a label gets those that, with the network as it is, come closest to the
        labels; other heads, such as dipoles, stay as they are. A model that was a preset is none
        from here on, and its domain is widened.

        Args:
            graphs: Structures or graphs with labels of the other level of theory; those without
                do not count.
        """
        self.preset = None  # which may know other elements
        if not graphs:
            raise ValueError("Offsets are adapted to structures. Received: an empty list.")
        self.learn_domain(self.domain.joined(Domain.of(graphs)))
        adapted = [
            head
            for head in self.heads
            if head.has_offset and any(is_known(head.name, graph).any() for graph in graphs)
        ]
        predicted = self.predict(list(graphs), domain="ignore") if adapted else {}
        for head in adapted:
            head.adapt_offsets(graphs, predicted[head.name])
        self.domain = self.domain.joined(self._domain_of(graphs))
        keras_private.forget_compiled_functions(self)

    def _domain_of(self, graphs: Sequence[Graph]) -> Domain:
        """Collects the domain of structures, and how large labels without offsets are."""
        domain = Domain.of(graphs)
        tables = collection.offset_tables(self.heads)
        for graph in graphs:
            labels: dict[str, Any] = {
                key: graph[key] - label_offsets(level(key), graph, *tables[key])
                if key in tables
                else graph[key]
                for key in ("energy", "forces")
                if key in graph
            }
            domain = with_labels(domain, labels, graph)
        return domain


def _first_rows(key: str, value: Array, inputs: Graph) -> Array:
    per_atom = level(key) == "atom"
    return value[: len(inputs["atom_mask"] if per_atom else inputs["graph_mask"])]


def _without_padding(predictions: Mapping[str, Array], inputs: Graph) -> dict[str, Array]:
    """Keeps what is real; what needs a volume is NaN, as if not there, where there is none."""
    masks = {"atom": inputs["atom_mask"], "structure": inputs["graph_mask"]}
    real = {key: value[masks[level(key)]] for key, value in predictions.items()}
    for key in real:
        if quantities.get(key).needs_volume:
            filled = has_volume(np.asarray(inputs["cell"], np.float64))[inputs["graph_mask"]]
            real[key] = np.where(filled[:, None, None], real[key], np.nan)
    return real


def _as_numpy(batch: Any) -> Graph:
    inputs, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return {key: np.asarray(value) for key, value in inputs.items()}
