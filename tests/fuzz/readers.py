"""Fuzzers of what reads structures: files that were cut, changed or written without care."""

import functools
import importlib.util
import math
import tempfile
from pathlib import Path

import ase
import ase.db
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from keras_mlff import datasets
from keras_mlff.datasets.tools import extxyz, files
from keras_mlff.datasets.tools.rows import label_is_missing
from tests.fuzz import strict_xyz
from tests.fuzz.cases import Fuzzer, Outcome, attempt

LABELS = ("energy", "forces")
WORDS = """
1_000 0.0D0 1e 0x10 nan NaN inf -inf T F - 1,5 -1 0 3 1.5 1e400 D Xx h cl CL 1 6 H2 ٣ + .5 5. energy
energy=-1 energy= =1 charge=1 charge=T charge=a total_charge=1 total_charge=2 spin=0 spin=2 spin=1.5
mult=3 spin=inf multiplicity=2 pbc="T_T_F" pbc=F Lattice="1_0_0_0_1_0_0_0_1" Lattice="1_2" 'a b=""
Properties=species:S:1:pos:R:3 Properties pos:S:3 forces="1_2_3" {} "\\ _JSON
""".split()  # noqa: SIM905


# extended XYZ


def xyz(random: np.random.Generator, folder: Path) -> Outcome:
    """Damages a file by bytes, words and lines; the strict parser says what it means now."""
    content = _xyz_file(random)
    path = folder / "frames.xyz"
    num_changes = int(random.integers(0, 4))
    for _ in range(num_changes):
        content = _damage(random, content)
    path.write_bytes(content)
    try:
        expected = strict_xyz.frames(content)
        if all(math.isnan(frame["energy"]) for frame in expected):
            raise strict_xyz.Bad("no energies")
        if all(frame["forces"] is None or np.isnan(frame["forces"]).all() for frame in expected):
            raise strict_xyz.Bad("no forces")
    except strict_xyz.Bad:
        expected = None
    graphs, error = attempt(lambda: list(files.iterate(path, LABELS)))
    if graphs is None:
        assert path.name in error, f"the file is not named: {error}"
        assert num_changes, f"a whole file is refused: {error}"
        return "refused"
    assert expected is not None, f"read, but it is damaged: {content!r}"
    assert len(graphs) == len(expected), content
    for graph, frame in zip(graphs, expected, strict=True):
        _same(graph, "atomic_numbers", frame["numbers"])
        _same(graph, "positions", frame["positions"])
        _same(graph, "energy", [frame["energy"]])
        missing = np.full((len(frame["numbers"]), 3), np.nan)
        _same(graph, "forces", missing if frame["forces"] is None else frame["forces"])
        _same(graph, "total_charge", [frame["charge"]])
        _same(graph, "spin_multiplicity", [frame["spin"]])
        assert ("cell" in graph) == (frame["cell"] is not None), content
        if frame["cell"] is not None:
            _same(graph, "cell", np.reshape(frame["cell"], (1, 3, 3)))
            _same(graph, "pbc", [frame["pbc"]])
    by_number = extxyz.Frames(path, labels=())
    assert len(by_number) == len(expected)
    _same(by_number[len(expected) - 1], "positions", expected[-1]["positions"])
    return "right"


def _xyz_file(random: np.random.Generator) -> bytes:
    lines = []
    for _ in range(int(random.integers(1, 4))):
        symbols = random.choice(["H", "C", "O", "Cl", "Na"], int(random.integers(1, 4)))
        header, columns = [f"energy={random.normal():.6f}"], "species:S:1:pos:R:3:forces:R:3"
        for word in ("charge=1", "spin=2", 'config_type="a b"', "step=4", "done"):
            header += [word] if random.random() < 0.2 else []
        if random.random() < 0.3:
            header.append('Lattice="9.0 0.0 0.0 0.0 8.0 0.0 0.0 1.0 7.0"')
            header += ['pbc="T T F"'] if random.random() < 0.5 else []
        if tagged := random.random() < 0.3:
            columns += ":tags:I:1"
        header.append(f"Properties={columns}")
        lines += [str(len(symbols)), " ".join(random.permutation(header))]
        for symbol in symbols:
            values = " ".join(f"{value:.4f}" for value in random.normal(size=6) * 3)
            lines.append(f"{symbol} {values}" + (" 2" if tagged else ""))
    end = random.choice(["\n", "\r\n"], p=[0.9, 0.1])
    return (end.join(lines) + random.choice([end, "", end * 3])).encode()


