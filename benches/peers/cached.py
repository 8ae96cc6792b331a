"""What of a file is in the page cache, asked of the kernel; and dropping it."""

import ctypes
import mmap
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]


def pages(path: Path) -> tuple[int, int]:
    """How many pages of the file are in the page cache, and how many it has.

    Mapping it reads nothing. Of a file that is not this user's the kernel does not tell (it says all are).
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return 0, 0
        at = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        if at in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "cannot be mapped", str(path))
        try:
            found = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
            if _libc.mincore(at, size, found) != 0:
                raise OSError(ctypes.get_errno(), "the kernel does not tell what is in the page cache", str(path))
            # Only the lowest bit says something.
            return sum(bytes(found).translate(bytes(i & 1 for i in range(256)))), len(found)
        finally:
            _libc.munmap(at, size)


def share(path: Path) -> float:
    """What part of the file is in the page cache: 0.0 is cold, 1.0 warm."""
    here, of = pages(path)
    return here / of if of else 1.0


def warm(path: Path) -> None:
    """Reads all of the file, unless it is there already."""
    if share(path) < 1.0:
        with open(path, "rb", buffering=0) as file:
            while file.read(16 << 20):
                pass


def drop(path: Path) -> None:
    """Makes the file leave the page cache. What another process maps or has not yet written stays: look at `share`."""
    with open(path, "rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
