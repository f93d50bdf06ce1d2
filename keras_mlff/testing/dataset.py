"""What every data set promises, as a test class and as one call."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras_mlff.graph import Graph
from keras_mlff.testing.checks import CheckReport, Checks, NotApplicable, add_tests, run_checks

check = Checks()


class DatasetSubject:
    """A builder under test, and the invented source files that it reads.

    Args:
        builder: The builder of TensorFlow Datasets.
        write_sources: A function that writes about four invented structures into a folder, in the
            layout and under the names of the builder's `SOURCES`; `None` for data that are
            generated.
        config: The name of a configuration; the first where `None`.
    """

    def __init__(
        self,
        builder: Any,
        write_sources: Callable[[Path], Any] | None = None,
        config: str | None = None,
    ) -> None:
        self.builder = builder
        self.write_sources = write_sources
        self.config = config
        self._built: dict[str, list[Graph]] | None = None

    @property
    def built(self) -> dict[str, list[Graph]]:
        """The structures of each split, built once from the invented files."""
        from keras_mlff.datasets.tools.testing import check_builder

        if self._built is None:
            with tempfile.TemporaryDirectory() as folder:
                if self.write_sources is not None:
                    self.write_sources(Path(folder))
                self._built = check_builder(self.builder, folder, self.config)
        return self._built


@check()
def the_builder_says_where_data_are_from(subject: DatasetSubject) -> None:
    """Homepage, citation, license, level of theory, sources and labels are stated in their form."""
    from keras_mlff.datasets.tools.testing import check_description

    check_description(subject.builder)


@check()
def invented_files_are_built_twice_alike(subject: DatasetSubject) -> None:
    """Splits have names, structures and labels, and come in the same order each time."""
    assert subject.built


@check()
def values_are_in_the_units_of_the_package(subject: DatasetSubject) -> None:
    """Positions are in Å and forces in eV/Å: no two atoms coincide and no force is absurd."""
    for split, structures in subject.built.items():
        for index, graph in enumerate(structures):
            where = f"structure {index} of '{split}'"
            positions = graph["positions"]
            if len(positions) > 1 and "cell" not in graph:
                differences = positions[:, None] - positions[None]
                lengths = np.linalg.norm(differences, axis=-1)[np.triu_indices(len(positions), 1)]
                assert lengths.min() > 0.3, f"{where}: {lengths.min()} Å between two atoms"
            if "forces" in graph:
                largest = np.nanmax(np.abs(graph["forces"]), initial=0.0)
                assert largest < 1e3, f"{where}: a force of {largest} eV/Å"


@check()
def missing_files_are_named(subject: DatasetSubject) -> None:
    """Where source files are neither placed nor to be had, the error names one of them."""
    from keras_mlff.datasets.tools.testing import build

    sources = subject.builder.SOURCES
    if not sources or any(source.url for source in sources.values()):
        raise NotApplicable("the data are generated, or would be downloaded")
    message = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            build(subject.builder, folder, subject.config)
        except Exception as error:  # TFDS may wrap it
            message = str(error)
    assert any(name in message for name in sources), f"the error is: {message!r}"


class DatasetTests:
    """The contract of a data set as a class of tests, which pytest and unittest collect.

    Attributes:
        builder: The builder of TensorFlow Datasets that is tested.
        config: The name of a configuration; the first where `None`.

    Example:
        ```python
        from keras_mlff.testing import DatasetTests


        class TestSalts(DatasetTests):
            builder = Salts

            @staticmethod
            def write_sources(folder):
                np.savez(folder / "salts.npz", R=..., z=..., E=..., F=...)
        ```
    """

    builder: ClassVar[Any]
    config: ClassVar[str | None] = None
    thorough: ClassVar[bool] = True

    @staticmethod
    def write_sources(folder: Path) -> None:
        """Writes about four invented structures in the layout of the source's files.

        Args:
            folder: Where the files belong, under the names of the builder's `SOURCES`.
        """

    @classmethod
    def subject(cls) -> DatasetSubject:
        """Builds the data once for all tests of a class."""
        if "_subject" not in cls.__dict__:
            cls._subject = DatasetSubject(cls.builder, cls.write_sources, cls.config)
        return cls._subject

    _subject: ClassVar[DatasetSubject]


add_tests(DatasetTests, check)


def check_dataset(
    builder: Any,
    write_sources: Callable[[Path], Any] | None = None,
    config: str | None = None,
) -> CheckReport:
    """Runs the contract of a data set without a test framework.

    Args:
        builder: The builder of TensorFlow Datasets.
        write_sources: A function that writes about four invented structures into a folder, in the
            layout and under the names of the builder's `SOURCES`; `None` for data that are
            generated.
        config: The name of a configuration; the first where `None`.

    Returns:
        Which promises hold, and which are not made.

    Raises:
        AssertionError: If a promise is broken; the message lists all that are.
    """
    return run_checks(check, DatasetSubject(builder, write_sources, config), thorough=True)
