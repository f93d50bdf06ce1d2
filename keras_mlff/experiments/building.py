"""The model of a training: made or loaded, its offsets set, parts of it frozen."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mlff import heads, models
from keras_mlff.datasets.tools.elements import NUMBERS
from keras_mlff.experiments import toml
from keras_mlff.experiments.choices import by_path
from keras_mlff.experiments.data import Loaded
from keras_mlff.experiments.settings import ModelSettings, OffsetSettings, Settings
from keras_mlff.graph import Array, Graph, elements
from keras_mlff.models import ForceField

_DERIVED = ("forces", "stress")  # of the energy


def learned_labels(model: ModelSettings, training: Settings) -> tuple[str, ...]:
    """Lists what is learned: as `labels` says, else as `loss` names, else what heads predict."""
    if training.labels:
        return training.labels
    if isinstance(training.loss, Mapping) and "kind" not in training.loss:
        return tuple(training.loss)
    made = [_make_head(head) for head in model.heads]
    return tuple(_target(head, ()) for head in made) or ("energy", "forces")


def make_model(settings: ModelSettings, labels: Sequence[str]) -> ForceField:
    """Makes the model of a recipe, or loads the preset that it starts from.

    Args:
        settings: The section `[model]`.
        labels: What is learned; heads of which nothing is learned are left out.

    Raises:
        ValueError: If neither or both of class and preset are given, or an argument is unknown.
    """
    arguments = {key: None if v == "None" else v for key, v in settings.arguments.items()}
    if bool(settings.class_name) == bool(settings.preset):
        raise ValueError(
            "A model is either new, `class`, or a preset that is trained further, `preset`. "
            f"Received: class='{settings.class_name}', preset='{settings.preset}'."
        )
    if settings.preset:
        return models.load_preset(settings.preset, **arguments)
    if ":" in settings.class_name:
        kind = by_path(settings.class_name)
    else:
        known = models.ARCHITECTURES
        toml.refuse_unknown([settings.class_name], known, "There is no architecture", "Known are")
        kind = known[settings.class_name]
    what = f"{settings.class_name} has no argument"
    toml.refuse_unknown(arguments, _argument_names(kind), what, "Its arguments are")
    return kind(heads=make_heads(settings.heads, labels), **arguments)


def make_heads(given: Sequence[str | dict[str, Any]], labels: Sequence[str]) -> list[heads.Head]:
    """Makes heads of names and tables, those alone of which something is learned.

    Args:
        given: See `ModelSettings.heads`; where empty, there is a head for each label.
        labels: What is learned.

    Raises:
        ValueError: If a label has no head.
    """
    if not given:
        return _heads_for(labels)
    made = [_make_head(head) for head in given]
    kept = [head for head in made if _target(head, labels) in labels]
    learned = {label for head in kept for label in head.labels}
    learned |= set(_DERIVED) if "energy" in learned else set()
    missing = [label for label in labels if label not in learned]
    if missing:
        raise ValueError(
            f"No head of the model predicts {missing}. Received: heads {[h.name for h in made]}."
        )
    return kept


def set_offsets(
    model: ForceField, loaded: Loaded, settings: OffsetSettings, labels: Sequence[str]
) -> None:
    """Sets what is added outside of the network, as the section `[offsets]` says.

    Args:
        model: New or loaded; a loaded one is another model from here on.
        loaded: The data; those for training decide.
        settings: The section.
        labels: What is learned.

    Raises:
        ValueError: If energies of free atoms are given for some of the elements only.
    """
    training = loaded.parts.training
    kind = settings.kind or ("fit" if model.preset is None else "adapt")
    toml.refuse_unknown([kind], ("fit", "adapt", "keep"), "Offsets are never set by", "Known")
    given = {
        name: {atomic_number(symbol): float(value) for symbol, value in table.items()}
        for name, table in settings.references.items()
    }
    if settings.isolated_atoms and loaded.isolated_atoms and "energy" in labels:
        given.setdefault("energy", dict(loaded.isolated_atoms))
    what = "There are energies of free atoms, and no head, for"
    names = [head.name for head in model.heads]
    if not set(names) & set(given):  # those of properties that are not learned this time may stay
        toml.refuse_unknown(given, names, what, "Heads")
    if kind == "fit":
        model.fit_offsets(training)
    elif kind == "adapt":
        model.adapt_offsets(training)
    for head in model.heads:
        if head.name in given:
            _give_references(head, given[head.name], training)
        if settings.standardize:
            _standardize(head, training)


def spread(model: ForceField, label: str, structures: Sequence[Graph]) -> float:
    """Computes the mean absolute deviation of what references and shift leave of a label."""
    head = next(head for head in model.heads if label in head.labels)
    rest = _rest(head, label, structures)
    return float(np.mean(np.abs(rest - np.mean(rest))))


def freeze(model: ForceField, settings: Settings, unseen: Sequence[int] = ()) -> list[str]:
    """Keeps parts of the model from being trained, as the section `[training]` says.

    Args:
        model: Not compiled yet.
        settings: The section.
        unseen: Elements of the data that the preset has not learned.

    Returns:
        The parts that are trained, where any is not; else an empty list.

    Raises:
        ValueError: If there is no such part, or if elements are to be learned whose embeddings
            would stay at random.
    """
    trained: list[str] = []
    if settings.freeze:
        trained = model.freeze(*settings.freeze)
    if settings.keep:
        trained = model.freeze(keep=settings.keep)
    if unseen and trained and not any("embedding" in part for part in trained):
        raise ValueError(
            "The data have elements that the preset has not seen, whose embeddings would stay at "
            f"random. Received: elements {list(unseen)}, keep={list(settings.keep)}, "
            f"freeze={list(settings.freeze)}. Freeze nothing, or let the embedding be trained too "
            "(--keep readouts embedding)."
        )
    return trained


def unseen_elements(model: ForceField, structures: Sequence[Graph]) -> list[int]:
    """Lists elements of structures that a loaded preset has not learned."""
    if model.preset is None:
        return []
    return sorted(set(elements(structures)) - set(model.preset.elements))


def _make_head(given: str | dict[str, Any]) -> heads.Head:
    """Makes the head of a quantity's name or of a table with `class` and arguments."""
    if isinstance(given, str):
        return _heads_for([given])[0]
    arguments = dict(given)
    name = str(arguments.pop("class", "ScalarHead"))
    known = {key for key, value in vars(heads).items() if isinstance(value, type)} - {"Head"}
    if ":" in name:
        return by_path(name)(**arguments)
    toml.refuse_unknown([name], known, "There is no class of heads", "Known are")
    return getattr(heads, name)(**arguments)


