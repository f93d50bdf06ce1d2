"""Files of the original publications: found in a folder, downloaded, checked, extracted."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import sqlite3
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_mlff.graph import Array

_ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".tgz", ".zip")
COMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".xz": lzma.open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
}
_CHUNK = 2**20  # bytes
_LARGEST_PACKING = 100  # bytes of an archive's content for one of its own; text has 3 to 20
_SMALL = 2**30  # bytes that any archive may have
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0}


class DamagedFile(ValueError):  # noqa: N818 (it says what is wrong)
    """A file that cannot be read, or not whole."""


# what the standard library raises on files that are cut off or changed
DAMAGE = (
    DamagedFile,
    OSError,
    EOFError,
    KeyError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    sqlite3.Error,
)


class Source(NamedTuple):
    """One file of a publication.

    Attributes:
        url: Its address; `None` where it cannot be downloaded.
        checksum: Its MD5 or SHA-256, where published.
        size: Its size in bytes, where published.
        layout: What is in it and in which units, in a line.
    """

    url: str | None
    checksum: str | None = None
    size: int | None = None
    layout: str = ""


def instructions(name: str, sources: Mapping[str, Source]) -> str:
    """Tells what to place where on a machine without network.

    Args:
        name: The name of the data set.
        sources: Its files, by the names that they have in the folder.
    """
    lines = [f"Files of '{name}' for the folder manual_dir (or --manual_dir):"]
    for key, source in sources.items():
        lines.append(f"- {key}: {source.layout or 'the original file'}")
        lines.append(f"  {source.url or 'no address of the file is known'}")
    lines.append("An archive may also lie there as a folder, extracted, without its suffix.")
    return "\n".join(lines)


def manual_folder(dl_manager: Any) -> Path | None:
    """Finds the folder for files that were placed by hand; TFDS refuses it where it is empty."""
    try:
        return Path(dl_manager.manual_dir)
    except (AssertionError, ValueError):
        return None


def locate(
    name: str, sources: Mapping[str, Source], key: str, dl_manager: Any, extract: bool = True
) -> Path:
    """Finds or downloads a file of a data set, checks it, and extracts an archive.

    Args:
        name: The name of the data set, for messages.
        sources: The files of the data set.
        key: The name of the file that is wanted.
        dl_manager: The download manager that TFDS hands over.
        extract: Whether an archive is extracted, unless its content was placed as a folder.

    Returns:
        The file, or the folder of an extracted archive.

    Raises:
        ValueError: If it is neither there nor can be downloaded, or is not the published file.
    """
    source = sources[key]
    folder = manual_folder(dl_manager)
    if folder is not None:
        for suffix in (*_ARCHIVES, *COMPRESSED):
            extracted = folder / key.removesuffix(suffix)
            if key.endswith(suffix) and extracted.exists():
                return extracted
    path = None if folder is None else folder / key
    if path is None or not path.exists():
        path = _download(name, source, key, dl_manager)
    _verify(name, source, key, path)
    if not extract:
        return path
    with readable(name, source, key):
        return _extract(path, key, Path(dl_manager.download_dir) / "extracted")


@contextmanager
def readable(name: str, source: Source, key: str) -> Iterator[None]:
    """Turns the many errors of files that are cut off or lack something into one.

    Args:
        name: The name of the data set.
        source: The file that is read inside of the context.
        key: The name of the file.

    Raises:
        ValueError: If reading fails, with the file, what was wrong, and where to get it again.
    """
    try:
        yield
    except DAMAGE as error:
        raise ValueError(
            f"The file '{key}' of '{name}' is damaged or is not what it should be: "
            f"{type(error).__name__}: {error}. " + _remedy(source, key)
        ) from error


class Npz:
    """An npz file, opened; whatever is wrong with it becomes one kind of error.

    Attributes:
        path: Name of the file.
        names: The names of its arrays, sorted.

    Raises:
        DamagedFile: If it is no npz file, or an array cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("rb")  # NumPy would leave it open where it fails
        try:
            self._file = np.load(self._stream)
            self.names = sorted(self._file.files)
        except Exception as error:  # by zipfile, zlib, NumPy and its parser, of many types
            self._stream.close()
            raise DamagedFile(
                f"'{path}' is no npz file, or not a whole one ({type(error).__name__}: {error})."
            ) from error
        if len(set(self.names)) < len(self.names):
            raise DamagedFile(f"'{path}' has an array twice. Received: {self.names}.")

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._stream.close()

    def __getitem__(self, name: str) -> Array:
        """Reads an array.

        Raises:
            DamagedFile: If it cannot be read or holds objects of Python.
        """
        header = self.header(name)
        if header is not None and header.dtype.hasobject:
            raise DamagedFile(
                f"The array '{name}' of '{self.path}' holds objects of Python, which are not read. "
                "Save structures of different sizes one after the other: positions (all_atoms, 3), "
                "atomic_numbers (all_atoms,), and n_atoms (n,)."
            )
        try:
            array = self._file[name]
        except Exception as error:  # as above
            raise DamagedFile(
                f"The array '{name}' of '{self.path}' is damaged ({type(error).__name__}: {error})."
            ) from error
        if header is None or not isinstance(array, np.ndarray) or array.nbytes != header.nbytes:
            raise DamagedFile(f"'{name}' of '{self.path}' is no array, or has bytes behind it.")
        return array

    def header(self, name: str) -> _Header | None:
        """Reads shape and type of an array; `None` of what is no array."""
        try:
            entry = self._file.zip.getinfo(f"{name}.npy")
            with self._file.zip.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                read = _HEADERS.get(version, np.lib.format.read_array_header_2_0)
                shape, _, dtype = read(stream)
                return _Header(shape, dtype, entry.file_size - stream.tell())
        except Exception:  # reading the array will tell
            return None


