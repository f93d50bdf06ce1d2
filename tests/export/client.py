"""A client that has TensorFlow and nothing of ours: calls a SavedModel on stored inputs.

Usage: python client.py SAVED_MODEL INPUTS.npz OUTPUTS.npz

Keys of the files are "case/signature/name" and "case/name".
"""

import sys

HIDDEN = {"keras", "keras_mlff", "jax", "torch"}


class Finder:
    """Makes what wrote the SavedModel look as if it were not installed."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in HIDDEN
        return None if hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Finder(finder) for finder in sys.meta_path]

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def main(folder: str, inputs: str, outputs: str) -> None:
    cases: dict[tuple[str, str], dict[str, tf.Tensor]] = {}
    with np.load(inputs) as file:
        for path, value in file.items():
            case, signature, name = path.split("/")
            cases.setdefault((case, signature), {})[name] = tf.constant(value)
    signatures = tf.saved_model.load(folder).signatures
    results = {
        f"{case}/{name}": value.numpy()
        for (case, signature), arguments in cases.items()
        for name, value in signatures[signature](**arguments).items()
    }
    np.savez(outputs, **results)
    assert HIDDEN.isdisjoint(sys.modules), "a hidden package was found after all"


if __name__ == "__main__":
    main(*sys.argv[1:])
