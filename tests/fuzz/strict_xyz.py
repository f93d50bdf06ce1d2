"""A second reader of extended XYZ, written apart from the package's, to judge what that reads.

It walks through characters where the package has patterns, knows the few keys of the fuzzer's files
and gives up (`Bad`) on whatever is not plain.
"""

import math

import ase.data

SYMBOLS = {symbol: number for number, symbol in enumerate(ase.data.chemical_symbols) if number}
CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}
CHARGES, SPINS = ("total_charge", "charge"), ("spin_multiplicity", "spin", "multiplicity", "mult")


class Bad(Exception):  # noqa: N818
    """The text must be refused."""


def frames(content: bytes) -> list[dict]:
    lines = content.split(b"\n")
    lines = lines[:-1] if lines[-1] == b"" else lines
    found, place = [], 0
    while place < len(lines):
        first = lines[place].strip()
        place += 1
        if not first:
            continue
        if not first.isdigit() or len(first) > 9 or int(first) == 0:
            raise Bad(first)
        block = lines[place : place + int(first) + 1]
        if len(block) <= int(first) or b"\0" in b"".join(block):
            raise Bad("cut")
        place += len(block)
        found.append(frame(block))
    if not found:
        raise Bad("empty")
    return found


def frame(block: list[bytes]) -> dict:
    try:
        info = header(block[0].decode().strip())
        texts = [line.decode() for line in block[1:]]
    except UnicodeDecodeError as error:
        raise Bad("encoding") from error
    result = {"charge": 0.0, "spin": 1.0, "energy": math.nan, "cell": None, "pbc": [False] * 3}
    for key, names in (("charge", CHARGES), ("spin", SPINS)):
        values = {single(info[name]) for name in names if name in info}
        if len(values) > 1:
            raise Bad(key)
        result[key] = values.pop() if values else result[key]
    if result["spin"] < 1 or result["spin"] % 1 or not math.isfinite(result["charge"]):
        raise Bad("state")
    if "energy" in info:
        result["energy"] = single(info["energy"], missing=True)
    lattice = numbers(info["Lattice"]) if "Lattice" in info else None
    if lattice is not None and (len(lattice) != 9 or not all(map(math.isfinite, lattice))):
        raise Bad("Lattice")
    pbc = truths(info["pbc"]) if "pbc" in info else [lattice is not None] * 3
    if any(pbc):
        if lattice is None:
            raise Bad("no cell")
        result |= {"cell": lattice, "pbc": pbc}
    text = info.get("Properties", "species:S:1:pos:R:3")
    return result | table(text, texts, "forces" in info and info["forces"])


def table(properties: object, texts: list[str], forces_of_info: object) -> dict:
    fields = str(properties).split(":")
    triples = list(zip(fields[::3], fields[1::3], fields[2::3], strict=False))
    if len(fields) % 3 or len({name for name, *_ in triples}) < len(triples):
        raise Bad("Properties")
    columns: dict[str, list[list[str]]] = {name: [] for name, *_ in triples}
    widths = []
    for name, kind, width in triples:
        if kind not in ("S", "R", "I", "L") or not width.isascii() or not width.isdigit():
            raise Bad(name)
        widths.append(int(width))
    if 0 in widths or any(width[0] == "0" for *_, width in triples):
        raise Bad("width")
    for text in texts:
        words = text.encode().split()
        if len(words) != sum(widths):
            raise Bad("columns")
        for (name, kind, _), width in zip(triples, widths, strict=True):
            row, words = [word.decode() for word in words[:width]], words[width:]
            if kind == "R":
                row = [number(word) for word in row]
            elif kind == "I":
                row = [integer(word) for word in row]
            elif kind == "L":
                row = [truths(word)[0] for word in row]
            columns[name].append(row)
    kinds = {name: (kind, int(width)) for name, kind, width in triples}
    if kinds.get("species") != ("S", 1) or kinds.get("pos") not in (("R", 3), ("I", 3)):
        raise Bad("columns")
    elements = []
    for (word,) in columns["species"]:
        elements.append(SYMBOLS.get(word.capitalize() if word.islower() else word, 0))
    if 0 in elements:
        raise Bad("element")
    if not all(math.isfinite(x) for row in columns["pos"] for x in row):
        raise Bad("positions")
    forces = None
    if "forces" in kinds:
        if kinds["forces"] not in (("R", 3), ("I", 3)):
            raise Bad("forces")
        forces = columns["forces"]
        for row in forces:
            missing = [math.isnan(x) for x in row]
            if any(map(math.isinf, row)) or (any(missing) and not all(missing)):
                raise Bad("forces")
    elif forces_of_info is not False:
        raise Bad("not in the fuzzer's files")
    return {"numbers": elements, "positions": columns["pos"], "forces": forces}


