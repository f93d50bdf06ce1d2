"""The guide to the data sets says what the builders say."""

from pathlib import Path

import pytest

pytest.importorskip("tensorflow_datasets")

from keras_mlff import datasets
from keras_mlff.datasets import shipped
from keras_mlff.datasets.tools import builder, guide
from keras_mlff.graph import MAX_ATOMIC_NUMBER

ROOT = Path(__file__).parents[2]


def test_page_is_what_the_builders_say():
    """Else run: python -m keras_mlff.datasets.tools.guide docs/guides/datasets.md."""
    page = (ROOT / "docs/guides/datasets.md").read_text("utf-8")
    assert guide.update(page) == page


def test_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="needs the lines"):
        guide.update("# Data sets\n")


def test_every_builder_is_listed_and_every_listed_one_exists():
    folder = Path(datasets.__file__).parent
    written = {
        path.stem
        for path in folder.glob("*.py")
        if "BUILDER_CONFIGS: ClassVar" in path.read_text("utf-8")
    }
    assert written == set(datasets.NAMES)
    assert list(datasets.NAMES) == sorted(datasets.NAMES)


@pytest.mark.parametrize("name", datasets.NAMES)
def test_builders_say_all_there_is_to_say(name):
    found = builder.builder_class(name)
    for attribute in ("HOMEPAGE", "LICENSE", "LEVEL_OF_THEORY", "STRUCTURES", "ELEMENTS"):
        assert getattr(found, attribute), attribute
    assert found.CITATION.startswith("@") or name == "atoms"
    assert found.SOURCES or name in (*shipped.SHIPPED, "atoms")
    assert all(config.description for config in found.BUILDER_CONFIGS)
    assert len({config.name for config in found.BUILDER_CONFIGS}) == len(found.BUILDER_CONFIGS)
    for key, source in found.SOURCES.items():
        assert source.layout, key
        assert source.url is None or source.url.startswith("http")
        assert source.checksum is None or len(source.checksum) in (32, 64)
        assert key in found.MANUAL_DOWNLOAD_INSTRUCTIONS
    for number, energy in found.REFERENCES.items():
        assert 1 <= number <= MAX_ATOMIC_NUMBER
        assert energy < -13.0  # eV, total energies: hydrogen has -13.6
