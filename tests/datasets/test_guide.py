"""The guide to the data sets says what the builders say, and the guide to new ones is true."""

import re
from pathlib import Path

import pytest

tfds = pytest.importorskip("tensorflow_datasets")

import numpy as np  # noqa: E402

from keras_mlff import datasets  # noqa: E402
from keras_mlff.datasets.tools import builder, catalog, guide, shipped, testing  # noqa: E402

ROOT = Path(__file__).parents[2]


def test_page_is_what_the_builders_say():
    """Else run: python -m keras_mlff.datasets.tools.guide docs/guides/datasets.md."""
    page = (ROOT / "docs/guides/datasets.md").read_text("utf-8")
    assert guide.update(page) == page


def test_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="needs the lines"):
        guide.update("# Data sets\n")


def test_every_module_of_the_folder_is_a_data_set():
    """Its class is found by its base, and its name is that of the module, or TFDS has that one."""
    assert list(datasets.NAMES) == sorted(datasets.NAMES)
    assert {"ch2", "qm9", "zeolite"} <= set(datasets.NAMES)
    for name in datasets.NAMES:
        found = catalog.builder_class(name)
        assert issubclass(found, builder.AtomisticDatasetBuilder)
        assert found.name == {"qm9": "mlff_qm9"}.get(name, name)
        assert (found.shipped is None) == (shipped.find_shipped(name) is None)


@pytest.mark.parametrize("name", datasets.NAMES)
def test_builders_say_all_there_is_to_say(name):
    found = catalog.builder_class(name)
    testing.check_description(found)
    assert found.CITATION or name == "atoms"
    assert found.SOURCES or found.shipped or name == "atoms"
    assert all(key in found.MANUAL_DOWNLOAD_INSTRUCTIONS for key in found.SOURCES)


def code_of(page, number):
    """Picks a piece of Python code from a page of the docs."""
    text = (ROOT / "docs/guides" / page).read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[number]


def test_code_of_the_guide_makes_a_data_set_that_passes_the_checks(tmp_path):
    """The builder and its test are executed as the guide prints them."""
    space = {"__name__": "salts"}
    exec(code_of("add_a_dataset.md", 2).replace('name = "salts"', 'name = "true_salts"'), space)
    exec(code_of("add_a_dataset.md", 3), space)
    space["test_salts_are_in_our_units"](tmp_path)


def test_checks_find_what_is_wrong(tmp_path, monkeypatch):
    space = {"__name__": "broken_salts"}
    exec(code_of("add_a_dataset.md", 2).replace('name = "salts"', 'name = "broken_salts"'), space)
    exec(code_of("add_a_dataset.md", 3), space)
    cls = space["Salts"]
    space["write_salts"](tmp_path)
    monkeypatch.setattr(cls, "CITATION", "Somebody, 2026")
    with pytest.raises(AssertionError, match="BibTeX"):
        testing.check_builder(cls, tmp_path)
    monkeypatch.undo()
    order, frames = np.random.default_rng(0), cls._frames

    def shuffled(self, path):
        found = [*frames(self, path)]
        return (found[index] for index in order.permutation(len(found)))

    monkeypatch.setattr(cls, "_frames", shuffled)
    with pytest.raises(AssertionError, match="another one each time"):
        testing.check_builder(cls, tmp_path)
