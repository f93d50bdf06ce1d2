"""The parts of a training's data: training, validation and test."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_mlff import datasets
from keras_mlff.datasets.tools import splits
from keras_mlff.datasets.tools.file_units import file_units
from keras_mlff.datasets.tools.files import rows_of_file
from keras_mlff.experiments.settings import PARTS, DataSettings
from keras_mlff.graph import Array, Graph, count, elements

_SHARE = 0.1  # of validation and of test, where nothing else is said
_ISOLATED = "IsolatedAtom"  # what `config_type` of extended XYZ calls a free atom


class Parts(NamedTuple):
    """Structures to learn from, to choose the best weights by, and to measure errors on."""

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


class Loaded(NamedTuple):
    """What the section `[data]` of a recipe gives.

    Attributes:
        parts: The structures.
        isolated_atoms: Energies of free atoms in eV by atomic number, from frames that a file
            calls isolated atoms; these are in no part.
    """

    parts: Parts
    isolated_atoms: dict[int, float]


def load(settings: DataSettings, labels: Sequence[str] = (), seed: int = 0) -> Loaded:
    """Loads the parts that the section `[data]` of a recipe describes.

    Args:
        settings: The section.
        labels: What is learned, and what every structure of a file must have where the section
            does not name labels.
        seed: Of what is drawn at random, where the section has no seed of its own.

    Raises:
        ValueError: If there is no source, if training and test share structures, or if nothing is
            left to learn from.
    """
    if settings.seed >= 0:
        seed = settings.seed
    sources = [settings.source] if isinstance(settings.source, str) else settings.source
    if not any(sources) and not settings.join:
        raise ValueError(
            "The recipe does not say what to learn from. Received: no `source` in its section "
            "[data]. Name a data set or a file: --set data.source=mine.xyz."
        )
    several: list[Parts] = []
    isolated: dict[int, float] = {}
    for source in filter(None, sources):
        free = _isolated_atoms(source, settings)
        several.append(_parts_of(source, settings, labels, seed, free))
        isolated |= free
    for joined in settings.join:
        loaded = load(joined, labels, seed)
        several.append(loaded.parts)
        isolated |= loaded.isolated_atoms
    parts = join_parts(several)
    if settings.known_elements:
        parts = with_known_elements(parts)
    if not parts.training:
        raise ValueError(f"Nothing is left to learn from. Received: {described(settings)}.")
    return Loaded(parts, isolated)


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
    chosen = dict(zip(PARTS, (training, validation, test), strict=True))
    pools = {part: datasets.load(source, split, **options) for part, split in chosen.items()}
    parts = Parts(**_without_shared(pools, f"source='{source}', splits={chosen}"))
    empty = [name for name, graphs in parts._asdict().items() if not graphs]
    if empty:
        raise ValueError(
            f"Nothing is left for {empty}. Received: source='{source}', splits={chosen}."
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


def complete(
    structures: list[Graph], given: Mapping[str, Sequence[Graph] | None], seed: int = 0
) -> Parts:
    """Draws validation and test from structures where they are not given, a tenth each.

    Args:
        structures: To learn from.
        given: The structures of `"test"` and `"validation"`, or `None` for those to be drawn.
        seed: Of the drawing.

    Raises:
        ValueError: If nothing would be left to learn from.
    """
    drawn = _draw(structures, {k: _SHARE for k, part in given.items() if part is None}, seed)
    return Parts(**drawn | {k: list(part) for k, part in given.items() if part is not None})


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


def described(settings: DataSettings) -> str:
    """Writes source, splits and sizes in one line, for a card; of files the names alone."""
    sources = [settings.source] if isinstance(settings.source, str) else settings.source
    named = {"validation": settings.validation_file, "test": settings.test_file}
    texts = [" and ".join(map(_file_name, filter(None, sources)))]
    texts += [f"{part} from {_file_name(file)}" for part, file in named.items() if file]
    if settings.split:
        texts.append("splits: " + ", ".join(f"{k} {v}" for k, v in settings.split.items()))
    if settings.sizes:
        texts.append("drawn: " + ", ".join(f"{k} {v}" for k, v in settings.sizes.items()))
    texts += [described(joined) for joined in settings.join]
    return "; ".join(filter(None, texts))


def identity(graph: Graph) -> bytes:
    """Tells structures apart; what molecules in their usual state have alike adds nothing to it."""
    key = graph["positions"].tobytes() + graph["atomic_numbers"].tobytes()
    usual = {"cell": 0.0, "pbc": "cell" in graph, "total_charge": 0.0, "spin_multiplicity": 1}
    given = graph
    for name, value in usual.items():
        if name in given and np.any(given[name] != value):
            key += name.encode() + given[name].tobytes()
    return key


def _parts_of(
    source: str,
    settings: DataSettings,
    labels: Sequence[str],
    seed: int,
    isolated: Mapping[int, float],
) -> Parts:
    """Takes the parts of one source: each from its own split or file, or drawn from one split."""
    other_files = {"validation": settings.validation_file, "test": settings.test_file}
    own = [part for part in PARTS[1:] if part in settings.split or other_files[part]]
    pools = {
        part: _usable(
            other_files.get(part) or source, settings.split.get(part, "all"), settings, labels
        )
        for part in ("training", *own)
    }
    pools["training"] = [
        graph
        for graph in pools["training"]
        if count(graph, "atom") > 1 or int(graph["atomic_numbers"][0]) not in isolated
    ]
    pools = _without_shared(pools, described(settings))
    parts: dict[str, list[Graph]] = {part: [] for part in PARTS}
    for part in own:
        size = {part: settings.sizes[part]} if part in settings.sizes else {}
        parts[part] = _draw(pools[part], size, seed, own=part)[part]
    drawn = [part for part in PARTS[1:] if part not in own]
    missing = {part: _SHARE for part in reversed(drawn) if part not in settings.sizes}
    sizes = {part: size for part, size in settings.sizes.items() if part not in own} | missing
    if "training" in sizes:  # what others do not depend on comes last
        sizes["training"] = sizes.pop("training")
    return Parts(**parts | _draw(pools["training"], sizes, seed))


def _usable(source: str, split: str, settings: DataSettings, labels: Sequence[str]) -> list[Graph]:
    """Loads a split and leaves out what the section says takes no part."""
    options = _options(source, settings, labels)
    graphs = datasets.load(source, split, **options)
    if settings.within:
        held = {identity(graph) for graph in datasets.load(source, settings.within, **options)}
        graphs = [graph for graph in graphs if identity(graph) in held]
    if settings.largest_force:
        largest = settings.largest_force
        graphs = [graph for graph in graphs if np.abs(graph["forces"]).max() <= largest]
    return graphs


def _options(source: str, settings: DataSettings, labels: Sequence[str]) -> dict[str, Any]:
    """Lists what `datasets.load` is told: named data sets know their labels and units."""
    if Path(source).suffix:
        given: dict[str, Any] = {
            "labels": settings.labels or tuple(labels) or None,
            "energy_unit": settings.energy_unit,
            "length_unit": settings.length_unit,
            "stress_unit": settings.stress_unit,
            "stress_sign": settings.stress_sign,
            "keys": settings.keys,
        }
    else:
        given = {"data_dir": settings.data_dir, "manual_dir": settings.manual_dir}
    return {name: value for name, value in given.items() if value}


def _without_shared(pools: dict[str, list[Graph]], received: str) -> dict[str, list[Graph]]:
    """Leaves out of validation what training and test have, which may have nothing in common."""
    names = {part: {identity(graph) for graph in pool} for part, pool in pools.items()}
    shared = names["training"] & names.get("test", set())
    if shared:
        raise ValueError(
            f"Training and test share {len(shared)} structures, so the errors would flatter. "
            f"Received: {received}. Take parts that do not overlap, such as 'all[:200]' and "
            "'all[200:]'."
        )
    others = names["training"] | names.get("test", set())
    kept = [graph for graph in pools.get("validation", []) if identity(graph) not in others]
    if pools.get("validation") and not kept:
        raise ValueError(
            f"Training and test have every structure of the validation. Received: {received}."
        )
    return pools | ({"validation": kept} if "validation" in pools else {})


def _draw(
    pool: list[Graph], sizes: Mapping[str, int | float], seed: int, own: str = "training"
) -> dict[str, list[Graph]]:
    """Draws parts of one pool in the order of their sizes; its own part has the rest if not named.

    A pool of which nothing is drawn keeps its order.
    """
    sizes = sizes if own in sizes else {**sizes, own: -1}
    counts = {
        part: max(1, round(size * len(pool))) if 0 < size < 1 else int(size)
        for part, size in sizes.items()
    }
    if all(number in (-1, 0) for number in counts.values()):
        return {part: pool if number else [] for part, number in counts.items()}
    num_held_out = sum(number for part, number in counts.items() if part != own and number > 0)
    if counts[own] == -1 and num_held_out >= len(pool):
        raise ValueError(
            f"Nothing is left to learn from. Received: {len(pool)} structures, of which "
            f"{ {part: number for part, number in counts.items() if part != own} } are held out."
        )
    rows: dict[str, Array] = splits.by_seed(len(pool), counts, seed)
    return {part: [pool[row] for row in rows[part]] for part in counts}


def _isolated_atoms(source: str, settings: DataSettings) -> dict[int, float]:
    """Reads the energies of free atoms from an extended XYZ file, eV by atomic number."""
    path = Path(source).expanduser()
    if path.suffix not in (".xyz", ".extxyz") or not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        if not any(_ISOLATED in line for line in file):  # most files, which are not read twice
            return {}
    name = settings.keys.get("energy", "energy")
    units = file_units(settings.energy_unit or None)
    found = {}
    for row in rows_of_file(path, ("energy",), {"energy": name}):
        energy, numbers = row.values["energy"], row.values["atomic_numbers"]
        if row.found.get("config_type") == _ISOLATED and len(numbers) == 1 and energy is not None:
            factor = units.with_stated(row.units).factor("energy")
            found[int(numbers[0])] = float(energy) * factor
    return found


def _file_name(source: str) -> str:
    """Names a file without its folder, which is of no use to others."""
    return Path(source).name if Path(source).suffix else source
