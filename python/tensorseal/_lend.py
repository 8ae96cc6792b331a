"""From an object to its memory. Of torch and NumPy more is known than their protocols tell: types that these have no
code for, and tensors that are not what their memory is. Both are looked at only if somebody has imported them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from . import _native
from .errors import UsageError

if TYPE_CHECKING:
    import numpy
    import torch

_TORCH_TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "float4_e2m1fn_x2": "F4",
}
# What NumPy calls the types of ml_dtypes that lie in memory as they do in files: those of less than a byte do not.
_NUMPY_TYPES = {name: dtype for name, dtype in _TORCH_TYPES.items() if dtype != "F4"}


def lend(tensor: object, *, name: str | None = None, stream: Any = None) -> _native.Lent:
    """The memory of `tensor`, kept for as long as the result is. `name` is what errors call it."""
    if isinstance(tensor, _native.Lent):
        return tensor
    if name is None:
        name = "#0"
    if not isinstance(name, str):
        raise UsageError(f"a tensor's name is a string, not {name!r}")
    lent = _lent(tensor, name, _handle(stream, name))
    # A driver that is given a stream of another device fails, and nothing more is asked of the device then.
    index = getattr(getattr(stream, "device", None), "index", getattr(stream, "device_id", None))
    # CuPy's default streams are of any device: -1.
    if isinstance(index, int) and index >= 0 and lent.device.startswith("cuda:") and lent.device != f"cuda:{index}":
        raise _refused(name, f"it is on {lent.device}, and the stream is one of cuda:{index}: give one of its own device")
    return lent


def _lent(tensor: object, name: str, handle: int | None) -> _native.Lent:
    torch = sys.modules.get("torch")
    # Half imported, it has no tensors yet.
    kind = getattr(torch, "Tensor", None)
    if kind is not None and isinstance(tensor, kind):
        return _of_torch(tensor, name, handle)
    kind = getattr(sys.modules.get("numpy"), "ndarray", None)
    if kind is not None and isinstance(tensor, kind):
        return _of_numpy(tensor, name)
    return _native.lend(tensor, name=name, stream=handle)


def _handle(stream: Any, name: str) -> int | None:
    """The number of a stream, as DLPack has it."""
    if stream is None:
        return None
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__()
        # (version, handle)
        handle = protocol[1]
    else:
        # Of torch, and of CuPy.
        handle = getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
    if isinstance(handle, bool) or not isinstance(handle, int) or not -1 <= handle < 1 << 63:
        raise _refused(name, f"{stream!r} is no CUDA stream: give a number or a stream of torch or CuPy")
    return handle


def _refused(name: str, why: str) -> UsageError:
    # Names come from files: quoted, they cannot forge a line.
    return UsageError(f"tensor {json.dumps(name)}: {why}")


def _of_torch(tensor: torch.Tensor, name: str, stream: int | None) -> _native.Lent:
    import torch

    def refused(why: str) -> UsageError:
        return _refused(name, why)

    kind = type(tensor)
    # Such a class computes with other tensors, and has no memory of its own.
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        if kind.__name__ == "DTensor":
            raise refused("it is a DTensor, of which this process has a part: pass .to_local(), or use tensorseal.distributed")
        raise refused(f"it is a {kind.__module__}.{kind.__qualname__}, made of other tensors: pass those")
    # Nor does what a class makes of attributes count, but what they are.
    with torch._C.DisableTorchFunctionSubclass():
        if tensor.is_nested:
            raise refused("it is a nested tensor: pass those that .unbind() gives")
        if tensor.layout is not torch.strided:
            raise refused(f"it is sparse ({tensor.layout}): pass its parts (.indices() and .values() of COO), or .to_dense()")
        if torch.nn.parameter.is_lazy(tensor):
            raise refused("it is not initialized yet and has no bytes: run the model once, or load it")
        if tensor.device.type == "meta":
            raise refused("it is on the meta device and has no bytes: load it first")
        if tensor.device.type not in ("cpu", "cuda"):
            raise refused(f"it is on {tensor.device}; memory of the host and of CUDA devices is read: pass .cpu()")
        if tensor.device.type == "cuda" and torch.version.hip is not None:
            raise refused(f"it is on {tensor.device} of ROCm; memory of the host and of CUDA devices is read: pass .cpu()")
        try:
            # An alias: who gives the tensor other memory meanwhile does not take this away. It needs no gradient either.
            alias = torch.Tensor.detach(tensor)
            address, stored = alias.data_ptr(), alias.untyped_storage().nbytes()
        except (RuntimeError, NotImplementedError) as error:
            raise refused(f"torch gives no memory of it: {error}") from error
    # An alias is torch's own, whatever the class of the tensor was and says of itself.
    if alias.is_quantized:
        raise refused("it is quantized: pass .int_repr(), and its scales as tensors of their own")
    if alias.is_conj():
        raise refused("it is conjugated only when it is read, so its bytes are not its values: pass .resolve_conj()")
    if alias.is_neg():
        raise refused("it is negated only when it is read, so its bytes are not its values: pass .resolve_neg()")
    shape, strides, item = tuple(alias.shape), alias.stride(), alias.element_size()
    # Where its end would lie in what torch has stored: less, if that was given back, as FSDP does, and no address tells.
    end = alias.storage_offset() + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if alias.numel() > 0 and (address == 0 or end * item > stored):
        raise refused("torch gives no memory of it: what it had was given back")
    dtype, device = str(alias.dtype).removeprefix("torch."), "cpu"
    if alias.device.type == "cuda":
        device = f"cuda:{alias.device.index}"
        if stream is None:
            stream = torch.cuda.current_stream(alias.device).cuda_stream
    return _native.lend_at(
        alias,
        name=name,
        device=device,
        address=address,
        dtype=_TORCH_TYPES.get(dtype),
        type_name=dtype,
        item=item,
        per=2 if dtype == "float4_e2m1fn_x2" else 1,
        shape=shape,
        strides=[stride * item for stride in strides],
        stream=stream,
    )


def _of_numpy(array: numpy.ndarray[Any, Any], name: str) -> _native.Lent:
    import numpy

    def refused(why: str) -> UsageError:
        return _refused(name, why)

    if isinstance(array, numpy.ma.MaskedArray):
        raise refused("it has a mask, of which its bytes say nothing: pass .data, or .filled()")
    # What it is, and not what its class says.
    plain: "numpy.ndarray[Any, Any]" = numpy.ndarray.view(array, numpy.ndarray)
    dtype = plain.dtype
    known = _NUMPY_TYPES.get(dtype.name)
    if known is None and dtype.kind not in "biufcV" or dtype.hasobject or dtype.names or dtype.subdtype:
        raise refused(f"its elements are of type {dtype}, which no file of tensors has")
    if dtype.itemsize == 0:
        raise refused(f"its elements of type {dtype} have no bytes")
    little = dtype.newbyteorder("<")
    # What has no order is the same in any.
    if dtype.itemsize > 1 and dtype != little:
        # Types that came to NumPy later have no letters of their own.
        own = repr(little.str) if dtype.kind in "iufc" else "a.dtype.newbyteorder('<')"
        raise refused(f"its elements are big-endian, and files of tensors are little-endian: pass .astype({own})")
    return _native.lend_at(
        plain,
        name=name,
        device="cpu",
        address=plain.__array_interface__["data"][0],
        dtype=known,
        type_name=dtype.name,
        item=dtype.itemsize,
        per=1,
        shape=plain.shape,
        strides=plain.strides,
        stream=None,
    )
