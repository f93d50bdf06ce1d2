"""Whatever users have becomes batches, or an error that says what to do."""

import keras
import numpy as np
import pytest

from keras_mlff.graph import structure
from keras_mlff.neighbors import GraphSpec, add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader
from tests.core.pair_net import as_preset, compiled, make_graphs, with_gold

BACKEND = keras.backend.backend()


def test_a_store_of_graphs_is_fed_as_a_list_is(pair_net, tmp_path):
    from keras_mlff.pipeline import store

    model, graphs = compiled(pair_net), make_graphs(5)
    stored = store.make(tmp_path, ("five",), lambda: graphs)
    expected = model.evaluate(graphs, batch_size=3, verbose=0)
    np.testing.assert_allclose(model.evaluate(stored, batch_size=3, verbose=0), expected, rtol=1e-6)
    energies = model.predict(graphs)["energy"]
    np.testing.assert_allclose(model.predict(stored)["energy"], energies, rtol=1e-6)
    history = model.fit(stored, batch_size=3, verbose=0).history
    np.testing.assert_allclose(history["loss"], expected[0], rtol=1e-5)


def test_what_is_no_graph_and_no_loader_is_refused(pair_net):
    model, graphs = compiled(pair_net), make_graphs(2)
    with pytest.raises(TypeError, match=r"Received: generator\. Make a list"):
        model.fit((graph for graph in graphs), verbose=0)
    with pytest.raises(TypeError, match="from_atoms"):
        model.predict(iter(graphs))
    with pytest.raises(TypeError, match="Received: NoneType"):
        model.evaluate(verbose=0)
    with pytest.raises(TypeError, match="a list with ndarray"):
        model.predict([np.zeros((2, 3))])
    with pytest.raises(
        ValueError, match=r"\['atomic_numbers', 'positions'\], without \['atom_mask'"
    ):
        model.predict({"positions": np.zeros((1, 3)), "atomic_numbers": np.asarray([1])})


def test_edges_without_triplets_are_refused_where_they_are_needed(pair_net):
    class AngleNet(pair_net):
        uses_triplets = True

    graphs = make_graphs(2)
    model = compiled(AngleNet)
    for use in (model.predict, model.evaluate, model.fit):
        with pytest.raises(ValueError, match="AngleNet needs triplets"):
            use(graphs, verbose=0)
    model.predict([add_edges(graph, 5.0, triplets=True) for graph in graphs])


def test_a_preset_judges_no_unknown_element_however_it_is_fed(pair_net):
    model = as_preset(compiled(pair_net))
    known, unknown = make_graphs(4), with_gold()
    # the first batch is fine: later ones come through other threads
    loader = GraphLoader(known + unknown, batch_size=3)
    message = r"atomic_numbers=\[79\], preset='invented'"
    for use in (model.predict, model.evaluate):
        for data in (known + unknown, loader):
            with pytest.raises(ValueError, match=message):
                use(data, verbose=0)
    model.evaluate(GraphLoader(known, 3), verbose=0)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        one = loader[0]
        signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), one)
        dataset = tf.data.Dataset.from_generator(lambda: iter(loader), output_signature=signature)
        with pytest.raises(ValueError, match=message):
            model.evaluate(dataset, verbose=0)


def test_shapes_are_counted_and_a_surplus_is_reported(pair_net):
    model, graphs = compiled(pair_net), make_graphs(1, sizes=(3,))
    for extra in range(8):
        model.notice_shapes(
            "predict", GraphLoader(graphs, budget=Budget(1, 3 + extra, 6, 0, 3))[0][0]
        )
    assert len(model.compilations["predict"]) == 8
    surplus = GraphLoader(graphs, budget=Budget(1, 20, 6, 0, 3))[0][0]
    if model.jit_compile:
        with pytest.warns(UserWarning, match="9 different batch shapes"):
            model.notice_shapes("predict", surplus)


def test_an_epoch_compiles_once(pair_net):
    model, graphs = compiled(pair_net, jit_compile="auto"), make_graphs(12)
    model.fit(graphs, batch_size=3, epochs=2, validation_data=graphs, verbose=0)
    assert {mode: len(shapes) for mode, shapes in model.compilations.items()} == {
        "fit": 1,
        "evaluate": 1,
        "predict": 0,
    }


def test_a_model_says_which_edges_it_reads(pair_net):
    class AngleNet(pair_net):
        uses_triplets = True

    assert pair_net(cutoff=4.0).graph_spec == GraphSpec(4.0)
    assert AngleNet().graph_spec == GraphSpec(5.0, triplets=True)
    graph = AngleNet().graph_spec.add_edges(structure([[0, 0, 0], [0, 0, 1], [0, 1, 0]], [8, 1, 1]))
    assert "triplet_in" in graph
