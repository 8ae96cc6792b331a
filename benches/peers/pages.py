"""What of a file lies in the page cache, and how to get it in or out."""

import ctypes
import mmap
import os
from pathlib import Path

from cases import MIB, Missing

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_FAILED = ctypes.c_void_p(-1).value


def files_in(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [Path(folder) / name for folder, _, names in os.walk(path) for name in names]


def resident(path: Path) -> float:
    """The share of a file's pages that are in memory."""
    size = path.stat().st_size
    if size == 0:
        return 1.0
    with path.open("rb") as file:
        # Python's own map does not tell its address while it cannot be written to.
        at = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        if at == _FAILED:
            raise OSError(ctypes.get_errno(), f"{path} cannot be mapped")
        pages = -(-size // mmap.PAGESIZE)
        found = ctypes.create_string_buffer(pages)
        failed = _libc.mincore(at, size, found)
        _libc.munmap(at, size)
    if failed:
        raise OSError(ctypes.get_errno(), f"mincore of {path}")
    return 1 - found.raw[:pages].count(0) / pages


def warm(path: Path) -> None:
    """Has all of it in the page cache. Large files are asked first: reading them takes longer than looking."""
    for file in files_in(path):
        if file.stat().st_size > 64 * MIB and resident(file) == 1:
            continue
        with file.open("rb", buffering=0) as stream:
            while stream.read(4 * MIB):
                pass


def evict(path: Path) -> None:
    """Has none of it there. Some file systems keep what they are told to drop: then nothing cold can be measured."""
    for file in files_in(path):
        with file.open("rb") as stream:
            os.fdatasync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = resident(file)
        if left > 0.01:
            raise Missing(f"{left:.0%} of {file.name} stays in the page cache", "name a folder on a disk with --work")
