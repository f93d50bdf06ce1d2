"""What a preset says about itself: the schema of its `metadata.json`, checked when it is published.

Measured errors and published ones are kept apart, and every preset states them in the same form, so
that programs can compare presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict


class Measured(TypedDict):
    """The errors of one property on test structures."""

    unit: str  # of the errors: "meV", "kcal/mol/Å"
    test_mae: float  # mean absolute error
    test_rmse: float  # root of the mean square


class Metadata(TypedDict, total=False):
    """The keys of `metadata.json` beside those of the format itself (`presets.save` writes those).

    `recipe`, `seed` and `metrics` are required when a preset is published.
    """

    description: str  # one sentence
    dataset: Any  # name or description of the data
    level_of_theory: Any  # method and basis of the labels
    split: dict[str, Any]  # sizes of the parts by name, and the digest of the split
    recipe: str  # the command that makes the model again
    seed: int
    compute: str  # CPU hours and backend
    license: str
    citation: str
    notes: list[str]  # sentences that users must know
    warnings: list[str]  # sentences that `from_preset` shows
    domain: dict[str, Any]  # what was learned from, see `keras_mlff.core.domain.Domain`
    metrics: dict[str, Measured]  # by property
    metrics_of_parts: dict[str, dict[str, Measured]]  # by part of the test, then by property
    published: dict[str, dict[str, float]]  # by source, then by property, in the units of `metrics`
    learning_curve: dict[str, dict[str, float]]  # by number of epochs, then by column of the log
    checks: dict[str, dict[str, float]]  # by backend, then by name: see `publish.measure`
    nve: dict[str, Any]  # see `publish.nve_drift`
    figures: dict[str, str]  # captions by file
    keras_mlff_version: str


REQUIRED = ("recipe", "seed", "metrics")


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuses metadata that are incomplete or not in the form of `Metadata`.

    Args:
        metadata: What a preset is about to say about itself.

    Raises:
        ValueError: If something required is missing, errors are not in the form of `Measured`, or
            published numbers name a property that was not measured.
    """
    missing = sorted(set(REQUIRED) - metadata.keys())
    if missing:
        raise ValueError(
            f"A preset needs {missing} besides its weights. Received: {sorted(metadata)}."
        )
    tables = {"metrics": metadata["metrics"], **metadata.get("metrics_of_parts", {})}
    for where, table in tables.items():
        for name, errors in table.items():
            if not isinstance(errors, Mapping) or set(errors) != set(Measured.__annotations__):
                raise ValueError(
                    "The errors of a property are stated as "
                    "{'unit': 'meV', 'test_mae': 1.0, 'test_rmse': 1.5}; what others published "
                    f"belongs to `published`. Received: {name}={errors!r} in '{where}'."
                )
    for source, values in metadata.get("published", {}).items():
        unknown = sorted(set(values) - set(metadata["metrics"]))
        if unknown:
            raise ValueError(
                "Published errors stand beside measured ones of the same property. Received: "
                f"{unknown} of '{source}'; measured are {sorted(metadata['metrics'])}."
            )


def with_published(
    metrics: Mapping[str, Mapping[str, Any]], published: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, Any]]:
    """Puts published numbers beside the measured ones, a row per property, as cards print them."""
    return {
        name: {
            **errors,
            **{source: values[name] for source, values in published.items() if name in values},
        }
        for name, errors in metrics.items()
    }
