"""What a rank holds of which tensor: boxes of elements, from DTensors, plain tensors and whatever a mesh makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..errors import UsageError

Box = tuple[tuple[int, int], ...]
"""A range of elements along each dimension, (first, behind the last). A scalar has the box ()."""

# safetensors' name of each of torch's types, and the bits of an element.
_DTYPES = {
    "bool": ("BOOL", 8),
    "uint8": ("U8", 8),
    "int8": ("I8", 8),
    "float8_e5m2": ("F8_E5M2", 8),
    "float8_e4m3fn": ("F8_E4M3", 8),
    "float8_e8m0fnu": ("F8_E8M0", 8),
    "float8_e4m3fnuz": ("F8_E4M3FNUZ", 8),
    "float8_e5m2fnuz": ("F8_E5M2FNUZ", 8),
    "int16": ("I16", 16),
    "uint16": ("U16", 16),
    "float16": ("F16", 16),
    "bfloat16": ("BF16", 16),
    "int32": ("I32", 32),
    "uint32": ("U32", 32),
    "float32": ("F32", 32),
    "int64": ("I64", 64),
    "uint64": ("U64", 64),
    "float64": ("F64", 64),
    "complex64": ("C64", 64),
}

_BYTES = {name: bits // 8 for name, bits in _DTYPES.values()}


def element_bytes(dtype: str) -> int:
    """Bytes of an element, by safetensors' name of its type."""
    return _BYTES[dtype]


def volume(box: Box) -> int:
    """Elements in a box."""
    count = 1
    for first, end in box:
        count *= end - first
    return count


def whole(shape: tuple[int, ...]) -> Box:
    """All elements of a tensor of this shape."""
    return tuple((0, size) for size in shape)


def common(a: Box, b: Box) -> Box | None:
    """What two boxes share, if that is anything."""
    shared = tuple((max(p[0], q[0]), min(p[1], q[1])) for p, q in zip(a, b))
    return shared if all(first < end for first, end in shared) else None


def without(box: Box, taken: Box) -> list[Box]:
    """`box` less `taken`, as boxes that share nothing."""
    shared = common(box, taken)
    if shared is None:
        return [box]
    left, rest = [], list(box)
    for dimension, (first, end) in enumerate(shared):
        for part in ((rest[dimension][0], first), (end, rest[dimension][1])):
            if part[0] < part[1]:
                left.append((*rest[:dimension], part, *rest[dimension + 1 :]))
        rest[dimension] = (first, end)
    return left


@dataclass(frozen=True)
class Held:
    """What this rank holds of one tensor."""

    dtype: str
    """As safetensors spells it."""
    shape: tuple[int, ...]
    """Of the whole tensor."""
    mesh: tuple[int, ...] | None
    """The global ranks among which it is spread; `None` for a plain tensor, which is whole wherever it is."""
    pieces: tuple[tuple[Box, Any], ...]
    """Each box that is held here, and its elements."""

    def part(self, box: Box) -> Any:
        """The elements of a box that lies in one of the pieces, where they lie."""
        for held, tensor in self.pieces:
            if all(a[0] <= b[0] and b[1] <= a[1] for a, b in zip(held, box)):
                return tensor[tuple(slice(b[0] - a[0], b[1] - a[0]) for a, b in zip(held, box))]
        raise KeyError(box)


def held_here(state_dict: Mapping[str, Any]) -> dict[str, Held]:
    """What this rank holds of each tensor of a flat state dict.

    Raises `UsageError` for what is no tensor, is partial, or has a type or layout that safetensors has no name for.
    """
    import torch

    held: dict[str, Held] = {}
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise UsageError(
                f"{name!r} is {type(value).__name__}: only named tensors can be signed. Flatten the state dict, and leave out "
                "what is no tensor (torch.distributed.checkpoint.state_dict.get_model_state_dict gives such a one)"
            )
        held[name] = _held(name, value.detach())
    return held


