"""From what users have (structures, graphs, loaders, datasets) to batches that a step takes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from keras_mlff import backend, presets
from keras_mlff.core import deviations
from keras_mlff.core.deviations import Policy
from keras_mlff.core.domain import Domain, check_states
from keras_mlff.graph import Graph, structure
from keras_mlff.heads import Head, collection
from keras_mlff.layers.long_range import LongRange
from keras_mlff.neighbors import GraphSpec
from keras_mlff.packing.budget import Packable
from keras_mlff.packing.feed import Feed
from keras_mlff.packing.loader import GraphLoader

_STRUCTURE_KEYS = frozenset(structure([[0.0, 0.0, 0.0]], [1]))
_MAX_COMPILATIONS = 8  # a handful of shapes is a design, more is an accident


class Feeding:
    """Makes loaders of what a model is given, and watches what comes out of them.

    Attributes:
        compilations: By `"fit"`, `"evaluate"` and `"predict"`, the shapes of batches that were
            met; each of them is compiled once.
        preset: The preset whose weights the model has; `None` once it was trained. Setting it
            sets the domain.
        domain: What the model has learned from.
    """

    cutoff: float
    uses_triplets: bool
    sees_wrapping: bool
    long_range: LongRange | None
    long_range_cutoff: float | None
    heads: list[Head]
    jit_compile: bool
    domain: Domain
    compilations: dict[str, set[Any]]
    _preset: presets.Preset | None
    _told: set[str]  # kinds of warnings that users have had

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._preset, self.domain, self._told = None, Domain(), set()
        self.compilations = {"fit": set(), "evaluate": set(), "predict": set()}

    @property
    def sees_states(self) -> bool:
        """Whether total charge or spin multiplicity take part in predictions."""
        raise NotImplementedError

    @property
    def preset(self) -> presets.Preset | None:
        return self._preset

    @preset.setter
    def preset(self, preset: presets.Preset | None) -> None:
        self._preset = preset
        if preset is not None:
            domain = Domain.from_config(preset.metadata.get("domain", {}))
            if preset.elements:  # of which more or less may be known than how often they occurred
                elements = {z: domain.elements.get(z) for z in preset.elements}
                domain = dataclasses.replace(domain, elements=elements)
            self.domain = domain

    @property
    def graph_spec(self) -> GraphSpec:
        """The edges that the model reads; `model.graph_spec.add_edges(structure)` makes them."""
        return GraphSpec(self.cutoff, self.uses_triplets, self.long_range_cutoff)

    def make_loader(self, x: Any, batch_size: int = 32, shuffle: bool = False) -> Any:
        """Makes a loader of what `fit`, `evaluate` and `predict` take.

        Args:
            x: A structure or graph, a list or store of them, or a loader, which is returned as it
                is. Structures without edges get those of `graph_spec`.
            batch_size: Structures per batch, about, where sizes differ. Defaults to 32.
            shuffle: Whether to change the order in each epoch. Defaults to False.

        Returns:
            A `GraphLoader`, or the loader or dataset that was given.

        Raises:
            TypeError: If the data are of another kind.
            ValueError: If a graph lacks keys.
        """
        if isinstance(x, dict):
            x = [x]
        if isinstance(x, Packable):
            return GraphLoader(cast("Sequence[Graph]", x), batch_size, shuffle=shuffle)
        if hasattr(x, "get_positions") or isinstance(x, Iterator):
            raise TypeError(_unknown_data(x))
        if not isinstance(x, (list, tuple)):
            return x
        if not x:
            raise ValueError("There is nothing to compute. Received: an empty list of structures.")
        graphs = [self._complete_graph(graph) for graph in x]
        return GraphLoader(graphs, batch_size, shuffle=shuffle)

    def make_feed(
        self,
        mode: str,
        domain: Policy | None = None,
        add_wait: Callable[[float], None] | None = None,
    ) -> Feed:
        """Makes what prepares batches for this model.

        Args:
            mode: `"fit"`, `"evaluate"` or `"predict"`, under which shapes are counted.
            domain: What happens to structures that lie outside of the model's domain; see
                `predict`. In `"fit"` nothing does, but impossible states are refused.
            add_wait: Called with the seconds that a step has waited for its batch.

        Returns:
            A feed that takes the offsets of the heads out of labels, counts shapes and looks at
            what the model is to see.
        """
        checks = self.check_possible if mode == "fit" else partial(self.check_domain, domain=domain)
        return Feed(
            offsets=collection.offset_tables(self.heads),
            notice_shapes=lambda inputs: self.notice_shapes(mode, inputs),
            check_inputs=checks,
            wrap=not self.sees_wrapping,
            add_wait=add_wait,
        )

    def prepare_data(self, x: Any, feed: Feed, batch_size: int, shuffle: bool = False) -> Any:
        """Makes what Keras trains on of whatever users have; see `make_loader` and `make_feed`."""
        loader = self.make_loader(x, batch_size, shuffle)
        if not hasattr(loader, "__len__") or isinstance(loader, (str, np.ndarray)):
            raise TypeError(_unknown_data(loader))
        if isinstance(loader, GraphLoader) and isinstance(loader.graphs, list):
            self.check_labels(loader.graphs)
        return backend.prepare_data(loader, feed)

    def check_labels(self, graphs: Sequence[Graph]) -> None:
        """Refuses graphs that lack a label; `Training` knows which labels it needs."""

    def check_possible(self, inputs: Mapping[str, Any]) -> None:
        """Refuses states that cannot be, and elements that a term of the model has no values for.

        Raises:
            ValueError: With what was received.
        """
        check_states(inputs)
        if self.long_range is not None:
            self.long_range.check_elements(inputs["atomic_numbers"])

    def check_domain(
        self, inputs: Mapping[str, Any], domain: Policy | None = None, first: int = 0
    ) -> None:
        """Refuses what the model cannot answer for, or warns of it once; `predict` calls it.

        Args:
            inputs: A structure, a graph or a batch.
            domain: See `predict`.
            first: Number of the first structure, for messages.

        Raises:
            ValueError: If a state is impossible, or if something is refused.
        """
        if self.long_range is not None:
            self.long_range.check_elements(inputs["atomic_numbers"])
        name = type(self).__name__ if self.preset is None else f"preset='{self.preset.name}'"
        told = self._told
        deviations.check(self.domain, inputs, domain, self.sees_states, told, name, first)

    def learn_domain(self, domain: Domain) -> None:
        """Sets what the model has learned from, and warns of states that it cannot tell apart."""
        self.domain = domain
        if not self.sees_states and len(domain.states) > 1 and "learned" not in self._told:
            self._told.add("learned")
            warnings.warn(
                "The data hold several total charges or spin multiplicities, which this model "
                "cannot tell apart: structures that differ in them alone get one energy, the mean. "
                f"Received: {list(domain.states)}. Make the model with charge_spin=True, or learn "
                "one of them.",
                stacklevel=2,
            )

    def notice_shapes(self, mode: str, inputs: Mapping[str, Any]) -> None:
        """Looks at keys and shapes of a batch before a step takes it; counts and warns.

        Args:
            mode: `"fit"`, `"evaluate"` or `"predict"`.
            inputs: The inputs of a batch, or their specification.

        Raises:
            ValueError: If the model reads triplets or far pairs and there are none.
        """
        if self.uses_triplets and "triplet_in" not in inputs:
            raise ValueError(
                f"{type(self).__name__} needs triplets, the pairs of edges that share an atom. "
                f"Received: a batch with {sorted(inputs)}. Make its graphs by "
                "`model.graph_spec.add_edges(structure)`."
            )
        if self.long_range_cutoff is not None and "long_senders" not in inputs:
            raise ValueError(
                f"The model's long-range terms read far pairs. Received: a batch with "
                f"{sorted(inputs)}. Make its graphs by `model.graph_spec.add_edges(structure)`."
            )
        shapes = tuple(sorted((key, tuple(value.shape)) for key, value in inputs.items()))
        known = self.compilations[mode]
        if shapes in known:
            return
        known.add(shapes)
        if len(known) == _MAX_COMPILATIONS + 1 and self.jit_compile:
            warnings.warn(
                f"`{mode}` has met {len(known)} different batch shapes, and each is compiled for "
                "itself. Pack graphs into one budget (GraphLoader, or predict on a list).",
                stacklevel=2,
            )

    def _complete_graph(self, graph: Any) -> Graph:
        """Checks one item of a list, and adds edges where it has none."""
        if not isinstance(graph, Mapping):
            raise TypeError(
                "A list holds graphs or structures, as `keras_mlff.graph.structure(positions, "
                "atomic_numbers)` and `keras_mlff.datasets.from_atoms` make them. Received: a list "
                f"with {type(graph).__name__}."
            )
        missing = sorted(_STRUCTURE_KEYS - graph.keys())
        if missing:
            raise ValueError(
                f"A graph has more keys than these. Received: {sorted(graph)}, without {missing}. "
                "`keras_mlff.graph.structure(positions, atomic_numbers)` makes them all."
            )
        complete: Graph = dict(graph)
        wanted = {"senders"} if self.long_range_cutoff is None else {"senders", "long_senders"}
        return complete if wanted <= graph.keys() else self.graph_spec.add_edges(complete)


def _unknown_data(x: Any) -> str:
    return (
        "Data are a graph, a list of graphs or structures, a GraphStore, a GraphLoader or another "
        f"loader with a length, or a tf.data.Dataset. Received: {type(x).__name__}. Make a list of "
        "what a generator yields, and structures of ASE's atoms "
        "(`keras_mlff.datasets.from_atoms`)."
    )
