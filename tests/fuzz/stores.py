"""Fuzzer of stores: files with flipped bits, cut, lengthened, removed or exchanged."""

import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np

from keras_mlff import pipeline
from keras_mlff.graph import structure
from keras_mlff.neighbors import GraphSpec
from tests.fuzz.cases import Fuzzer, Outcome, attempt

SPEC = GraphSpec(3.0)


@functools.cache
def made():
    """Makes structures, their graphs, and a cache of them, once."""
    random = np.random.default_rng(0)
    structures = [
        structure(
            random.normal(size=(size, 3)),
            random.choice([1, 6, 8], size),
            energy=random.normal() - 1000.0,
            forces=random.normal(size=(size, 3)),
        )
        for size in (2, 5, 3)
    ]
    cache = tempfile.TemporaryDirectory()
    pipeline.with_edges(structures, SPEC, cache_dir=cache.name)
    return structures, pipeline.with_edges(structures, SPEC), cache


def same(graphs, expected) -> bool:
    return len(graphs) == len(expected) and all(
        one.keys() == other.keys()
        and all(one[key].tobytes() == other[key].tobytes() for key in one)
        for one, other in zip(graphs, expected, strict=True)
    )


def damage(random: np.random.Generator, path: Path) -> None:
    """Changes one file, so that its content is another; an empty one gets longer."""
    content = bytearray(path.read_bytes())
    kind = random.choice(["bit", "bytes", "cut", "append", "insert", "zeros", "removed"])
    place = int(random.integers(len(content)))
    if kind == "removed":
        path.unlink()
        return
    if kind == "bit":
        content[place] ^= 1 << int(random.integers(8))
    elif kind == "bytes":
        for byte in range(place, min(place + int(random.integers(1, 9)), len(content))):
            content[byte] ^= int(random.integers(1, 256))
    elif kind == "cut":
        del content[place:]
    elif kind == "append":
        content += random.bytes(int(random.integers(1, 50)))
    elif kind == "insert":
        content[place:place] = random.bytes(1)
    else:
        content[place:] = bytes(len(content) - place)
    path.write_bytes(content)


def stores(random: np.random.Generator, folder: Path) -> Outcome:
    """Damages a store: it is refused, or holds what it held; a cache heals in any case."""
    structures, expected, cache = made()
    shutil.copytree(cache.name, folder / "cache")
    (store,) = (folder / "cache").iterdir()
    files = sorted(store.iterdir())
    for _ in range(int(random.integers(1, 3))):
        chosen = files[int(random.integers(len(files)))]
        if random.random() < 0.1:
            other = files[int(random.integers(len(files)))]
            if chosen != other and chosen.exists() and other.exists():
                shutil.copy(chosen, other)
        elif chosen.exists() and chosen.stat().st_size:
            damage(random, chosen)
    graphs, message = attempt(lambda: list(pipeline.GraphStore(store)))
    assert graphs is None or same(graphs, expected), "opened with other numbers"
    healed = pipeline.with_edges(structures, SPEC, cache_dir=folder / "cache")
    assert same(list(healed), expected)
    assert same(list(pipeline.GraphStore(store)), expected)
    assert [path.name for path in (folder / "cache").iterdir()] == [store.name]
    assert graphs is not None or str(store) in message
    return "refused" if graphs is None else "right"


FUZZERS = {"graph stores": Fuzzer(stores, 0.5)}
