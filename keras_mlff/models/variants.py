"""What a family that has several versions of itself needs: checked switches, and their names.

A paper and its authors' program rarely agree, and the program changes over the years. The switches
by which such versions differ stand in one frozen dataclass per family (`AlphaNet.Variant`,
`So3krates.Variant`) instead of the constructor, which shows what a user chooses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

V = TypeVar("V", bound="Switches")


@dataclasses.dataclass(frozen=True)
class Switches:
    """Base of the variants of a family: a frozen dataclass of plain values that checks its text.

    A subclass gives every field the default that it should have for new models, and lists in
    `CHOICES` the words that fields of text accept.

    Raises:
        ValueError: If a field of text holds a word that is not among its choices.
        TypeError: If a switch that is True or False holds something else.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in ("bool", bool) and not isinstance(value, bool):
                raise TypeError(
                    f"`{field.name}` of {type(self).__name__} is True or False. "
                    f"Received: {value!r}."
                )
        for name, choices in self.CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"Unknown `{name}` of {type(self).__name__}. Received: {value!r}. "
                    f"Choose from {list(choices)}."
                )

    def as_dict(self) -> dict[str, Any]:
        """Lists all fields by name, which is what configs store."""
        return dataclasses.asdict(self)


def choose(variants: Mapping[str, V], variant: str | V | Mapping[str, Any]) -> V:
    """Finds the variant that a constructor was given in one of three forms.

    Args:
        variants: The named variants of the family; the first one holds the defaults.
        variant: A name among them; an object of their class, such as
            `dataclasses.replace(VARIANTS["v1"], max_num_neighbors=None)`; or a dict of fields, as
            configs and recipes have it, in which missing fields take the class's defaults.

    Returns:
        The variant as an object.

    Raises:
        ValueError: If the name or a field is unknown, or a field has a value that is not offered.
        TypeError: If `variant` is none of the three.
    """
    kind = type(next(iter(variants.values())))
    if isinstance(variant, kind):
        return variant
    if isinstance(variant, str):
        if variant not in variants:
            raise ValueError(
                f"Unknown variant. Received: variant={variant!r}. Choose from {list(variants)}, or "
                f"pass a {kind.__name__}."
            )
        return variants[variant]
    if isinstance(variant, Mapping):
        fields = [field.name for field in dataclasses.fields(kind)]
        unknown = sorted(set(variant) - set(fields))
        if unknown:
            raise ValueError(
                f"Unknown fields of {kind.__name__}. Received: {unknown}. Known: {fields}."
            )
        return kind(**variant)
    raise TypeError(
        f"A variant is a name, a {kind.__name__} or a dict of its fields. "
        f"Received: variant={variant!r}. Choose from {list(variants)}."
    )


def gather_switches(
    config: Mapping[str, Any],
    variants: Mapping[str, V],
    renamed: Mapping[str, str],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """Moves the switches of an older config, which stood among its arguments, into its variant.

    Args:
        config: Arguments of a constructor, as they were written at any time.
        variants: The named variants of the family; the first one is the default.
        renamed: Old names of switches that have another name today, to that name.
        changes: Fields of the variant that the family has read from the config itself.

    Returns:
        The config with a dict at `"variant"` if there was anything to move, else as it was. A
        switch that is `None` is left to the named variant, as it was then.
    """
    kind = type(next(iter(variants.values())))
    names = {field.name: field.name for field in dataclasses.fields(kind)} | dict(renamed)
    moved = {names[key]: value for key, value in config.items() if key in names}
    kept = {key: value for key, value in config.items() if key not in names}
    if not moved and not changes:
        return kept
    given = {name: value for name, value in moved.items() if value is not None} | dict(changes)
    start = choose(variants, kept.get("variant", next(iter(variants))))
    return kept | {"variant": dataclasses.replace(start, **given).as_dict()}
