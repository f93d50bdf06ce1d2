"""Files of the original publications: found in a folder, downloaded, checked, extracted."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
import lzma
import pickle
import shutil
import sqlite3
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from keras_mlff.graph import Array

_ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".tgz", ".zip")
_COMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".xz": lzma.open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
}
_CHUNK = 2**20  # bytes
# what the standard library raises on files that are cut off or changed
DAMAGE = (
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
        for suffix in (*_ARCHIVES, *_COMPRESSED):
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


def load_npz(path: Path, arrays: Mapping[str, str]) -> dict[str, Array]:
    """Reads arrays of an npz file under names of ours.

    Args:
        path: Name of the file.
        arrays: Our names, and for each the name in the file.

    Raises:
        KeyError: If an array is missing.
        OSError: If it is no npz file.
    """
    with path.open("rb") as stream:
        try:
            file = np.load(stream)
            known = sorted(file.files)
            missing = [name for name in arrays.values() if name not in known]
            if not missing:
                return {ours: file[name] for ours, name in arrays.items()}
        except (AttributeError, ValueError, pickle.UnpicklingError) as error:
            raise OSError(f"not an npz file ({error})") from error
    raise KeyError(f"no arrays {missing}, only {known}")


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


def labels_of(atoms: Any, labels: Sequence[str], frame: int) -> dict[str, Any]:
    """Takes labels from the results of a calculator, as ASE reads them from a file.

    Args:
        atoms: `ase.Atoms`.
        labels: The labels to take.
        frame: The number of the frame, for messages.

    Raises:
        KeyError: If one is missing.
    """
    results = {} if atoms.calc is None else atoms.calc.results
    missing = [label for label in labels if label not in results]
    if missing:
        raise KeyError(f"no {missing} in frame {frame}, only {sorted(results)}")
    return {label: results[label] for label in labels}


def images(file: Path | TextIO) -> Iterator[Any]:
    """Reads the `ase.Atoms` of an extended XYZ file, or of an open one, one by one.

    Raises:
        OSError: If the file cannot be read as such, with the frame at which it stopped.
        ImportError: If ASE is not installed.
    """
    try:
        import ase.io
    except ImportError as error:
        raise ImportError(
            "The files of this data set are read by ASE, which is not installed. Install it with "
            "`pip install keras-mlff[md]`."
        ) from error
    opened = str(file) if isinstance(file, Path) else file
    frames = ase.io.iread(opened, index=":", format="extxyz")
    for index in itertools.count():
        try:
            atoms = next(frames)
        except StopIteration:
            return
        except OSError:
            raise
        except Exception as error:  # ASE's errors are of many types
            raise OSError(
                f"frame {index} is not extended XYZ ({type(error).__name__}: {error})"
            ) from error
        yield atoms


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


def _extract(path: Path, key: str, folder: Path) -> Path:
    """Extracts an archive or a compressed file once; other files stay where they are.

    The folder is named by size and time of the archive, so that a changed one is extracted again.
    """
    suffix = next((end for end in (*_ARCHIVES, *_COMPRESSED) if key.endswith(end)), None)
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
    try:
        inside = unfinished / target.name
        if suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(inside)
        elif suffix in _ARCHIVES:
            with tarfile.open(path) as archive:
                archive.extractall(inside, filter="data")
        else:
            with _COMPRESSED[suffix](path) as stream, inside.open("wb") as copy:
                shutil.copyfileobj(stream, copy, _CHUNK)
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            inside.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target