def _damage(random: np.random.Generator, content: bytes) -> bytes:
    """Changes bytes, words or lines, or cuts the end off."""
    if not content:
        return content
    place = int(random.integers(len(content)))
    kind = random.choice(
        ["byte", "insert", "delete", "cut", "word", "add", "line", "twice", "blank"]
    )
    if kind in ("byte", "insert"):
        byte = bytes([int(random.choice([*b'019.-+eE_=":{}[] \n\tTFDH,\0', 255, 160]))])
        return content[:place] + byte + content[place + (kind == "byte") :]
    if kind == "delete":
        return content[:place] + content[place + int(random.integers(1, 4)) :]
    if kind == "cut":
        return content[:place]
    lines = content.split(b"\n")
    row = int(random.integers(len(lines)))
    if kind in ("word", "add"):
        words = lines[row].split(b" ")
        column = int(random.integers(len(words)))
        word = str(random.choice(WORDS)).replace("_", random.choice(["_", " "])).encode()
        words[column : column + (kind == "word")] = [word]
        lines[row] = b" ".join(words)
    elif kind == "line":
        del lines[row]
    elif kind == "twice":
        lines.insert(row, lines[row])
    else:
        lines.insert(row, random.choice([b"", b"  "]))
    return b"\n".join(lines)


def _same(graph, key: str, expected) -> None:
    np.testing.assert_array_equal(graph[key], expected, err_msg=key)


# npz


def npz(random: np.random.Generator, folder: Path) -> Outcome:
    """Gives arrays of an npz file other types, rows, names and values, or damages its bytes."""
    count, num_atoms = int(random.integers(1, 5)), int(random.integers(1, 4))
    flat = random.random() < 0.5
    leading = (count * num_atoms,) if flat else (count, num_atoms)
    true = {
        "positions": random.normal(size=(count, num_atoms, 3)) * 3,
        "atomic_numbers": np.full((count, num_atoms), 6),
        "energy": random.normal(size=count),
        "forces": random.normal(size=(count, num_atoms, 3)),
        "total_charge": np.zeros(count) + int(random.integers(-1, 2)),
    }
    charged = str(random.choice(["total_charge", "charge"]))
    arrays = {
        random.choice(["positions", "R"]): true["positions"].reshape(*leading, 3),
        random.choice(["atomic_numbers", "z"]): true["atomic_numbers"].reshape(leading),
        random.choice(["energy", "E"]): true["energy"],
        random.choice(["forces", "F"]): true["forces"].reshape(*leading, 3),
        charged: true["total_charge"],
        "split_train": np.arange(count),
    }
    if flat:
        arrays["n_atoms"] = np.full(count, num_atoms)
    path = folder / "frames.npz"
    must_fail = False
    name = str(random.choice(sorted(arrays)))
    change = str(
        random.choice(["nothing", "bytes", "rows", "type", "value", "both", "split", "unit"])
    )
    split = "all"
    if change == "rows" and name != "split_train":
        longer = np.concatenate([arrays[name], arrays[name][:1]])
        arrays[name] = longer if random.random() < 0.5 else arrays[name][1:]
        must_fail = True
    elif change == "type" and name != "split_train":
        kind = random.choice([np.bool_, np.str_, object, np.complex128])
        arrays[name] = arrays[name].astype(kind)
        must_fail = True
    elif change == "value" and name not in ("split_train", "z", "atomic_numbers", "n_atoms"):
        arrays[name] = arrays[name].copy()
        arrays[name].flat[-1] = np.inf
        must_fail = True
    elif change == "both":
        arrays |= {"charge": true["total_charge"] + 1, "total_charge": true["total_charge"]}
        must_fail = True
    elif change == "split":
        split, arrays["split_train"] = "train", np.asarray([random.choice([-1, count, 99])])
        must_fail = True
    elif change == "unit":
        arrays["e_unit"] = np.asarray(random.choice(["hartree", "kcal/mol"]))
        kcal = 4184 / 6.02214076e23 / 1.602176634e-19
        factor = {"hartree": 27.211386245988, "kcal/mol": kcal}[str(arrays["e_unit"])]
        true["energy"], true["forces"] = true["energy"] * factor, true["forces"] * factor
    save = np.savez_compressed if random.random() < 0.5 else np.savez
    save(path, **arrays)
    if change == "bytes":
        content = bytearray(path.read_bytes())
        if random.random() < 0.3:
            del content[int(random.integers(len(content))) :]
        for _ in range(int(random.integers(1, 3))):
            if content:
                content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        path.write_bytes(bytes(content))
    graphs, error = attempt(lambda: files.load_structures(path, LABELS, split=split))
    if graphs is None:
        assert path.name in error, f"the file is not named: {error}"
        assert must_fail or change == "bytes", f"a whole file is refused: {error}"
        return "refused"
    assert not must_fail, f"read, but {change} of {name} is wrong"
    assert len(graphs) == count
    for index, graph in enumerate(graphs):
        for key, values in true.items():
            expected = values[index] if key in graph and np.ndim(values) > 1 else [values[index]]
            np.testing.assert_allclose(graph[key], expected, 1e-9, err_msg=key)
    return "right"


