"""The bytes of tensors in memory of the host, some at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from ._safetensors import Tensor

#: Bytes that are copied from a device, or out of strides, at a time.
BLOCK = 32 << 20


def blocks(tensor: Tensor) -> Iterator[Any]:
    """The bytes of a tensor in C order, as arrays of bytes of the host that can be written: where they lie, if they lie
    on the host in order, else copies of at most some `BLOCK` bytes. A block is of use until the next one is asked for.

    Raises `UsageError` for a tensor that is neither torch's nor NumPy's nor on the host in one piece.
    """
    if tensor.nbytes == 0:
        return
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(tensor.tensor, torch.Tensor):
        yield from _of_torch(tensor.tensor)
    elif numpy is not None and isinstance(tensor.tensor, numpy.ndarray):
        yield from _of_numpy(tensor.tensor)
    elif tensor.lent.device == "cpu":
        yield tensor.lent
    else:
        raise UsageError(
            f"tensor {tensor.name!r}: it is on {tensor.lent.device}, and a {type(tensor.tensor).__name__}: pass torch.from_dlpack(..) of it"
        )


def dense(tensor: Any) -> Any:
    """The same tensor, or a copy in C order beside it, if elements of its last dimension do not follow each other: tiles
    are made of rows."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(tensor, torch.Tensor):
        return tensor if tensor.dim() == 0 or _rows(tensor.stride()) else tensor.detach().contiguous()
    if numpy is not None and isinstance(tensor, numpy.ndarray):
        steps = tuple(stride // tensor.itemsize for stride in tensor.strides)
        return tensor if not steps or _rows(steps) else numpy.ascontiguousarray(tensor)
    return tensor


def _rows(strides: tuple[int, ...]) -> bool:
    return strides[-1] == 1 and all(stride > 0 for stride in strides)


def _of_torch(tensor: Any) -> Iterator[Any]:
    import torch

    alias = torch.Tensor.detach(tensor)
    if alias.device.type == "cpu":
        for piece in _pieces(alias, alias.is_contiguous(), alias.numel() * alias.element_size()):
            yield piece.contiguous().reshape(-1).view(torch.uint8)
        return
    # Pinned, or the copy would go through such a block of the driver's.
    host = torch.empty(BLOCK, dtype=torch.uint8, pin_memory=True)
    for piece in _pieces(alias, alias.is_contiguous(), alias.numel() * alias.element_size()):
        flat = piece.contiguous().reshape(-1).view(torch.uint8)
        for at in range(0, flat.numel(), BLOCK):
            part = flat[at : at + BLOCK]
            host[: part.numel()].copy_(part)
            yield host[: part.numel()]


def _of_numpy(array: Any) -> Iterator[Any]:
    import numpy

    for piece in _pieces(array, array.flags.c_contiguous, array.nbytes):
        yield numpy.ascontiguousarray(piece).reshape(-1).view(numpy.uint8)


def _pieces(tensor: Any, contiguous: bool, nbytes: int) -> Iterator[Any]:
    """Parts of a tensor, one after the other in C order: itself if it is in that order, else of at most `BLOCK` bytes, as
    far as rows are no longer."""
    if contiguous or nbytes <= BLOCK or not tensor.shape or tensor.shape[0] == 0:
        yield tensor
        return
    rows = tensor.shape[0]
    each = nbytes // rows
    step = max(1, BLOCK // max(1, each))
    for at in range(0, rows, step):
        part = tensor[at : at + step]
        if step == 1 and each > BLOCK:
            yield from _pieces(part[0], False, each)
        else:
            yield part
