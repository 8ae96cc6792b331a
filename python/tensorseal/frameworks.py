"""Tensors of frameworks on memory that was loaded: torch and NumPy, without a copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from . import _native
from .errors import UsageError

_TORCH = ("pt", "torch", "pytorch")
_NUMPY = ("np", "numpy")

# How torch spells the types of safetensors; NumPy with ml_dtypes does so, too, where it has them.
_TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}
# Several elements in one of torch's: the last dimension counts those.
_PACKED = {"F4": 2}

#: Makes a tensor of a framework of one of ours.
Make: TypeAlias = Callable[["_native.Tensor"], Any]


def maker(framework: str) -> Make:
    """What makes a tensor of this framework, by the names that safetensors has for it. No framework is imported here."""
    if framework in _TORCH:
        return _torch
    if framework in _NUMPY:
        return _numpy
    raise open_error(f"framework {framework} is invalid: there are 'pt' (torch) and 'np' (NumPy)")


def _torch(tensor: _native.Tensor) -> Any:
    """A tensor of torch on that memory, with a storage of its own."""
    import torch

    dtype = getattr(torch, _TYPES.get(tensor.dtype, ""), None)
    if dtype is None:
        raise open_error(f"{tensor.name!r} has elements of type {tensor.dtype}, which this torch does not have")
    shape = list(tensor.shape)
    if tensor.dtype in _PACKED:
        count = _PACKED[tensor.dtype]
        if not shape or shape[-1] % count:
            raise open_error(f"{tensor.name!r} has no even number of {tensor.dtype} in a row, and torch packs {count}")
        shape[-1] //= count
    return torch.from_dlpack(tensor.as_bytes()).view(dtype).reshape(shape)


def _numpy(tensor: _native.Tensor) -> Any:
    """An array of NumPy on that memory."""
    import numpy

    if tensor.device != "cpu":
        raise UsageError(f"{tensor.name!r} is on {tensor.device}, and NumPy has memory of the host only")
    name = "" if tensor.dtype in _PACKED else _TYPES.get(tensor.dtype, "")
    try:
        dtype = numpy.dtype(getattr(numpy, "bool_") if name == "bool" else name or "unknown")
    except TypeError:
        dtype = _ml_dtype(tensor, name)
    return numpy.asarray(tensor.as_bytes()).view(dtype).reshape(tensor.shape)


def _ml_dtype(tensor: _native.Tensor, name: str) -> Any:
    """A type that NumPy has from the package ml_dtypes, if that is there."""
    import numpy

    try:
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, name))
    except (ImportError, AttributeError):
        reason = f"{tensor.name!r} has elements of type {tensor.dtype}, which NumPy does not have"
        raise _type_error(f"{reason}; the package ml_dtypes has some, torch has most") from None


@cache
def _errors() -> tuple[type[UsageError], type[UsageError]]:
    """Usage errors that callers of safetensors know under the names of theirs."""
    try:
        from safetensors import SafetensorError
    except ImportError:
        return UsageError, type("DtypeError", (UsageError, TypeError), {})
    return type("OpenError", (UsageError, SafetensorError), {}), type("DtypeError", (UsageError, TypeError), {})


def open_error(message: str) -> UsageError:
    """A usage error that callers of safetensors know as a `SafetensorError`, where that is installed."""
    return _errors()[0](message)


def _type_error(message: str) -> UsageError:
    return _errors()[1](message)
