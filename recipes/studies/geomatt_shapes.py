"""Which shapes geometric attention of each order can tell apart (GeomAtt, figure 3).

Five points, one of them in the center; from the center alone, after one exchange with the others,
a network must tell which of two shapes it sits in. Pair A has the same distances from the center
but different angles; pair B is homometric: all distances between all points occur equally often in
both shapes. Expected accuracy on the test set:

              step of SchNet   order 2   order 3   order 4
    pair A          50 %         50 %     100 %     100 %
    pair B          50 %         50 %      50 %     100 %

The authors' shapes are not at hand; these are the data set `geometry_shapes`. Their script has a
rate of 1e-4.

Run: python recipes/studies/geomatt_shapes.py

Reference: Frank and Chmiela, 2021, https://arxiv.org/abs/2106.02549
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff import cli, saving
from keras_mlff.datasets.geometry_shapes import shape_copies
from keras_mlff.graph import Array
from keras_mlff.layers.initializers import torch_dense
from keras_mlff.models.geomatt.overlap import GaussianGrid, OverlapAttention
from keras_mlff.ops import safe


def main(
    pairs: tuple[str, ...] = ("A", "B"),
    orders: tuple[int, ...] = (2, 3, 4),
    num_train: int = 200,
    num_test: int = 100,
    num_epochs: int = 60,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    noise: float = 0.0,
    seeds: tuple[int, ...] = (0, 1),
    folder: str = "runs/geomatt_shapes",
) -> dict[str, dict[str, list[float]]]:
    """Trains every classifier on every pair and reports accuracies on the test set.

    Args:
        pairs: "A", "B" or both.
        orders: Chain orders of geometric attention; a step of SchNet is always among the networks.
        num_train: Turned copies to learn from, half of each shape.
        num_test: Turned copies to test on.
        num_epochs: The authors' script has 100.
        batch_size: The authors'.
        learning_rate: Ten times the authors', which saves epochs.
        noise: Standard deviation of what is added to each coordinate.
        seeds: Of copies and weights; one run for each.
        folder: Receives results.json.
    """
    results: dict[str, dict[str, list[float]]] = {pair: {} for pair in pairs}
    for pair in pairs:
        for name in ("step", *orders):
            label = "SchNet step" if name == "step" else f"order {name}"
            results[pair][label] = []
            for seed in seeds:
                random = np.random.default_rng(seed)
                train = copies(pair, num_train, random, noise)
                test = copies(pair, num_test, random, noise)
                keras.utils.set_random_seed(seed)
                model = StepClassifier() if name == "step" else AttentionClassifier(int(name))
                model.compile(
                    keras.optimizers.Adam(learning_rate),
                    keras.losses.BinaryCrossentropy(from_logits=True),
                )
                model.fit(*train, batch_size=batch_size, epochs=num_epochs, verbose=0)
                logits = model.predict(test[0], batch_size=num_test, verbose=0)
                accuracy = float(np.mean((logits[:, 0] > 0.0) == (test[1][:, 0] > 0.5)))
                results[pair][label].append(accuracy)
                print(f"pair {pair}, {label}, seed {seed}: {100 * accuracy:.0f} %", flush=True)
    saving.write_json(Path(folder, "results.json"), results)
    return results


def copies(
    pair: str, number: int, random: np.random.Generator, noise: float = 0.0
) -> tuple[Array, Array]:
    """Turns both shapes at random and shuffles the outer points.

    Returns:
        Positions `(number, 5, 3)` and labels `(number, 1)`, 0 and 1 by turns.
    """
    positions, labels = shape_copies(pair, number, random, noise)
    return (
        positions.astype(keras.config.floatx()),
        labels[:, None].astype(keras.config.floatx()),
    )


class Classifier(keras.Model):  # type: ignore[misc]
    """Positions `(batch, 5, 3)` -> logit of the second shape, from the central point alone."""

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = GaussianGrid(0.0, 2.0, 0.1, 10.0)
        bound = 1.414 * (6.0 / (2.0 * num_features)) ** 0.5
        self.embedding = self.add_weight(
            shape=(num_features,),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            name="embedding",
        )
        self.values = torch_dense(num_features, num_features)
        self.readout = torch_dense(1, num_features)

    def call(self, positions: Any) -> Any:
        distances = safe.norm(positions[:, None, :, :] - positions[:, :, None, :])  # (batch, 5, 5)
        shape = (ops.shape(positions)[0], 5, self.embedding.shape[0])
        features = ops.broadcast_to(self.embedding, shape)
        features = features + self.exchange(self.grid(distances), self.values(features))
        return self.readout(features[:, 0])

    def exchange(self, expanded: Any, values: Any) -> Any:
        """Computes what each point receives from the others."""
        raise NotImplementedError


class AttentionClassifier(Classifier):
    """One layer of geometric attention of one order."""

    def __init__(self, order: int, **kwargs: Any) -> None:
        super().__init__(num_features=1, **kwargs)
        self.attention = OverlapAttention(order, 16, scale=0.1)

    def exchange(self, expanded: Any, values: Any) -> Any:
        pairs = ops.concatenate([expanded, ops.ones_like(expanded[..., :1])], axis=-1)
        pairs = ops.reshape(pairs, (-1, 25, pairs.shape[-1]))
        places = ops.reshape(ops.arange(25, dtype="int32"), (5, 5))
        zero = self.grid(ops.zeros((), expanded.dtype))
        return ops.matmul(self.attention(pairs, places, zero), values)


class StepClassifier(Classifier):
    """One interaction of SchNet, its filter a linear map of the same Gaussians."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(num_features=16, **kwargs)
        self.filter = torch_dense(16, self.grid.num_points)

    def exchange(self, expanded: Any, values: Any) -> Any:
        others = 1.0 - ops.eye(5, dtype=expanded.dtype)[:, :, None]
        return ops.sum(others * self.filter(expanded) * values[:, None, :, :], axis=2)


if __name__ == "__main__":
    cli.run(main)
