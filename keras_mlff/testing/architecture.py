"""What every architecture promises, as a test class and as one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import keras

from keras_mlff.core.force_field import ForceField
from keras_mlff.testing import batches, derivatives, files, learning, options, symmetries
from keras_mlff.testing.checks import Check, CheckReport, add_tests, run_checks
from keras_mlff.testing.subject import Subject

ARCHITECTURE_CHECKS: tuple[Check, ...] = tuple(
    check
    for module in (symmetries, batches, derivatives, learning, options, files)
    for check in module.check
)


class ArchitectureTests:
    """The contract of an architecture as a class of tests, which pytest and unittest collect.

    Every promise that `ForceField` makes for its subclasses is one test: symmetries, batches and
    padding, forces and stress against finite differences, training, files. What an architecture
    does not promise (`supports_periodic`, `is_size_consistent`, `has_attention`, ...) is skipped or
    turned around.

    Attributes:
        architecture: The class that is tested.
        arguments: Constructor arguments of a small model, besides `num_features`, `num_layers` and
            `cutoff`, which have defaults and may be replaced.
        stored: Folder of the numbers that `write_stored` wrote, which all backends must reproduce.
        thorough: Whether to run checks that make models of their own, which JAX compiles for long.

    Example:
        ```python
        from keras_mlff.testing import ArchitectureTests


        class TestMyNetwork(ArchitectureTests):
            architecture = MyNetwork
        ```
    """

    architecture: ClassVar[type[ForceField]]
    arguments: ClassVar[Mapping[str, Any]] = {}
    stored: ClassVar[str | Path | None] = None
    thorough: ClassVar[bool] = keras.backend.backend() != "jax"

    @classmethod
    def subject(cls) -> Subject:
        """Makes the models once for all tests of a class."""
        if "_subject" not in cls.__dict__:
            cls._subject = Subject(cls.architecture, cls.arguments, cls.stored)
        return cls._subject

    _subject: ClassVar[Subject]


add_tests(ArchitectureTests, ARCHITECTURE_CHECKS)


def check_architecture(
    architecture: type[ForceField],
    arguments: Mapping[str, Any] | None = None,
    stored: str | Path | None = None,
    thorough: bool = True,
) -> CheckReport:
    """Runs the contract of an architecture without a test framework.

    Args:
        architecture: The class.
        arguments: Constructor arguments of a small model, besides `num_features`, `num_layers` and
            `cutoff`, which have defaults and may be replaced.
        stored: Folder of the numbers that `write_stored` wrote.
        thorough: Whether to run checks that make models of their own.

    Returns:
        Which promises hold, and which are not made.

    Raises:
        AssertionError: If a promise is broken; the message lists all that are.

    Example:
        >>> from keras_mlff.models import EGNN
        >>> print(check_architecture(EGNN))  # doctest: +SKIP
        29 checks passed, 0 left out, 0 failed
    """
    return run_checks(ARCHITECTURE_CHECKS, Subject(architecture, arguments, stored), thorough)
