"""Files that are whole or not there, whatever ends a process, and folders with one writer."""

import contextlib
import ctypes
import json
import os
import resource
import signal
import time

import numpy as np
import pytest

from keras_mlff import models, saving
from keras_mlff.cli.tables import write_table
from keras_mlff.fit.logs import Log


@contextlib.contextmanager
def full_disk(size):
    """Lets no file of this process grow above a number of bytes, as if the disk were full."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@contextlib.contextmanager
def process_inside(block):
    """Runs a process that has entered a block and stays there; gives its number."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with block:
            os.write(writer, b"inside")
            time.sleep(60)
    os.read(reader, 6)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            kill(process)


def kill(process):
    os.kill(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)


def age(folder):
    """Makes files look as if they had been made a minute ago."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - 60.0,) * 2)


def test_a_file_is_replaced_only_by_a_finished_one(tmp_path):
    path = tmp_path / "new" / "log.csv"
    with saving.replacing(path) as file:
        assert file.suffix == ".csv"
        file.write_text("old")
        assert not path.exists()

    def interrupted():
        with saving.replacing(path) as file:
            file.write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_json_holds_what_numpy_computes(tmp_path):
    path = tmp_path / "results.json"
    content = {"mae": np.float32(0.5), "rows": np.arange(3), "name": "Ångström", "scale": 0.1}
    saving.write_json(path, content)
    assert json.loads(path.read_text("utf-8")) == content | {"mae": 0.5, "rows": [0, 1, 2]}
    with pytest.raises(TypeError, match="JSON knows no complex"):
        saving.write_json(path, {"mae": 1j})
    assert json.loads(path.read_text("utf-8"))["mae"] == 0.5


def test_arrays_come_back_by_any_name(tmp_path):
    path = tmp_path / "frames.data"  # NumPy would add its own suffix
    saving.write_npz(path, {"nvt/positions": np.arange(6).reshape(2, 3)})
    with np.load(path) as file:
        assert file["nvt/positions"].shape == (2, 3)


@pytest.mark.parametrize("block", [saving.replacing, saving.replacing_folder])
def test_the_next_write_removes_what_a_killed_process_left_and_nothing_else(tmp_path, block):
    (tmp_path / ".unfinished-novel.txt").write_text("three years")
    with process_inside(block(tmp_path / "new")) as process:
        age(tmp_path)
        saving.write_text(tmp_path / "other", "")
        assert len(list(tmp_path.iterdir())) == 3  # it may go on
        kill(process)
        saving.write_text(tmp_path / "other", "")
    assert {path.name for path in tmp_path.iterdir()} == {".unfinished-novel.txt", "other"}


@pytest.mark.parametrize("system", ["exchanges", "renames"])
def test_a_folder_is_replaced_and_what_others_put_there_stays(tmp_path, monkeypatch, system):
    if system == "renames":
        monkeypatch.setattr(ctypes, "CDLL", lambda _: None)
    folder = tmp_path / "folder"
    for text in ("old", "new"):
        with saving.replacing_folder(folder) as unfinished:
            (unfinished / "weights").write_text(text)
            assert not folder.exists() or (folder / "weights").read_text() == "old"
        if text == "old":
            saving.write_text(folder / "deep/notes", "three years")
            (folder / "link").symlink_to("nowhere")
            (tmp_path / "same").symlink_to(folder)
    assert {path.name for path in folder.rglob("*")} == {"weights", "deep", "notes", "link"}
    assert (folder / "weights").read_text() == "new"
    with saving.replacing_folder(tmp_path / "same") as unfinished:
        (unfinished / "weights").write_text("newer")
    assert (folder / "weights").read_text() == "newer"
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "same"}


def test_a_folder_has_one_writer_which_may_be_killed(tmp_path):
    with process_inside(saving.claiming(tmp_path)) as process:
        with pytest.raises(ValueError, match=rf"process {process} on .*choose another folder"):
            saving.claiming(tmp_path).__enter__()
        kill(process)
        with saving.claiming(tmp_path) as check:
            check()
            with pytest.raises(ValueError, match=f"process {os.getpid()} on"):
                saving.claiming(tmp_path).__enter__()
            (tmp_path / ".lock").rename(tmp_path / "moved")
            with pytest.raises(FileNotFoundError, match="removed or replaced"):
                check()
            (tmp_path / "moved").rename(tmp_path / ".lock")
    assert list(tmp_path.iterdir()) == []


def write_log(path):
    log = Log(str(path), append=True)
    log.set_model(None)
    log.on_train_begin()
    try:
        for epoch in range(1000):
            log.on_epoch_end(epoch, {"loss": 0.1})
    finally:
        with contextlib.suppress(OSError):
            log.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path):
    model = models.EGNN(num_features=8, num_layers=1)
    rows = [{"number": number} for number in range(3000)]
    writers = {
        "best.weights.h5": model.save_weights,
        "best.keras": model.save,
        "preset": model.save_to_preset,
        "frames.npz": lambda path: saving.write_npz(
            path, {"x": np.random.default_rng(0).random(4000)}
        ),
        "table.csv": lambda path: write_table(rows, output=path),
        "table.txt": lambda path: write_table(rows, "table", path),
        "log.csv": write_log,
    }
    for name, write in writers.items():
        folder = tmp_path / name
        folder.mkdir()
        path = folder / name
        if name != "log.csv":
            write(path)
        before = {item: item.read_bytes() for item in folder.rglob("*") if item.is_file()}
        if name == "best.weights.h5":
            model.assign_weights([(weight, weight + 1.0) for weight in model.weights])
        for size in (4096, 5000):
            with full_disk(size), pytest.raises(OSError, match=rf"too large: '.*{name}"):
                write(path)
        if name != "log.csv":
            after = {item: item.read_bytes() for item in folder.rglob("*") if item.is_file()}
            assert after == before
            assert len(list(folder.iterdir())) == 1
