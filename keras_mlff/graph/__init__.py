"""The graph: a plain dict of arrays that every part of the package speaks.

A graph holds the atoms and edges of one or several structures; without edges it is a *structure*.
Labels (`energy`, `forces`, ... or any registered quantity by its own name) are in the same dict.
Padding comes after the real entries and is marked by the masks; it changes no result.

| key | shape and type | meaning |
|---|---|---|
| `positions` | `(num_atoms, 3)` float | Å |
| `atomic_numbers` | `(num_atoms,)` int32 | 0 = padding |
| `graph_ids` | `(num_atoms,)` int32 | the graph of each atom |
| `atom_mask` | `(num_atoms,)` bool | True = real |
| `senders` | `(num_edges,)` int32 | neighbor j |
| `receivers` | `(num_edges,)` int32 | center i, ascending |
| `edge_mask` | `(num_edges,)` bool | True = real |
| `cell_shifts` | `(num_edges, 3)` float | whole numbers; only periodic graphs |
| `cell` | `(num_graphs, 3, 3)` float | Å, lattice vectors in rows; only periodic graphs |
| `pbc` | `(num_graphs, 3)` bool | only periodic graphs |
| `total_charge` | `(num_graphs,)` float | e |
| `spin_multiplicity` | `(num_graphs,)` int32 | 2S+1, 1 = singlet |
| `graph_mask` | `(num_graphs,)` bool | True = real |
| `fragments` | `(num_atoms,)` int32 | first atom of each atom's molecule; only on request |
| `fragment_charges` | `(num_atoms,)` float | e, charge of that molecule; only on request |
| `atom_table` | `(num_graphs, max_atoms)` int32 | the atoms of each graph, -1 = none |
| `triplet_in` | `(num_triplets,)` int32 | edge k -> j; only on request |
| `triplet_out` | `(num_triplets,)` int32 | edge j -> i; only on request |
| `triplet_mask` | `(num_triplets,)` bool | only on request |
| `long_senders` | `(num_long_edges,)` int32 | far pairs, each once; only on request |
| `long_receivers` | `(num_long_edges,)` int32 | ascending, none above its sender |
| `long_edge_mask` | `(num_long_edges,)` bool | True = real |
| `long_cell_shifts` | `(num_long_edges, 3)` float | whole numbers; only periodic graphs |
"""

from keras_mlff.graph.batches import join as join
from keras_mlff.graph.batches import missing as missing
from keras_mlff.graph.batches import pad as pad
from keras_mlff.graph.batches import split as split
from keras_mlff.graph.batches import with_equal_labels as with_equal_labels
from keras_mlff.graph.batches import with_periodic_keys as with_periodic_keys
from keras_mlff.graph.building import dummy_graph as dummy_graph
from keras_mlff.graph.building import structure as structure
from keras_mlff.graph.cells import centered as centered
from keras_mlff.graph.cells import check_search as check_search
from keras_mlff.graph.cells import has_volume as has_volume
from keras_mlff.graph.keys import INPUT_LEVELS as INPUT_LEVELS
from keras_mlff.graph.keys import LEVELS as LEVELS
from keras_mlff.graph.keys import MASKS as MASKS
from keras_mlff.graph.keys import MAX_ATOMIC_NUMBER as MAX_ATOMIC_NUMBER
from keras_mlff.graph.keys import PERIODIC_KEYS as PERIODIC_KEYS
from keras_mlff.graph.keys import POINTS_AT as POINTS_AT
from keras_mlff.graph.keys import Array as Array
from keras_mlff.graph.keys import Graph as Graph
from keras_mlff.graph.keys import Tensor as Tensor
from keras_mlff.graph.keys import count as count
from keras_mlff.graph.keys import elements as elements
from keras_mlff.graph.keys import inputs_and_labels as inputs_and_labels
from keras_mlff.graph.keys import is_known as is_known
from keras_mlff.graph.keys import level as level
from keras_mlff.graph.stated import STATED_NAMES as STATED_NAMES
from keras_mlff.graph.stated import as_numbers as as_numbers
from keras_mlff.graph.stated import charge_and_spin as charge_and_spin
from keras_mlff.graph.stated import unread_names as unread_names
