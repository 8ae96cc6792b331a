"""What of a file lies in the page cache, and how to get it in or out."""

import ctypes
import mmap
import os
import re
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


def residence(path: Path) -> bytes:
    """For each page of a file a byte, which is zero where the page is not in memory."""
    size = path.stat().st_size
    if size == 0:
        return b""
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
    return found.raw[:pages]


def resident(path: Path) -> float:
    """The share of a file's pages that are in memory."""
    found = residence(path)
    return 1 - found.count(0) / len(found) if found else 1.0


def warm(path: Path) -> None:
    """Has all of it in the page cache. Of large files only what is missing is read: most was read by the program before.

    What is read once goes first when memory is short, so that it is looked at again.
    """
    for file in files_in(path):
        with file.open("rb", buffering=0) as stream:
            if file.stat().st_size < 16 * MIB:
                stream.read()
                continue
            gaps = (gap for _ in range(3) for gap in re.finditer(rb"\0+", residence(file)))
            for gap in gaps:
                at, end = gap.start() * mmap.PAGESIZE, gap.end() * mmap.PAGESIZE
                while at < end:
                    at += len(os.pread(stream.fileno(), min(4 * MIB, end - at), at)) or end


def evict(path: Path) -> None:
    """Has none of it there. Some file systems keep what they are told to drop: then nothing cold can be measured."""
    for file in files_in(path):
        with file.open("rb") as stream:
            os.fdatasync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = resident(file)
        if left > 0.01:
            raise Missing(f"{left:.0%} of {file.name} stays in the page cache", "name a folder on a disk with --work")
