"""Tables of TOML to frozen dataclasses and back, and TOML as text."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from keras_mlff.experiments.settings import ModelSettings

Section = TypeVar("Section")


def read(kind: type[Section], table: Mapping[str, Any], file: str = "", place: str = "") -> Section:
    """Makes a dataclass of a table, every key and type checked.

    Args:
        kind: `Recipe` or one of its sections.
        table: As `tomllib` gives it.
        file: Where it was read, for errors.
        place: The section, such as `"training"`, for errors.

    Raises:
        ValueError: If a key is unknown; the error names the near ones.
        TypeError: If a value has another type than the key takes.
    """
    table = dict(table)
    if kind is ModelSettings:
        table = _gather_arguments(table)
    hints = typing.get_type_hints(kind)
    fields = {"class" if name == "class_name" else name: name for name in hints}
    where = _where(file, place)
    refuse_unknown(table, fields, f"{where} has no key", "Known keys")
    return kind(
        **{
            fields[key]: _value(hints[fields[key]], value, file, place, key)
            for key, value in table.items()
        }
    )


def refuse_unknown(names: Collection[str], known: Collection[str], what: str, list_of: str) -> None:
    """Refuses names that are not among the known ones.

    Raises:
        ValueError: With those that are near.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=3)
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"{what} '{name}'. {hint}{list_of}: {sorted(known)}.")


def as_table(settings: Any) -> dict[str, Any]:
    """Writes a dataclass as the table that `read` takes, without empty texts, lists and tables."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = as_table(value)
        elif isinstance(value, tuple):
            value = [as_table(item) if dataclasses.is_dataclass(item) else item for item in value]
        if field.name == "arguments":
            table |= value
        elif value not in ("", [], {}):
            table["class" if field.name == "class_name" else field.name] = value
    return table


def dumps(table: Mapping[str, Any], name: str = "") -> str:
    """Writes a table as TOML: plain values and short tables first, sections after them.

    Args:
        table: Texts, numbers, truth values, lists and tables of those.
        name: Of the section, where it is one.
    """
    sections = {key: value for key, value in table.items() if _is_section(value, name)}
    lines = [
        f"{_key(key)} = {_plain(value)}" for key, value in table.items() if key not in sections
    ]
    if name and (lines or not sections):
        lines.insert(0, f"[{name}]")
    text = "\n".join(lines) + "\n" if lines else ""
    for key, value in sections.items():
        inner = f"{name}.{_key(key)}" if name else _key(key)
        text += "\n" * bool(text) + dumps(value, inner)
    return text


def _is_section(value: Any, name: str) -> bool:
    return isinstance(value, Mapping) and (not name or len(_plain(value)) > 80)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _plain(name)


def _plain(value: Any) -> str:
    """Writes one value in one line."""
    if isinstance(value, Mapping):
        items = ", ".join(f"{_key(key)} = {_plain(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)  # TOML has inf and nan
    if isinstance(value, int):
        return str(value)
    return json.dumps(str(value), ensure_ascii=False)  # TOML's escapes are those of JSON


def _gather_arguments(table: dict[str, Any]) -> dict[str, Any]:
    """Puts the constructor's arguments of the section `[model]` under one key."""
    own = {key: table.pop(key) for key in ("class", "preset", "heads") if key in table}
    return own | {"arguments": table}


def _where(file: str, place: str) -> str:
    section = f"section [{place}]" if place else "the recipe"
    return f"{file}: {section}" if file else section.capitalize() if place else "The recipe"


def _value(hint: Any, value: Any, file: str, place: str, key: str) -> Any:
    """Checks a value against the type of its key; lists become tuples."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TypeError(
                f"{_where(file, place)} takes a table for '{key}'. Received: {value!r}."
            )
        return read(typing.cast("type[Any]", hint), value, file, f"{place}.{key}" if place else key)
    if _is_list_of_sections(hint) and isinstance(value, (list, tuple)):
        kind = typing.get_args(hint)[0]
        inside = f"{place}.{key}"
        return tuple(read(kind, item, file, inside) for item in value)
    if not _fits(hint, value):
        raise TypeError(
            f"{_where(file, place)} takes {_described(hint)} for '{key}'. "
            f"Received: {key} = {value!r}."
        )
    return tuple(value) if isinstance(value, list) else value


def _is_list_of_sections(hint: Any) -> bool:
    parts = typing.get_args(hint)
    return typing.get_origin(hint) is tuple and dataclasses.is_dataclass(parts[0])


def _fits(hint: Any, value: Any) -> bool:
    """Tells whether a value of TOML has a type; numbers without a fraction are floats too."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(part, value) for part in parts)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(parts[0], item) for item in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(_fits(parts[1], item) for item in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _described(hint: Any) -> str:
    """Names a type in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_described, parts)))
    if origin is tuple:
        return "a list"
    if origin is dict:
        return "a table"
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(hint, "anything")
