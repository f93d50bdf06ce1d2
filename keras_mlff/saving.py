"""Writes files that an interruption leaves as they were, or complete, and never half written."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, where what is said of locks below does not hold
    fcntl = None  # type: ignore[assignment]

_UNFINISHED = ".unfinished-"
_LOCK = ".lock"  # in a folder that a process writes to
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux
_HERE = -100  # AT_FDCWD: paths are those of the process


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a name to write to, which becomes `path` if the block ends without an error.

    Folders that are missing are made. The name ends as `path` does, which tells NumPy and
    Matplotlib what to write. What killed processes have left beside it is removed.

    Args:
        path: Path of the file. One that exists stays as it is until the new one is complete.

    Raises:
        OSError: If it cannot be written, with its name, such as `No space left on device`.

    Example:
        ```python
        with replacing("results.json") as unfinished:
            unfinished.write_text("{}")
        ```
    """
    path = Path(path).expanduser()
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _unfinished_name(path)
        try:
            with _owning(unfinished, os.O_RDWR | os.O_CREAT) as owned:
                yield unfinished
                if owned is not None:  # before the name: a crash must not leave an empty file
                    os.fsync(owned)
                os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def unfinished_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder beside `path`, which is removed when the block ends, if it is there.

    What killed processes have left beside it is removed too.
    """
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished_name(path)
    unfinished.mkdir()
    try:
        with _owning(unfinished, os.O_RDONLY):
            yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder to write to, which becomes `path` if the block ends without an error.

    A folder that exists stays as it is until the new one is complete. Files in it that the new one
    does not have are kept, at whatever depth. A link stays a link to the folder.

    Args:
        path: Path of the folder.

    Raises:
        OSError: If it cannot be written, with its name.
    """
    path = Path(path).expanduser()
    path = path.resolve() if path.is_symlink() else path
    with unfinished_folder(path) as unfinished, naming(path):
        yield unfinished
        for old in path.rglob("*") if path.is_dir() else ():
            kept = unfinished / old.relative_to(path)
            if not kept.exists() and (old.is_symlink() or not old.is_dir()):
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(old, kept, follow_symlinks=False)
        if path.exists():
            exchange(unfinished, path)
        else:
            os.replace(unfinished, path)


@contextmanager
def claiming(folder: str | Path) -> Iterator[Callable[[], None]]:
    """Makes this process the only one that writes to a folder, as long as the block runs.

    The claim ends with the process, however it ends. It holds for processes of other machines too
    where the file system has locks, and not at all on Windows.

    Args:
        folder: The folder, which is made if need be.

    Yields:
        A function that raises `FileNotFoundError` if the folder was removed or replaced.

    Raises:
        ValueError: If another process has claimed the folder.
    """
    path = Path(folder).expanduser() / _LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+", encoding="utf-8") as file:

            def still_there(file: Any = file) -> bool:
                try:
                    return os.path.samestat(os.fstat(file.fileno()), path.stat())
                except FileNotFoundError:
                    return False

            try:
                _lock(file.fileno())
            except BlockingIOError as error:
                file.seek(0)
                raise ValueError(
                    f"Another training writes to the folder '{folder}': {file.read().strip()}. "
                    "Wait until it has ended, end it, or choose another folder."
                ) from error
            if not still_there():  # the process before has just removed it
                continue

            def check() -> None:
                if not still_there():
                    raise FileNotFoundError(
                        f"The folder '{folder}' was removed or replaced while a training wrote to "
                        "it; what it had written is lost. Start the training again."
                    )

            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.ctime()}\n")
            file.flush()
            try:
                yield check
            finally:
                if fcntl is not None and still_there():
                    path.unlink()
            return


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Adds the name of a file to errors of the system that do not say which file it was."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Writes bytes; an existing file is replaced once the new one is complete."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes text as UTF-8; an existing file is replaced once the new one is complete."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any, plain: Callable[[Any], Any] | None = None) -> None:
    """Writes JSON with an indent of one.

    Args:
        path: Path of the file.
        content: What JSON knows, and arrays and numbers of NumPy.
        plain: Turns an object of another type into what JSON knows; such objects are refused where
            `None`.

    Raises:
        TypeError: If an object of another type is left.
    """

    def convert(value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            return value.tolist()
        if plain is None:
            raise TypeError(f"JSON knows no {type(value).__name__}. Received: {value!r}.")
        return plain(value)

    text = json.dumps(content, indent=1, ensure_ascii=False, default=convert)
    write_text(path, text + "\n")


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes compressed arrays by their names, in NumPy's format npz."""
    with replacing(path) as unfinished, unfinished.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _unfinished_name(path: Path) -> Path:
    """Makes a name that no other process has, after what killed ones have left was removed."""
    for left in path.parent.glob(f"{_UNFINISHED}????????-*"):
        with contextlib.suppress(OSError):  # in use, or another user's
            # between being made and being locked it belongs to nobody
            if fcntl is not None and time.time() - left.lstat().st_mtime > 1.0:
                flags = os.O_RDONLY if left.is_dir() else os.O_RDWR
                owned = os.open(left, flags | os.O_NOFOLLOW)
                try:
                    fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                finally:
                    os.close(owned)
    # not the number of the process, which two machines may share
    return path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex[:8]}-{path.name}")


@contextmanager
def _owning(path: Path, flags: int) -> Iterator[int | None]:
    """Shows other processes that a file or folder is in use; gives it opened, but on Windows."""
    if fcntl is None:  # where an open file cannot get another name
        yield None
        return
    owned = os.open(path, flags, 0o666)
    try:
        _lock(owned)
        yield owned
    finally:
        os.close(owned)


def _lock(descriptor: int) -> None:
    """Locks an open file or folder where the file system can; the lock ends with the process.

    Raises:
        BlockingIOError: If another process has locked it.
    """
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass


def exchange(new: Path, old: Path) -> None:
    """Lets two folders change their names: at once where Linux can, so that `old` always exists."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None or rename(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE):
        moved = old.with_name(f"{old.name}.replaced-{uuid.uuid4().hex[:8]}")
        os.replace(old, moved)
        try:
            os.replace(new, old)
        except BaseException:
            os.replace(moved, old)
            raise
        os.replace(moved, new)
