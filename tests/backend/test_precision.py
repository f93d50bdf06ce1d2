"""float64 is a matter of the thread that asks for it."""

import threading

import keras

from keras_mlff import backend
from keras_mlff.backend import keras_private


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
