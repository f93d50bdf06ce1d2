"""Each private part of Keras does what the fence says, and nothing else uses private Keras."""

import ast
import contextlib
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff.backend import keras_private
from tests.core.pair_net import compiled, make_graphs, weights_of

BACKEND = keras.backend.backend()
PACKAGE = Path(keras_private.__file__).parents[1]
FENCE = Path(keras_private.__file__)
# names that Keras keeps to itself and that the package uses, each behind the fence alone
PRIVATE = frozenset(
    {
        "BIT64_TO_BIT32_DTYPE",
        "_flatten_layers",
        "_get_jax_state",
        "_initial_epoch",
        "_jax_state",
        "_maybe_symbolic_build",
        "_model_variables_moving_average",
        "_modules",
        "_symbolic_build",
        "_trainable_variables",
        "_use_cached_eval_dataset",
        "jax_state_sync",
        "load_own_variables",
        "predict_function",
        "test_function",
        "train_function",
    }
)

DOCUMENTED = {"load_own_variables"}  # as a method that a class may override


def private_names(source):
    """Yields what in a program belongs to private Keras, as attribute, method, text or import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras.src"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("keras.src"))
        elif isinstance(node, ast.Attribute) and node.attr in PRIVATE:
            yield node.attr
        elif isinstance(node, ast.FunctionDef) and node.name in PRIVATE - DOCUMENTED:
            yield node.name
        elif isinstance(node, ast.Constant) and node.value in PRIVATE:
            yield node.value
        elif isinstance(node, ast.keyword) and node.arg in PRIVATE:
            yield node.arg
        elif isinstance(node, ast.Call) and ast.unparse(node) == "type(keras.Model)":
            yield "type(keras.Model)"


def test_a_step_of_predictions_is_kept_until_it_is_forgotten():
    model, made = keras.Sequential(), []
    for expected in (1, 1, 2):
        if expected == 2:
            keras_private.forget_compiled_functions(model)
        keras_private.kept_predict_step(model, lambda: made.append(1) or "step")
        assert len(made) == expected


def test_nothing_else_uses_private_keras():
    assert set(
        private_names("import keras.src.x\na._jax_state\nf(_use_cached_eval_dataset=1)")
    ) == {
        "keras.src.x",
        "_jax_state",
        "_use_cached_eval_dataset",
    }
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        if path != FENCE
        for name in private_names(path.read_text(encoding="utf-8"))
    }
    assert not found


def test_the_installed_version_is_the_tested_one():
    """A later one may work; then `TESTED` is moved once these tests pass."""
    assert keras.__version__.startswith(f"{keras_private.TESTED}.")


def test_a_missing_part_is_an_error_that_says_what_to_do(monkeypatch):
    with pytest.raises(RuntimeError) as caught:
        keras_private.layers_inside(types.SimpleNamespace())
    text = str(caught.value)
    for part in (
        f"keras {keras.__version__}",
        "SimpleNamespace._flatten_layers",
        "find the layers inside of layers",
        f"pip install 'keras~={keras_private.TESTED}.0'",
    ):
        assert part in text
    monkeypatch.setattr(keras_private, "_RESULT_TYPES", "keras.src.elsewhere")
    with pytest.raises(RuntimeError, match=r"without `keras\.src\.elsewhere`.*float64"):
        keras_private.result_types()


def test_the_table_of_result_types_decides_what_float64_becomes():
    table, before = keras_private.result_types(), keras.backend.result_type("float64", "float64")
    keras_private.set_result_types(table | {"float64": "float64"})
    try:
        assert keras.backend.result_type("float64", "float64") == "float64"
    finally:
        keras_private.set_result_types(table)
    assert keras.backend.result_type("float64", "float64") == before


def test_layers_read_their_weights_inside_of_the_block(tmp_path):
    layer, entered = keras.layers.Dense(2), []
    model = keras.Sequential([keras.Input((3,)), layer])
    model.save_weights(tmp_path / "some.weights.h5")

    @contextlib.contextmanager
    def block():
        entered.append(True)
        yield

    keras_private.load_inside(layer, block)
    layer.set_weights([np.zeros((3, 2)), np.ones(2)])
    model.load_weights(tmp_path / "some.weights.h5")
    assert entered == [True]
    np.testing.assert_array_equal(layer.get_weights()[1], np.zeros(2))


def test_models_are_made_by_a_class_of_keras():
    """`core.construction.Complete` is derived from it."""
    assert isinstance(keras.Model, keras_private.ModelType)
    assert issubclass(keras_private.ModelType, type)


def test_layers_are_found_at_every_depth():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="deep")])
    outer = keras.Sequential([inner])
    found = [layer.name for layer in keras_private.layers_inside(outer)]
    assert "deep" in found
    assert outer.name not in found


def test_attributes_are_found_on_every_backend(pair_net):
    model = pair_net()
    found = keras_private.attributes(model)
    assert found["embedding"] is model.embedding
    assert found["num_features"] == 4


def test_averages_are_paired_with_their_variables():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    optimizer.build(model.trainable_variables)
    pairs = keras_private.moving_averages(optimizer)
    assert [variable.path for variable, _ in pairs] == [v.path for v in model.trainable_variables]
    before = [keras.ops.convert_to_numpy(average) for _, average in pairs]
    optimizer.apply([keras.ops.ones(v.shape) for v in model.trainable_variables])
    for (variable, average), old in zip(
        keras_private.moving_averages(optimizer), before, strict=True
    ):
        assert average.shape == variable.shape
        assert np.any(keras.ops.convert_to_numpy(average) != old)


def test_a_fit_that_has_begun_continues_with_the_epoch_that_is_set(pair_net):
    class Skip(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            keras_private.set_initial_epoch(self.model, 3)

        def on_train_end(self, logs=None):
            keras_private.set_initial_epoch(self.model, None)

    model = compiled(pair_net)
    history = model.fit(make_graphs(2), epochs=4, verbose=0, callbacks=[Skip()])
    assert history.epoch == [3]


def test_compiled_functions_are_forgotten(pair_net):
    """A constant that was compiled in, here the scale of the energy, changes after all."""
    model, graphs = compiled(pair_net), make_graphs(2)
    model.heads[0].references = {}
    before = model.predict(graphs)["energy"]
    model.heads[0].scale *= 2.0
    keras_private.forget_compiled_functions(model)
    np.testing.assert_allclose(model.predict(graphs)["energy"], 2.0 * before, rtol=1e-5)


def test_fit_marks_its_validations(pair_net, monkeypatch):
    model, marks = compiled(pair_net), []
    original = keras_private.is_validation

    def watched(arguments):
        marks.append(original(arguments))
        return marks[-1]

    monkeypatch.setattr(keras_private, "is_validation", watched)
    graphs = make_graphs(2)
    model.fit(graphs, validation_data=graphs, verbose=0)
    model.evaluate(graphs, verbose=0)
    assert marks == [True, False]


def test_hooks_are_there_to_be_called(pair_net, monkeypatch):
    pair_net.check_hooks()
    monkeypatch.setitem(keras_private._HOOKS, BACKEND, ("_no_such_hook",))
    with pytest.raises(RuntimeError, match=r"Model\._no_such_hook"):
        compiled(pair_net).fit(make_graphs(2), verbose=0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a method of Keras's TensorFlow trainer")
def test_the_optimizer_is_built_without_a_batch(pair_net):
    model = compiled(pair_net, keras.optimizers.Adam(0.1))
    model.optimizer.built = False
    model._maybe_symbolic_build(iterator=None)
    assert model.optimizer.built


@pytest.mark.skipif(BACKEND != "jax", reason="a method of Keras's JAX trainer")
def test_weights_that_a_step_has_taken_are_returned(pair_net):
    model = compiled(pair_net)
    before = weights_of(model)
    model._jax_state_synced = False
    parts = ("trainable_variables", "non_trainable_variables", "metrics_variables")
    model._get_jax_state(purge_model_variables=True, **dict.fromkeys(parts, True))
    keras_private.return_weights(model)
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