class _Header(NamedTuple):
    """Shape and type of an array, and how many bytes stand behind its header."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int


def load_npz(path: Path, arrays: Mapping[str, str]) -> dict[str, Array]:
    """Reads arrays of an npz file under names of ours.

    Args:
        path: Name of the file.
        arrays: Our names, and for each the name in the file.

    Raises:
        KeyError: If an array is missing.
        DamagedFile: If it is no npz file.
    """
    with Npz(path) as file:
        missing = [name for name in arrays.values() if name not in file.names]
        if missing:
            raise KeyError(f"no arrays {missing}, only {file.names}")
        return {ours: file[name] for ours, name in arrays.items()}


def member(folder: Path, name: str) -> Path:
    """Finds a file in an extracted archive, whatever folders are around it.

    Args:
        folder: The extracted archive.
        name: The name of the file, without folders.

    Raises:
        FileNotFoundError: If there is none.
    """
    # what macOS adds to archives has the same names
    found = [path for path in sorted(folder.rglob(name)) if "__MACOSX" not in path.parts]
    if not found:
        raise FileNotFoundError(f"there is no '{name}' in {folder}")
    return found[0]


def indices(path: Path) -> Array:
    """Reads a list of frames, one per line.

    Raises:
        OSError: If there is something else in it.
    """
    try:
        return np.asarray([int(line) for line in path.read_text().split()], np.int64)
    except ValueError as error:
        raise OSError(f"{path.name} is no list of frames ({error})") from error


def _download(name: str, source: Source, key: str, dl_manager: Any) -> Path:
    """Downloads a file by TFDS, which keeps it for the next time.

    Raises:
        ValueError: If there is no address or no network, with what to place where instead.
    """
    problem = "no address of it is known"
    if source.url is not None:
        try:
            return Path(dl_manager.download(source.url))
        except Exception as error:  # whatever a network, a proxy or a disk may do
            problem = f"the download failed ({type(error).__name__}: {error})"
            cause: Exception | None = error
    else:
        cause = None
    raise ValueError(
        f"The file '{key}' of '{name}' is not in the folder for files placed by hand, and "
        f"{problem}. " + _remedy(source, key)
    ) from cause


def _remedy(source: Source, key: str) -> str:
    """Tells where to get a file, what is in it, and where to place it."""
    where = f"Get it from {source.url}" if source.url else "Get it"
    content = f" ({source.layout})" if source.layout else ""
    return (
        f"{where}{content} and place it as '{key}' into manual_dir, by default downloads/manual in "
        "the folder of TensorFlow Datasets."
    )


def _verify(name: str, source: Source, key: str, path: Path) -> None:
    """Compares size and checksum of a file with those published.

    Raises:
        ValueError: If they differ, with both.
    """
    problem = None
    if path.is_file():
        size = path.stat().st_size
        if source.size is not None and size != source.size:
            problem = f"has {size:,} bytes instead of {source.size:,}"
        elif source.checksum is not None:
            found = _digest(path, {32: "md5", 64: "sha256"}[len(source.checksum)])
            if found != source.checksum:
                problem = f"has the checksum {found} instead of {source.checksum}"
    if problem is not None:
        raise ValueError(
            f"The file '{key}' of '{name}' is not the published one: {path} {problem}. "
            "Delete it. " + _remedy(source, key)
        )


def _digest(path: Path, algorithm: str) -> str:
    """Computes the checksum of a file that may be larger than the memory."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _Room:
    """How many bytes an archive may hold: what the disk has, and what data can be packed to."""

    def __init__(self, path: Path, free: int) -> None:
        size = path.stat().st_size
        self._left = min(free, max(_SMALL, _LARGEST_PACKING * size))
        self._message = (
            f"{path.name} of {size:,} bytes would unpack to more than {self._left:,} bytes; the "
            f"disk has {free:,}"
        )

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise OSError(self._message)


def _extract(path: Path, key: str, folder: Path) -> Path:
    """Extracts an archive or a compressed file once; other files stay where they are.

    The folder is named by size and time of the archive, so that a changed one is extracted again.
    """
    suffix = next((end for end in (*_ARCHIVES, *COMPRESSED) if key.endswith(end)), None)
    if path.is_dir() or suffix is None:
        return path
    state = path.stat()
    label = f"{key.replace('/', '_')}-{state.st_size}-{state.st_mtime_ns}"
    target = folder / label / Path(key).name.removesuffix(suffix)
    if target.exists():
        return target
    # a name of its own, so that a kill or a second process leaves nothing half done
    unfinished = folder / f"{label}.{uuid.uuid4().hex}"
    unfinished.mkdir(parents=True)
    room = _Room(path, shutil.disk_usage(unfinished).free)
    try:
        inside = unfinished / target.name
        if suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                room.take(sum(entry.file_size for entry in archive.infolist()))
                archive.extractall(inside)
        elif suffix in _ARCHIVES:
            with tarfile.open(path) as archive:
                for entry in archive:
                    room.take(entry.size)
                    archive.extract(entry, inside, filter="data")
        else:
            with COMPRESSED[suffix](path) as stream, inside.open("wb") as copy:
                while chunk := stream.read(_CHUNK):
                    room.take(len(chunk))
                    copy.write(chunk)
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            inside.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target