# images, databases and trajectories of ASE


def _images(random: np.random.Generator) -> tuple[list, list[dict]]:
    """Makes images, and what is to be read of each."""
    images, expected = [], []
    for _ in range(int(random.integers(1, 4))):
        size = int(random.integers(1, 4))
        atoms = ase.Atoms("CHO"[:size], random.normal(size=(size, 3)) * 3)
        if random.random() < 0.3:
            atoms.set_cell(np.diag([7.0, 8.0, 9.0]))
            atoms.pbc = True
        energy, forces = float(random.normal()), random.normal(size=(size, 3))
        state: dict = {"total_charge": 0.0, "spin_multiplicity": 1}
        for key, names in (
            ("total_charge", ("charge", "total_charge")),
            ("spin_multiplicity", ("spin", "multiplicity", "mult", "spin_multiplicity")),
        ):
            if random.random() < 0.3:
                state[key] = int(random.integers(1, 4))
                atoms.info[str(random.choice(names))] = state[key]
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        images.append(atoms)
        expected.append({"positions": atoms.positions.copy(), "energy": energy, "forces": forces})
        expected[-1] |= state
    return images, expected


def _check_images(graphs, expected: list[dict]) -> None:
    assert len(graphs) == len(expected)
    for graph, values in zip(graphs, expected, strict=True):
        for key, value in values.items():
            np.testing.assert_allclose(graph[key], np.reshape(value, graph[key].shape), err_msg=key)


ODD = ("3", True, np.inf, [1, 2], {"a": 1}, np.array([1.5, 2.5]), b"1", 1j)


