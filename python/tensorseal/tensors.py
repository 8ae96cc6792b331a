"""Tensors where they are: what memory they are, and digests of that memory, without a copy.

A tensor is any object with DLPack (`__dlpack__`), `__cuda_array_interface__` or the buffer protocol: of torch, NumPy, CuPy, JAX,
Numba; `bytes`, `bytearray`, `memoryview`, `mmap`. It is read where it lies, in host memory or that of a CUDA device, while
other threads of Python go on; nobody may write to it meanwhile. A digest says what was there when it was read.

Strides are followed, as long as elements neither overlap nor run backwards. What cannot be read in place is refused
with `UsageError`, which names the tensor and says what to pass instead. Nothing is copied in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from . import _native
from ._lend import lend

Stream: TypeAlias = Any
"""A CUDA stream: a number (0 and 1 the legacy default stream, 2 the thread's own, -1 for nothing to wait for, else a handle
such as `torch.cuda.Stream.cuda_stream`), or a stream of torch, CuPy or anything with `__cuda_stream__`."""


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what it says it is."""

    device: str
    """`"cpu"` or `"cuda:N"`."""
    address: int
    """Of its first element."""
    nbytes: int
    """Bytes of all its elements, without what lies between them."""
    dtype: str | None
    """The type as safetensors spells it (`"BF16"`, `"F8_E4M3"`, `"F4"`); `None` if safetensors has none of the kind."""
    shape: tuple[int, ...]
    """Sizes, the slowest dimension first, in elements of `dtype`: of `"F4"`, of which two are a byte, that is twice
    torch's last size."""
    strides: tuple[int, ...]
    """Elements from one index to the next along each dimension."""


def info(tensor: object, *, name: str | None = None) -> TensorInfo:
    """Says where `tensor` lies. Nothing is read, and no device is opened for host memory.

    Raises `UsageError` for an object whose memory cannot be read in place; `name` is what it is called there.
    """
    lent = lend(tensor, name=name)
    return TensorInfo(lent.device, lent.address, lent.nbytes, lent.dtype, lent.shape, lent.strides)


def digest(tensor: object, *, stream: Stream | None = None, name: str | None = None) -> str:
    """The BLAKE3 digest, 64 hexadecimal digits, of the bytes of `tensor` in C order, little-endian: those that its part of a
    safetensors file has.

    On a CUDA device it is taken behind the work in `stream`. Without one that is what the tensor's own library
    says: torch's current stream of the tensor's device, for others what DLPack and `__cuda_array_interface__` order.

    Raises `UsageError` for memory that cannot be read in place, `NoAnswerError` if its device is missing or fails.
    """
    return _native.digests([lend(tensor, name=name, stream=stream)])[0]


def digests(tensors: Iterable[object], *, stream: Stream | None = None) -> list[str]:
    """The digests of many tensors, in order, as `digest` gives them: one submit for each device and stream, which is faster than
    one after the other. Errors call a tensor by its place: `#0` is the first.

    Raises what `digest` raises; there is no digest then, of any tensor.
    """
    return _native.digests([lend(tensor, name=f"#{index}", stream=stream) for index, tensor in enumerate(tensors)])


def digest_parts(parts: Sequence[object], *, stream: Stream | None = None) -> str:
    """The BLAKE3 digest of the bytes of all `parts`, one after the other: of bytes and of tensors, wherever each lies. A header and
    the tensors of a file have the digest of the file, though it is written nowhere.

    Raises what `digest` raises, and `UsageError` for no parts.
    """
    return _native.digest_parts([lend(part, name=f"#{index}", stream=stream) for index, part in enumerate(parts)])
