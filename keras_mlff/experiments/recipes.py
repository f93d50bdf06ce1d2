"""Finds recipes and settles them: what they extend, variants, overrides and parameters."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mlff import presets
from keras_mlff.experiments import toml
from keras_mlff.experiments.settings import Recipe

RECIPE = "recipe.toml"  # in the folder of a preset
_KINDS = ("kind", "class", "preset")  # keys whose change replaces the table that they are in
_NOT_SECTIONS = ("parameters", "variants", "extends")


def folders() -> list[Path]:
    """Lists the folders that hold recipes: that of the package, or of its checkout."""
    package = Path(__file__).resolve().parents[1]
    candidates = [package / "recipes", package.parent / "recipes"]
    return [folder for folder in candidates if folder.is_dir()]


def available() -> dict[str, Path]:
    """Finds the recipes that come with the package: files by name."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.toml")):
            if not path.stem.startswith("_"):  # what several recipes extend is none itself
                found.setdefault(path.stem, path)
    return found


def find(name: str | Path) -> Path:
    """Finds a recipe by its name, by its file, or by a preset that was made by one.

    Args:
        name: `"cmret_md17"`, `"mine.toml"`, the folder of a preset, or its name, `"cmret/ch2"`.

    Raises:
        ValueError: If there is none, with the near ones.
    """
    path = Path(name).expanduser()
    if path.suffix == ".toml" and path.is_file():
        return path
    if (path / RECIPE).is_file():
        return path / RECIPE
    known = available()
    if str(name) in known:
        return known[str(name)]
    preset = presets.available().get(str(name))
    if preset is not None and (preset.folder / RECIPE).is_file():
        return preset.folder / RECIPE
    near = difflib.get_close_matches(str(name), known, n=3)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(
        f"There is no such recipe. Received: '{name}'. {hint}Known are {list(known)}; a file ends "
        "in .toml."
    )


