"""One published experiment from data to preset: parts of the data, training, test errors, card."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_mlff import datasets, plots, publish, saving
from keras_mlff.datasets.tools import splits
from keras_mlff.experiments import training
from keras_mlff.fit import schedules
from keras_mlff.fit.metrics import errors
from keras_mlff.graph import Array, Graph, count, elements
from keras_mlff.models import ForceField

# what papers print: the name of the unit and its size in ours
Display = Mapping[str, tuple[str, float]]
RESULTS = "results.json"


class Parts(NamedTuple):
    """Structures to learn from, to choose the best weights by, and to be judged on."""

    training: list[Graph]
    validation: list[Graph]
    test: list[Graph]

    def digest(self) -> str:
        """Names the split by the structures in it, whatever their order: 16 hexadecimal digits."""
        found = hashlib.sha256()
        for name, part in self._asdict().items():
            found.update(f"{name}:{len(part)}:".encode())
            for key in sorted(hashlib.sha256(identity(graph)).digest() for graph in part):
                found.update(key)
        return found.hexdigest()[:16]


def load_parts(source: str, training: str, validation: str, test: str, **options: Any) -> Parts:
    """Loads three splits of a file or data set that have no structure in common.

    Args:
        source: See `datasets.load`.
        training: Split, such as `"train[:1000]"`.
        validation: Split; what it shares with the other two is left out of it, since published
            splits have no validation part of their own.
        test: Split.
        **options: Of `datasets.load`: `energy_unit`, `labels`, ...

    Raises:
        ValueError: If training and test share structures, or a part is empty.
    """
    learned, held_out, judged = (
        datasets.load(source, split, **options) for split in (training, validation, test)
    )
    seen, tested = {identity(graph) for graph in learned}, {identity(graph) for graph in judged}
    if seen & tested:
        raise ValueError(
            f"Training and test share {len(seen & tested)} structures, so the test would flatter. "
            f"Received: source='{source}', training='{training}', test='{test}'."
        )
    held_out = [graph for graph in held_out if identity(graph) not in seen | tested]
    parts = Parts(learned, held_out, judged)
    empty = [name for name, graphs in parts._asdict().items() if not graphs]
    if empty:
        raise ValueError(
            f"Nothing is left for {empty}. Received: source='{source}', training='{training}', "
            f"validation='{validation}', test='{test}'."
        )
    return parts


def random_parts(
    structures: Sequence[Graph],
    num_validation: int,
    num_test: int,
    num_training: int = -1,
    seed: int = 0,
) -> Parts:
    """Cuts a random permutation of structures, for data without a published split.

    Args:
        structures: All of one kind.
        num_validation: Chosen by the seed alone, whatever the number to learn from.
        num_test: Likewise.
        num_training: -1 takes the rest; smaller numbers are part of larger ones.
        seed: Of the permutation.
    """
    sizes = {"test": num_test, "validation": num_validation, "training": num_training}
    parts = splits.by_seed(len(structures), sizes, seed)
    return Parts(**{name: [structures[row] for row in rows] for name, rows in parts.items()})


def with_known_elements(parts: Parts) -> Parts:
    """Leaves structures out of validation and test that have elements which the training lacks."""
    known = set(elements(parts.training))
    others = (
        [graph for graph in part if known.issuperset(elements([graph]))]
        for part in (parts.validation, parts.test)
    )
    return Parts(parts.training, *others)


def join_parts(several: Iterable[Parts]) -> Parts:
    """Puts the parts of several data sets together."""
    joined = Parts([], [], [])
    for parts in several:
        for whole, part in zip(joined, parts, strict=True):
            whole.extend(part)
    return joined


def run(
    model: ForceField,
    parts: Parts,
    folder: str | Path,
    loss: Mapping[str, Any],
    loss_weights: Mapping[str, Any] | None = None,
    batch_size: int = 10,
    num_epochs: int = 100,
    learning_rate: float = 1e-3,
    optimizer: Callable[[int], keras.optimizers.Optimizer] | None = None,
    seed: int = 0,
    resume: bool = False,
    verbose: Any = 2,
    display: Display | None = None,
    published: Mapping[str, Mapping[str, float]] | None = None,
    preset: str | Path = "",
    fit_offsets: bool = True,
    **about: Any,
) -> dict[str, Any]:
    """Sets references, trains, judges the best weights, and publishes them if asked to.

    Args:
        model: New; or trained, and then its references are adapted to the new labels.
        parts: Structures without edges.
        folder: Receives what `training.train` writes, and `results.json`.
        loss: See `ForceField.compile`; its names are the properties that the preset has.
        loss_weights: See `ForceField.compile`.
        batch_size: Graphs per step.
        num_epochs: In all.
        learning_rate: Peak of a warm-up and cosine decay.
        optimizer: Makes one for the number of steps in all, instead of the default: Adam, gradients
            clipped, weights averaged.
        seed: Of the order.
        resume: Goes on after an interruption.
        verbose: As in Keras.
        display: Units of the results for each property; this package's where not given. Where
            it has `energy_per_atom`, that error is reported too.
        published: Errors to print beside ours, `{"paper": {"energy": 0.1}}`, in those units.
        preset: Folder to publish into.
        fit_offsets: Whether a new model's references are fitted; else those it has stay.
        **about: What the preset says of itself, see `publish.publish`; `recipe` is required.

    Returns:
        By property: `unit`, `test_mae`, `test_rmse`, and what was published.

    Raises:
        ValueError: Before the training, if `preset` is not free or `recipe` is missing.
    """
    if preset:
        publish.check(preset, {*about, "seed", "metrics"})
    if model.preset is not None:
        model.adapt_offsets(parts.training)
    elif fit_offsets:
        model.fit_offsets(parts.training)
    learned = training.with_edges(parts.training, model)
    num_steps = num_epochs * training.steps_per_epoch(learned, batch_size, seed)
    chosen = optimizer(num_steps) if optimizer else default_optimizer(learning_rate, num_steps)
    training.train(
        model,
        learned,
        training.with_edges(parts.validation, model),
        folder,
        chosen,
        loss=loss,
        loss_weights=loss_weights,
        metrics=dict.fromkeys(loss, "mae"),
        batch_size=batch_size,
        num_epochs=num_epochs,
        seed=seed,
        resume=resume,
        verbose=verbose,
    )
    results = judge(model, parts.test, loss, display, published)
    saving.write_json(Path(folder, RESULTS), results)
    if preset:
        about["notes"] = [*about.get("notes", ()), *rare_elements(parts.training)]
        publish.publish(
            model,
            preset,
            examples=[parts.test[0], parts.test[-1]],
            log=Path(folder, training.LOG),
            split={
                **{name: f"{len(part):,} structures" for name, part in parts._asdict().items()},
                "SHA-256": parts.digest(),
            },
            seed=seed,
            compute=f"{training.cpu_hours(folder):.2f} CPU hours ({keras.backend.backend()})",
            metrics={
                name: {key: item[key] for key in ("unit", "test_mae", "test_rmse")}
                for name, item in results.items()
            },
            published={
                source: {name: value for name, value in values.items() if name in results}
                for source, values in (published or {}).items()
            },
            properties=[*loss, *(["atomic_energies"] if "energy" in loss else [])],
            **about,
        )
    return results


def judge(
    model: ForceField,
    structures: Sequence[Graph],
    properties: Mapping[str, Any] | Sequence[str],
    display: Display | None = None,
    published: Mapping[str, Mapping[str, float]] | None = None,
    predicted: Mapping[str, Array] | None = None,
) -> dict[str, Any]:
    """Computes test errors in the units that papers print, of what `predict` gave; see `run`."""
    found = errors(structures, model.predict(structures) if predicted is None else predicted)
    units = {label: head.unit for head in model.heads for label in head.labels}
    units |= {"forces": "eV/Å", "stress": "eV/Å³", "energy_per_atom": "eV/atom"}
    results: dict[str, Any] = {}
    derived = {"energy_per_atom"} & found.keys() & (display or {}).keys()
    for name in [*properties, *derived]:
        unit, size = (display or {}).get(name, (units[name], 1.0))
        results[name] = {
            "unit": unit,
            "test_mae": found[name].mae / size,
            "test_rmse": found[name].rmse / size,
            **{
                paper: values[name] for paper, values in (published or {}).items() if name in values
            },
        }
    return results


def rare_elements(structures: Sequence[Graph]) -> list[str]:
    """Writes the note of a card on elements that few of the structures to learn from have.

    Few are less than a tenth of them, and less than 100.
    """
    counts = Counter(number for graph in structures for number in elements([graph]))
    few = min(100, 0.1 * len(structures))
    rare = {number: found for number, found in sorted(counts.items()) if found < few}
    if not rare:
        return []
    named = ", ".join(f"{number} (in {found})" for number, found in rare.items())
    return [f"Few structures to learn from have these elements, of which little is known: {named}."]


def parity_figure(model: ForceField, parts: Parts, file: str | Path) -> None:
    """Draws predictions against labels of energy per atom and forces, for each part."""
    drawn = {name: part for name, part in parts._asdict().items() if part}
    figure, axes = plots.subplots(2, len(drawn), width=3.2, height=3.2)
    for column, (name, structures) in enumerate(drawn.items()):
        predicted = model.predict(structures)
        sizes = np.asarray([count(graph, "atom") for graph in structures])
        energies = np.concatenate([graph["energy"] for graph in structures]) / sizes
        mean = energies.mean()
        plots.parity(
            axes[0, column],
            1e3 * (energies - mean),
            1e3 * (predicted["energy"] / sizes - mean),
            "energy / (meV/atom)",
        )
        forces = np.concatenate([graph["forces"] for graph in structures])
        plots.parity(axes[1, column], forces, predicted["forces"], "forces / (eV/Å)")
        axes[0, column].set_title(name)
    figure.savefig(file, dpi=150)


def default_optimizer(learning_rate: float, total_steps: int) -> keras.optimizers.Optimizer:
    """Makes Adam with a warm-up, cosine decay, clipped gradients and averaged weights.

    The averages reach back over the last twentieth of the training at most.
    """
    momentum = min(0.999, max(0.9, 1.0 - 20.0 / max(total_steps, 20)))
    return keras.optimizers.Adam(
        schedules.warmup_cosine(learning_rate, total_steps, final_fraction=1e-3),
        epsilon=1e-8,  # of papers' programs; late gradients are below Keras's 1e-7
        global_clipnorm=1.0,
        use_ema=True,
        ema_momentum=momentum,
    )


def identity(graph: Graph) -> bytes:
    """Tells structures apart; what molecules in their usual state have alike adds nothing to it."""
    key = graph["positions"].tobytes() + graph["atomic_numbers"].tobytes()
    usual = {"cell": 0.0, "pbc": "cell" in graph, "total_charge": 0.0, "spin_multiplicity": 1}
    given = graph
    for name, value in usual.items():
        if name in given and np.any(given[name] != value):
            key += name.encode() + given[name].tobytes()
    return key