def _target(head: heads.Head, labels: Sequence[str]) -> str:
    """Tells which label of a head is learned: one of those named, else its most special one."""
    if head.name == "energy" and set(labels) & {"energy", *_DERIVED}:
        return next(label for label in labels if label in ("energy", *_DERIVED))
    found = [label for label in head.labels if label in labels]
    return found[0] if found else head.labels[-1] if not labels else head.name


def _heads_for(labels: Sequence[str]) -> list[heads.Head]:
    """Makes a head for each label."""
    return heads.for_labels(tuple(labels))


def _argument_names(kind: Any) -> set[str]:
    """Lists what the constructors of a class and of its bases take."""
    names = {
        name
        for base in kind.__mro__
        if "__init__" in vars(base) and issubclass(base, ForceField)
        for name, parameter in inspect.signature(base.__init__).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return names - {"self", "heads"}


def atomic_number(symbol: str) -> int:
    """Finds an element by its symbol or by its number written as text."""
    if symbol.isdigit():
        return int(symbol)
    toml.refuse_unknown([symbol], NUMBERS, "There is no element", "Known symbols")
    return NUMBERS[symbol]


def _give_references(
    head: heads.Head, given: Mapping[int, float], structures: Sequence[Graph]
) -> None:
    """Puts known values of free atoms in the place of fitted ones."""
    missing = sorted(set(elements(structures)) - set(given))
    if given and missing:  # an empty table: free atoms have none of it
        raise ValueError(
            f"The values of free atoms for '{head.name}' are of some elements only. Received: "
            f"{dict(given)}, without atomic numbers {missing}, which the data have. Give all, or "
            "none to have them fitted."
        )
    head.references, head.shift = dict(given), 0.0


def _standardize(head: heads.Head, structures: Sequence[Graph]) -> None:
    """Makes the mean of what references leave the shift, its mean absolute deviation the scale."""
    head.shift = 0.0
    rest = _rest(head, head.name, structures)
    head.shift = float(rest.mean())
    head.scale = float(np.abs(rest - head.shift).mean()) or 1.0


def _rest(head: heads.Head, label: str, structures: Sequence[Graph]) -> Array:
    """Computes what references and shift leave of a label, where structures have it."""
    rest = [graph[label][0] - head.offsets(graph)[0] for graph in structures if label in graph]
    return np.asarray([value for value in rest if np.isfinite(value)])
