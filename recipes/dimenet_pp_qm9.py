"""DimeNet++ with and without learned tables of distances and angles on QM9 (table 2 of the paper).

By default one model learns all 12 properties; `--targets=U0` trains one. The authors of DimeNet++
train 3,000,000 steps of 32 molecules for each property; the defaults take hours on one core.

`--paper` takes the network of the authors' program, faults included (docs/models/dimenet_pp.md),
and their training: Adam with AMSGrad, 3,000 steps of warm-up, a rate that would fall to a hundredth
in 4,000,000 steps, averaged weights. They have no model of the gap, which is LUMO minus HOMO.

Run: python recipes/dimenet_pp_qm9.py --preset=zoo/dimenetpp/qm9
The paper: python recipes/dimenet_pp_qm9.py --paper --targets U0 --num-epochs=873
Data: see recipes/cmret_qm9.py.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cmret_qm9
import egnn_md17
import egnn_qm9
import keras

from keras_mlff import cli, models

# whose last maps the authors start from zero
ZERO_START = frozenset({"mu", "homo", "lumo", "zpve"})


def main(
    data: str = "runs/qm9.npz",
    targets: tuple[str, ...] = tuple(cmret_qm9.TARGETS),
    distance_encoding: egnn_md17.Encoding = "smooth",
    num_knots: int = 36,
    encoding_size: int = 32,
    smoothness: float = 0.01,
    initial: egnn_md17.Start = "normal",
    paper: bool = False,
    num_validation: int = 1000,
    num_test: int = 5000,
    num_train: int = 0,
    num_features: int = 128,
    num_layers: int = 4,
    cutoff: float = 5.0,
    batch_size: int = 32,
    num_epochs: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains DimeNet++ on properties of QM9 and reports the test errors.

    Args:
        data: File of recipes/generate/convert_qm9.py, or "qm9" for the data set of TensorFlow Datasets.
        targets: Properties, such as "U0" or "mu"; all 12 by default.
        distance_encoding: What stands for distances and angles: Bessel functions and Legendre
            polynomials, perceptrons, learned tables, or these with the smoothness loss.
        num_knots: Of the tables.
        encoding_size: Numbers that a distance or angle becomes.
        smoothness: Factor of the smoothness loss.
        initial: What tables start from: random numbers, or Gaussians of the distance.
        paper: The authors' network and training, see above.
        num_validation: Molecules that choose the best weights.
        num_test: Molecules that are judged.
        num_train: Molecules to learn from; 0 takes the rest.
        num_features: Width.
        num_layers: Interaction blocks.
        cutoff: Å. The number of triplets grows with its sixth power.
        batch_size: Molecules per step, about.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        seed: Of split, weights and order.
        folder: Receives log, state, best weights, results.json and the model; under runs/, named
            by what is trained, where empty.
        preset: Folder to write a preset into, such as zoo/dimenetpp/qm9.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    model = models.DimeNetPP(
        num_features=num_features,
        num_layers=num_layers,
        cutoff=cutoff,
        distance_encoding=egnn_md17.encoding(
            distance_encoding, num_knots, encoding_size, smoothness, initial
        ),
        heads=cmret_qm9.make_heads(targets),
        **(papers_choices(targets) if paper else {}),
    )
    folder = folder or egnn_qm9.name_folder(
        "dimenet_pp_qm9_paper" if paper else "dimenet_pp_qm9",
        targets,
        distance_encoding,
        {"knots": num_knots, "size": encoding_size, "smoothness": smoothness, "from": initial},
        features=num_features,
        layers=num_layers,
        cutoff=cutoff,
        train=num_train,
        epochs=num_epochs,
        seed=seed,
    )
    parts, results = cmret_qm9.train(
        model,
        data,
        num_validation,
        num_test,
        num_train,
        batch_size,
        num_epochs,
        learning_rate,
        seed,
        folder,
        preset,
        resume,
        verbose,
        published={name: row for name, row in egnn_qm9.PUBLISHED.items() if "DimeNet" in name},
        optimizer=functools.partial(papers_adam, learning_rate) if paper else None,
        recipe=cli.command(main, locals()),
        description=egnn_qm9.DESCRIPTION,
        citation="Gasteiger et al., 2020, https://arxiv.org/abs/2011.14115; "
        "distance encodings: https://arxiv.org/abs/2211.12773",
    )
    egnn_qm9.save_model(model, folder, parts.training, results, seed)
    return results


def papers_choices(targets: Sequence[str]) -> dict[str, Any]:
    """Lists what the authors' program does otherwise than this package."""
    return {
        "sbf_over_distance": True,
        "radial_factor": "kj",
        "rbf_embedding": "activated",
        "output_init": "zeros" if ZERO_START.issuperset(targets) else "orthogonal",
    }


def papers_adam(learning_rate: float, num_steps: int) -> keras.optimizers.Optimizer:
    """Makes the authors' optimizer; the rate does not depend on the number of steps."""
    return keras.optimizers.Adam(
        WarmupExponential(learning_rate),
        amsgrad=True,
        global_clipnorm=1000.0,
        use_ema=True,
        ema_momentum=0.999,
    )


@keras.saving.register_keras_serializable("keras_mlff")
class WarmupExponential(keras.optimizers.schedules.LearningRateSchedule):
    """Falls to a hundredth in 4,000,000 steps; the first 3,000 rise from zero."""

    def __init__(self, start: float) -> None:
        self.start = start

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        rise = keras.ops.minimum(step / 3000.0, 1.0)
        return self.start * rise * keras.ops.power(0.01, step / 4e6)

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {"start": self.start}


if __name__ == "__main__":
    cli.run(main)