def _held(name: str, tensor: Any) -> Held:
    import torch
    from torch.distributed.tensor import DTensor

    spread = isinstance(tensor, DTensor)
    local = tensor.to_local() if spread else tensor
    # A DTensor's collectives may still be under way.
    local = local.wait() if hasattr(local, "wait") else local
    if type(local) not in (torch.Tensor, torch.nn.Parameter):
        raise UsageError(f"{name!r} is a {type(local).__name__}: give the plain tensors, or DTensors, that it is made of")
    if local.layout is not torch.strided or local.device.type == "meta":
        raise UsageError(f"{name!r} has no bytes in memory ({local.layout}, {local.device}): materialise it first")
    spelled = _DTYPES.get(str(local.dtype).removeprefix("torch."))
    if spelled is None:
        raise UsageError(f"{name!r} has the type {local.dtype}, which cannot be signed across ranks")
    shape = tuple(int(size) for size in tensor.shape)
    if not spread:
        return Held(spelled[0], shape, None, ((whole(shape), local),))
    mesh = tensor.device_mesh
    ranks = tuple(int(rank) for rank in mesh.mesh.flatten().tolist())
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return Held(spelled[0], shape, ranks, ())
    runs = _runs(name, shape, tuple(mesh.mesh.shape), coordinate, tensor.placements)
    lengths = tuple(sum(end - first for first, end in of) for of in runs)
    if lengths != tuple(local.shape):
        raise UsageError(
            f"{name!r} has a local shard of shape {tuple(local.shape)}, and {tensor.placements} of {shape} would have {lengths}: "
            "this placement is not understood. Redistribute it to Shard or Replicate"
        )
    if 0 in shape:
        # Whatever part of nothing this is, it is all of it.
        return Held(spelled[0], shape, ranks, ((whole(shape), local.new_empty(shape)),))
    return Held(spelled[0], shape, ranks, tuple(_pieces(runs, local)))


def _runs(
    name: str, shape: tuple[int, ...], mesh: tuple[int, ...], coordinate: list[int], placements: Any
) -> list[list[tuple[int, int]]]:
    """Which elements along each dimension are held here, as runs: FSDP over tensor parallelism may hold several."""
    runs = [[(0, size)] for size in shape]
    for size, at, placement in zip(mesh, coordinate, placements):
        kind = type(placement).__name__
        if kind == "Replicate":
            continue
        if kind not in ("Shard", "_StridedShard"):
            raise UsageError(f"{name!r} is placed as {placement}: redistribute it to Shard or Replicate before signing")
        dimension = placement.dim % len(shape)
        if kind == "Shard":
            runs[dimension] = _chunk(runs[dimension], size, at)
        else:
            splits = [_chunk(runs[dimension], placement.split_factor, split) for split in range(placement.split_factor)]
            runs[dimension] = _joined(run for split in splits for run in _chunk(split, size, at))
    return runs


def _chunk(runs: list[tuple[int, int]], parts: int, part: int) -> list[tuple[int, int]]:
    """One of `parts` parts of runs, cut as `torch.chunk` cuts: all of the same length but the last, and the empty."""
    length = sum(end - first for first, end in runs)
    step = -(-length // parts)
    begin, stop = min(part * step, length), min((part + 1) * step, length)
    cut, at = [], 0
    for first, end in runs:
        low, high = max(begin - at, 0), min(stop - at, end - first)
        if low < high:
            cut.append((first + low, first + high))
        at += end - first
    return cut


def _joined(runs: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, end in runs:
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return joined


def _pieces(runs: list[list[tuple[int, int]]], local: Any) -> Iterator[tuple[Box, Any]]:
    """The boxes that runs along each dimension make, and where each lies in the local shard."""
    placed = []
    for of in runs:
        at, along = 0, []
        for first, end in of:
            along.append(((first, end), slice(at, at + end - first)))
            at += end - first
        placed.append(along)
    for chosen in product(*placed):
        yield tuple(run for run, _ in chosen), local[tuple(where for _, where in chosen)]
