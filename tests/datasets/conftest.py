from pathlib import Path

import numpy as np
import pytest

from keras_mlff.datasets import ch2

DUMMY_DATA = Path(__file__).with_name("dummy_data")


@pytest.fixture
def invented_ch2(monkeypatch):
    """Puts four invented structures in the place of the shipped file."""
    monkeypatch.setattr(ch2, "FILE", DUMMY_DATA / "ch2/ch2.npz")
    with np.load(ch2.FILE) as file:
        return dict(file)


@pytest.fixture
def offline(monkeypatch):
    """Makes every download fail, as without network."""

    from tensorflow_datasets.core.download import DownloadManager

    def refuse(self, url):
        raise OSError("no network")

    monkeypatch.setattr(DownloadManager, "download", refuse)