def header(line: str) -> dict[str, object]:
    """Splits a line by a walk through its characters."""
    found: dict[str, object] = {}
    words = set()
    place = 0
    while place < len(line):
        if line[place].isspace():
            place += 1
            continue
        key, place = token(line, place, stop="=")
        after = place
        while after < len(line) and line[after].isspace():
            after += 1
        if after == len(line) or line[after] != "=":
            words.add(key)
            continue
        place = after + 1
        spaced = place < len(line) and line[place].isspace()
        while place < len(line) and line[place].isspace():
            place += 1
        if place == len(line) or key in found:
            raise Bad(key)
        value, place = token(line, place, stop="=" if spaced else "")
        if spaced and place < len(line) and line[place] == "=":
            raise Bad("a key for a value")
        found[key] = value
    if words & found.keys():
        raise Bad("with and without a value")
    return found | dict.fromkeys(words, True)


def token(line: str, place: int, stop: str) -> tuple[str, int]:
    """Takes a word or what stands in delimiters, and checks that it ends there."""
    if line[place] in CLOSING:
        if stop == "=" and line[place] != '"':
            raise Bad("not in the fuzzer's files")
        end = line.find(CLOSING[line[place]], place + 1)
        text = line[place + 1 : end]
        inner = {"{": "{}", "[": "["}.get(line[place], "\\")  # what a delimiter may not hold here
        if end < 0 or any(sign in text for sign in inner):
            raise Bad("delimiters")
        place = end + 1
        if place < len(line) and not line[place].isspace() and line[place] not in stop:
            raise Bad("delimiters")
        return text, place
    start = place
    while place < len(line) and not line[place].isspace() and line[place] not in stop:
        if line[place] in "\"'{}[]":
            raise Bad("delimiters")
        place += 1
    if place == start:
        raise Bad("no name")
    return line[start:place], place


def number(word: str) -> float:
    if word.lower().lstrip("+-") in ("nan", "inf", "infinity") and word.lower()[1:2] not in "+-":
        return float(word)
    if not word or set(word) - set("0123456789+-.eE"):
        raise Bad(word)
    try:
        return float(word)
    except ValueError as error:
        raise Bad(word) from error


def integer(word: str) -> int:
    if not word.lstrip("+-").isdigit() or not word.isascii() or len(word.lstrip("+-")) > 18:
        raise Bad(word)
    return int(number(word))


def numbers(value: object) -> list[float]:
    words = str(value).replace(",", " ").split() if value is not True else []
    if not words:
        raise Bad("no value")
    return [number(word) for word in words]


def single(value: object, missing: bool = False) -> float:
    values = numbers(value)
    if len(values) != 1 or math.isinf(values[0]) or (math.isnan(values[0]) and not missing):
        raise Bad("not one number")
    return values[0]


def truths(value: object) -> list[bool]:
    known = {"T": True, "True": True, "true": True, "TRUE": True, "1": True, "0": False}
    known |= {"F": False, "False": False, "false": False, "FALSE": False}
    if value is True:
        return [True] * 3
    words = str(value).replace(",", " ").split()
    if len(words) not in (1, 3) or any(word not in known for word in words):
        raise Bad("truth values")
    return [known[word] for word in (words * 3)[:3]]
