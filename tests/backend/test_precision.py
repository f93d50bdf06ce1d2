"""float64 is a matter of the thread that asks for it, and float32 has all its digits in models."""

import threading

import keras
import numpy as np
import pytest
from ase.build import molecule

from keras_mlff import backend, models
from keras_mlff.backend import keras_private
from keras_mlff.graph import structure


def test_a_thread_computes_in_float64_while_it_asks_for_it_and_others_as_before():
    """Two blocks overlap; the one that opened first closes first."""
    table, before = keras_private.result_types(), keras.backend.result_type("float64", "float64")
    opened, closed = threading.Barrier(3), threading.Barrier(3)
    found = {}

    def first():
        with backend.double_precision():
            opened.wait(30)
        found["first after"] = keras.backend.result_type("float64", "float64")
        closed.wait(30)

    def second():
        with backend.double_precision():
            opened.wait(30)
            closed.wait(30)
            found["second inside"] = keras.backend.result_type("float64", "float64")

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    opened.wait(30)
    found["main"] = keras.backend.result_type("float64", "float64")
    closed.wait(30)
    for thread in threads:
        thread.join()
    assert found == {"first after": before, "second inside": "float64", "main": before}
    assert keras_private.result_types() is table
    assert keras.backend.result_type("float64", "float64") == before


def products_are_exact():
    """Asks the framework whether it multiplies matrices of float32 with all digits now."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.config.jax_default_matmul_precision == "highest"
    if keras.backend.backend() == "torch":
        import torch

        return torch.get_float32_matmul_precision() == "highest"
    import tensorflow as tf

    return not tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.fixture
def rounding():
    """Lets the framework round factors, as a user's setting may and as some are by default."""
    if keras.backend.backend() == "torch":
        import torch

        torch.set_float32_matmul_precision("medium")
    assert not products_are_exact()
    yield
    if keras.backend.backend() == "torch":
        torch.set_float32_matmul_precision("highest")


def test_models_multiply_with_all_digits_and_leave_the_setting(rounding):
    seen = []

    class Watching(models.EGNN):
        def embed(self, graph, training=False):
            seen.append(products_are_exact())
            return super().embed(graph, training)

    model = Watching(num_features=8, num_layers=1)
    water = structure([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]], [8, 1, 1], energy=-1.0)
    eagerly = keras.backend.backend() != "jax"  # which traces anew for another precision
    model.compile("sgd", loss={"energy": "mse"}, run_eagerly=eagerly)
    model.predict(water)
    model.fit([water], epochs=1, verbose=0)
    assert len(seen) > 1
    assert all(seen)
    assert not products_are_exact()
    backend.allow_tf32()
    try:
        seen.clear()
        model.predict(water)
        assert backend.tf32_is_allowed()
        assert seen
        assert not any(seen)
    finally:
        backend.allow_tf32(False)


@pytest.mark.gpu
@pytest.mark.skipif(not any("cpu" not in name for name in backend.devices()), reason="needs a GPU")
def test_forces_on_a_gpu_are_those_of_float64(rounding):
    """TF32 would leave 3e-3 eV/Å."""
    model = models.load_preset("so3krates/md17_ethanol")
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    graph = structure(atoms.positions, atoms.numbers)
    exact = model.copy("float64").predict(graph)["forces"]
    np.testing.assert_allclose(model.predict(graph)["forces"], exact, atol=5e-5)
