"""Named arrays in files: safetensors that tell their own damage, and how many bytes of arrays a
folder of Orbax can be expected to hold, and whether it can be read at all."""

import errno
import math
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kd_jax.errors import UsageError, of_disk, reason
from kd_jax.halves import beside

CHECK = "checksum"  # among the words of a file, which safetensors calls its metadata
# Bytes of arrays that are always fine, and so many for each byte of their files. Zeros take next to
# nothing there; where one weight in a thousand is kept, an array has some 800 times their bytes.
FEW, EACH = 1 << 24, 1 << 12
PARTS = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # of what lacks its parts
AT_ONCE = 1 << 20  # bytes that are read


def write(path: Path, arrays: Mapping[str, np.ndarray], words: Mapping[str, str] = {}) -> None:
    """Writes a whole file or nothing of it. Raises OSError where a disk is in the way."""
    found = {name: np.asarray(x, order="C") for name, x in arrays.items()}
    partial = beside(path)
    try:
        save_file(found, partial, {**words, CHECK: _checksum(found)})
        os.replace(partial, path)
    except SafetensorError as error:  # of which a number alone tells what the disk said
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    finally:
        with suppress(OSError):  # where it failed, what is there of it goes
            partial.unlink(missing_ok=True)


def read(path: Path, fix: str) -> dict[str, np.ndarray]:
    """The arrays of a file that `write` wrote; or of an older file, unchecked.

    Args:
      fix: what is to be done about a damaged file.

    Raises:
      UsageError: it is missing or damaged.
    """
    try:
        with safe_open(path, "numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            words = file.metadata() or {}
        # What has no checksum has no word but its format: another one is a damaged checksum's name.
        checked = words.get(CHECK) == _checksum(found)
        if not checked and words.keys() - {"format"}:
            raise ValueError("other numbers than were saved")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise UsageError(f"{path}: damaged ({reason(error)}): {fix}") from error
    return found


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Of names, types, shapes and all numbers."""
    found = 0
    for name in sorted(arrays):
        x = arrays[name]
        found = crc(x, zlib.crc32(repr((name, x.dtype.str, x.shape)).encode(), found))
    return f"{found:08x}"


def crc(x: np.ndarray, before: int) -> int:
    """The CRC-32 of an array's numbers, after what that of `before` is of."""
    return zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data, before)


def check_sizes(saved: Any, folder: Path, memory: int | None = None) -> None:
    """Asks, before any memory is taken for it, whether a folder's files can hold what its metadata
    tell of: the shapes are only words, and the folder may be somebody else's.

    Args:
      saved: a tree of what Orbax says of arrays.
      memory: bytes that there are for them; None: unknown.

    Raises:
      ValueError: they can't.
      MemoryError: they might, but nothing here could.
    """
    arrays, chunks = 0, 0
    for leaf in jax.tree.leaves(saved):
        size, storage = np.dtype(leaf.dtype).itemsize, getattr(leaf, "storage", None)
        arrays += math.prod(leaf.shape) * size
        # A chunk is decoded whole, however little of it lies in the array.
        chunks = max(chunks, math.prod(getattr(storage, "chunk_shape", None) or ()) * size)
    needed = max(arrays, chunks)
    files = _stored(folder) if needed > FEW else 0
    if needed > max(FEW, EACH * files):
        raise ValueError(f"arrays of {needed:,} bytes in files of {files:,}")
    if memory is not None and needed > memory:
        raise MemoryError(f"{folder}: {needed:,} bytes of arrays, and {memory:,} of memory")


def _stored(folder: Path) -> int:
    """Bytes of a folder's files, as far as they are really there: a file of many holes is as long
    as one likes, and takes no disk. Nor counts what a link leads to."""
    found = [(path, path.lstat()) for path in folder.rglob("*")]
    return sum(_written(path, one.st_size) for path, one in found if stat.S_ISREG(one.st_mode))


def _written(path: Path, size: int) -> int:
    with path.open("rb", 0) as file:
        return sum(end - begin for begin, end in _parts(file.fileno(), size))


def _parts(file: int, size: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of what of an open file is no hole; of all where that can't be told. Not by its
    blocks: some file systems count these seconds after they were written, and some never."""
    end = 0
    while end < size:
        begin, end = end, size
        if hasattr(os, "SEEK_DATA"):  # not on Windows
            try:
                begin = os.lseek(file, begin, os.SEEK_DATA)
                end = os.lseek(file, begin, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # it ends in a hole
                    return
        yield begin, end


def machine_memory() -> int | None:
    """Bytes of memory that the machine has. None: unknown."""
    if not hasattr(os, "sysconf"):  # Windows has none
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_readable(folder: Path, error: BaseException, fix: str) -> None:
    """Returns where the files of a folder, which Orbax could not read, can be read: it is damaged.

    Args:
      error: what Orbax raised.
      fix: what may be done but to make it possible.

    Raises:
      UsageError: a disk, rights or the machine are in the way, and the files may be whole.
    """
    disk = _in_the_way(error)
    if disk is None or not disk.filename:
        disk = _unread(folder) or disk
    if disk is not None:
        raise UsageError(
            f"{disk.filename or folder}: can't be read ({disk.strerror or disk}): make that "
            f"possible, or {fix}"
        ) from error


def _in_the_way(error: BaseException | None) -> OSError | None:
    """Of an error, and of those that it came of, the first one that is no damage."""
    while error is not None:
        disk = of_disk(error)
        if disk is not None and not isinstance(disk, PARTS):
            return disk
        error = error.__cause__ or error.__context__
    return None


def _unread(folder: Path) -> OSError | None:
    """Why a file can't be read: of what may not be looked into, Orbax says that it isn't there."""
    path = folder
    try:
        for place, _, names in os.walk(folder, onerror=_raised):
            for path in (Path(place, name) for name in names):
                if path.is_file():
                    with path.open("rb", 0) as file:
                        _read_through(file)
    except PARTS:
        return None
    except OSError as error:
        error.filename = error.filename or str(path)  # where it could be opened there is none
        return error
    return None


def _read_through(file: FileIO) -> None:
    """All that is there of a file: its holes can be read, and may have no end."""
    file.read(AT_ONCE)  # some say that they are empty, and can't be read
    for begin, end in _parts(file.fileno(), os.fstat(file.fileno()).st_size):
        file.seek(begin)
        while file.tell() < end and file.read(min(AT_ONCE, end - file.tell())):
            pass


def _raised(error: OSError) -> None:
    raise error