def images(random: np.random.Generator, folder: Path) -> Outcome:
    """Gives images odd states, labels in several places, and results of other atoms."""
    made, expected = _images(random)
    atoms, values = made[-1], expected[-1]
    change = str(
        random.choice(["nothing", "moved", "shared", "own", "agree", "odd", "none", "copy"])
    )
    must_fail = change in ("moved", "own", "odd")
    if change == "moved":
        random.choice([lambda: atoms.positions.__iadd__(0.1), lambda: atoms.set_cell([5, 5, 5])])()
    elif change == "shared":
        must_fail = len(made) > 1
        for other in made:
            other.calc = atoms.calc
    elif change == "own":
        atoms.info["energy"] = values["energy"] + random.choice([1.0, 1e-3])
    elif change == "agree":
        atoms.info["energy"], atoms.arrays["forces"] = values["energy"], values["forces"].copy()
    elif change == "odd":
        key = random.choice(["charge", "spin", "energy", "mult"])
        atoms.info[str(key)] = ODD[int(random.integers(len(ODD)))]
    elif change == "none":
        atoms.info |= {"charge": None, "spin": np.array([2])}
        values |= {"total_charge": values["total_charge"], "spin_multiplicity": 2}
        for name in ("mult", "multiplicity", "spin_multiplicity"):
            atoms.info.pop(name, None)
        values["total_charge"] = float(atoms.info.get("total_charge", 0.0))
    elif change == "copy":
        made[-1] = atoms.copy()
        made[-1].calc = atoms.calc
    graphs, error = attempt(lambda: datasets.from_atoms(made))
    if graphs is None:
        assert "Image" in error, f"the image is not named: {error}"
        assert must_fail, f"refused: {error}"
        return "refused"
    assert not must_fail, f"read, but {change}: {atoms.info}"
    _check_images(graphs, expected)
    return "right"


@functools.cache  # a database takes a quarter of a second
def _whole_file(suffix: str, seed: int) -> tuple[bytes, list[dict]]:
    made, expected = _images(np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"frames{suffix}")
        if suffix == ".traj":
            ase.io.write(path, made)
        else:
            with ase.db.connect(path, use_lock_file=False) as database:
                for atoms in made:
                    database.write(atoms, key_value_pairs={**atoms.info})
        return path.read_bytes(), expected


def _ase_file(suffix: str, random: np.random.Generator, folder: Path) -> Outcome:
    """Cuts a file of ASE, changes its bytes, or leaves it as it is."""
    whole, expected = _whole_file(suffix, int(random.integers(8)))
    path, content = folder / f"frames{suffix}", bytearray(whole)
    # LMDB trusts what is in its file, and may end the process where bytes were changed
    likely = [0.2, 0.8, 0.0] if suffix == ".aselmdb" else [0.2, 0.4, 0.4]
    change = str(random.choice(["nothing", "cut", "bytes"], p=likely))
    if change == "cut":
        del content[int(random.integers(len(content))) :]
    elif change == "bytes":
        for _ in range(int(random.integers(1, 20))):
            content[int(random.integers(len(content)))] = int(random.integers(256))
    path.write_bytes(bytes(content))
    graphs, error = attempt(lambda: list(files.iterate(path, LABELS)))
    if graphs is None:
        assert path.name in error, f"the file is not named: {error}"
        assert change != "nothing", f"a whole file is refused: {error}"
        return "refused"
    if change == "bytes":  # these formats have no check sums: what is read may be another number
        assert all(not label_is_missing(graph["positions"]) for graph in graphs)
        return "right"
    _check_images(graphs, expected)
    return "right"


def trajectory(random: np.random.Generator, folder: Path) -> Outcome:
    return _ase_file(".traj", random, folder)


def database(random: np.random.Generator, folder: Path) -> Outcome:
    return _ase_file(".db", random, folder)


def lmdb(random: np.random.Generator, folder: Path) -> Outcome:
    return _ase_file(".aselmdb", random, folder)


FUZZERS = {
    "extended XYZ": Fuzzer(xyz, 3.0),
    "npz": Fuzzer(npz, 2.0),
    "images of ASE": Fuzzer(images, 1.0),
    "trajectories of ASE": Fuzzer(trajectory, 0.5),
    "databases of ASE": Fuzzer(database, 0.5),
}
if importlib.util.find_spec("ase_db_backends"):
    FUZZERS["LMDB"] = Fuzzer(lmdb, 0.2)