@dataclasses.dataclass(frozen=True)
class Source:
    """A recipe as it is written, before anything is chosen.

    Attributes:
        path: Its file.
        table: Its content, what it extends underneath.
        extended: The files that it extends, the nearest first.
    """

    path: Path
    table: Mapping[str, Any]
    extended: tuple[Path, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Names that stand in its texts, and their values if nothing else is said."""
        return dict(self.table.get("parameters", {}))

    @property
    def variants(self) -> dict[str, Any]:
        """Changes by name."""
        return dict(self.table.get("variants", {}))

    def filled(self, key: str) -> Any:
        """Finds a value by `"section.key"`, its parameters filled in; an empty text if absent."""
        value: Any = self.table
        for name in key.split("."):
            value = value.get(name, "") if isinstance(value, Mapping) else ""
        return _fill(value, self.parameters, str(self.path))

    def replacing(self, **sections: Mapping[str, Any]) -> Source:
        """Makes the same recipe with other sections, and without their changes in variants."""
        variants = {
            name: {key: value for key, value in changes.items() if key not in sections}
            for name, changes in self.variants.items()
        }
        table = {**self.table, **sections} | ({"variants": variants} if variants else {})
        return dataclasses.replace(self, table=table)

    def settle(
        self, variants: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
    ) -> Recipe:
        """Lays variants and overrides over the recipe, fills in parameters and checks all keys.

        Args:
            variants: Names, the later ones over the earlier ones.
            overrides: Values by `"section.key"`, or by the name of a parameter.

        Raises:
            ValueError: If a variant, a key or a parameter is unknown.
            TypeError: If a value has a wrong type.
        """
        file = str(self.path)
        table: dict[str, Any] = dict(self.table)
        toml.refuse_unknown(
            variants, self.variants, f"{file}: there is no variant", "Known variants"
        )
        for name in variants:
            table = lay_over(table, self.variants[name])
        for key, value in (overrides or {}).items():
            _set(table, key, value, file)
        parameters = table.get("parameters", {})
        settled = {key: value for key, value in table.items() if key not in _NOT_SECTIONS}
        return toml.read(Recipe, _fill(settled, parameters, file), file)


def load(name: str | Path, extending: Sequence[Path] = ()) -> Source:
    """Reads a recipe by name or file; see `find`.

    Args:
        name: Of the recipe.
        extending: The files that are read because they extend this one, the nearest last.

    Raises:
        ValueError: If there is none, the file is no TOML, or it extends itself.
    """
    path = find(name)
    if path in extending:
        raise ValueError(f"A recipe extends itself. Received: {[*map(str, extending), str(path)]}.")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not written in TOML: {error}.") from error
    if "extends" not in table:
        return Source(path, table)
    # beside it, or one of the package, also one that is none itself and extended alone
    files = [folder / f"{table['extends']}.toml" for folder in (path.parent, *folders())]
    found = [file for file in files if file.is_file() and file != path]
    base = load(found[0] if found else table["extends"], [*extending, path])
    return Source(path, lay_over(base.table, table), (base.path, *base.extended))


def lay_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merges tables; one that is of another `kind` or `class` replaces the whole of the other.

    The heads of a model stay when its class changes, since they belong to the data.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if not (isinstance(old, Mapping) and isinstance(value, Mapping)):
            merged[key] = value
        elif _is_another(old, value):
            kept = ("heads",) if "class" in value else ()
            merged[key] = {name: old[name] for name in kept if name in old} | dict(value)
        else:
            merged[key] = lay_over(old, value)
    return merged


def _is_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tells whether two tables name different things, whose arguments do not go together."""
    before, after = ({name: t[name] for name in _KINDS if name in t} for t in (old, new))
    return bool(before) and any(before.get(name) != value for name, value in after.items())


def run_name(source: Source, variants: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """Names a folder by the recipe and by what was chosen, so that others have another.

    Example: `cmret_md17_paper_molecule-aspirin_seed-1`.
    """
    stem = source.path.stem if source.path.name != RECIPE else source.path.absolute().parent.name
    chosen = [f"{key.rpartition('.')[2]}-{value}" for key, value in overrides.items()]
    name = "_".join([stem, *variants, *chosen])
    short = re.sub(r"[^\w.=-]+", "-", name).strip("-")
    if len(short) <= 100:
        return short
    return f"{short[:80]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def parse_overrides(settings: Iterable[str], flag: str = "--set") -> dict[str, Any]:
    """Reads `key=value` pairs; a value is TOML, `true`, `[1, 2]`, or else a text.

    Args:
        settings: The pairs.
        flag: Where they were given, for errors.

    Raises:
        ValueError: If there is no sign of equality, or a key is given twice.

    Example:
        >>> parse_overrides(["training.batch_size=8", "molecule=aspirin"])
        {'training.batch_size': 8, 'molecule': 'aspirin'}
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"{flag} takes key=value. Received: '{setting}'.")
        if key in parsed:
            raise ValueError(f"{flag} takes a key once. Received: '{key}' twice in {settings}.")
        try:
            parsed[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            words = {"True": True, "False": False}  # as Python writes them
            parsed[key] = words.get(text, text)
    return parsed


def _set(table: dict[str, Any], key: str, value: Any, file: str) -> None:
    """Replaces one value in place, without changing the tables that a variant shares."""
    parameters = table.get("parameters", {})
    sections = [field.name for field in dataclasses.fields(Recipe)]
    first, *rest = key.split(".")
    if first in parameters and not rest:
        table["parameters"] = {**parameters, first: value}
        return
    what = f"{file} has no section or parameter"
    toml.refuse_unknown([first], [*sections, *parameters], what, "Known")
    inner = table
    for name in [first, *rest][:-1]:
        old = inner.get(name, {})
        # a name alone becomes a table where arguments follow
        inner[name] = dict(old) if isinstance(old, Mapping) else {"kind": old}
        inner = inner[name]
    last = key.split(".")[-1]
    if key == "model.preset" and value:
        inner.clear()  # a preset is a model of its own, with its own arguments
    inner[last] = value


def _fill(value: Any, parameters: Mapping[str, Any], file: str) -> Any:
    """Puts the values of parameters in the place of `{name}`; `{Name}` begins with a capital.

    A text that is nothing but `{name}` becomes the value as it is: a number, a list.
    """
    if isinstance(value, Mapping):
        return {
            _fill(key, parameters, file): _fill(item, parameters, file)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_fill(item, parameters, file) for item in value]
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> Any:
        name = match[1]
        if name in parameters:
            return parameters[name]
        lower = name[0].lower() + name[1:]
        if lower in parameters:
            text = str(parameters[lower])
            return text[:1].upper() + text[1:]
        toml.refuse_unknown([name], parameters, f"{file} has no parameter", "Known parameters")

    whole = re.fullmatch(r"\{(\w+)\}", value)
    if whole:
        return found(whole)
    return re.sub(r"\{(\w+)\}", lambda match: str(found(match)), value)
