"""Tied weights: tensors that are the same memory, of which a file can have one only."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .._safetensors import refuse_shared
from ..errors import UsageError
from .layout import Held, volume


def without_tied(held: dict[str, Held], discard: Collection[str]) -> tuple[dict[str, Held], dict[str, str]]:
    """What stays of what this rank holds, and for each name in `discard` the one whose memory it is.

    Tensors that share memory are refused, because readers of a file get them apart; those in `discard` are left out, and each
    has to be the very same memory as one that stays. Of a tensor of which this rank has no element nothing can be told, and
    the others say it. The same rules as in one process.
    """
    kept = {name: one for name, one in held.items() if name not in discard}
    if held and not kept:
        raise UsageError("discard leaves no tensor: a signature over the rest would cover nothing")
    same = {_memory(one): name for name, one in reversed(kept.items())}
    removed = {}
    for name, one in held.items():
        if name in discard and any(volume(box) for box, _ in one.pieces):
            twin = same.get(_memory(one))
            if twin is None:
                raise UsageError(f"tensor {name!r} is in discard, and no tensor that stays is the same memory")
            removed[name] = twin
    refuse_shared(span for name, one in kept.items() for span in _spans(name, one))
    return kept, removed


def _memory(one: Held) -> tuple[Any, ...]:
    pieces = tuple((box, str(part.device), part.data_ptr(), part.stride()) for box, part in one.pieces)
    return one.dtype, one.shape, pieces


def _spans(name: str, one: Held) -> list[tuple[str, int, int, str]]:
    """The first address of each piece, and the one behind its last."""
    spans = []
    for _, part in one.pieces:
        if part.numel():
            last = sum((size - 1) * stride for size, stride in zip(part.shape, part.stride()))
            first = part.data_ptr()
            spans.append((str(part.device), first, first + (last + 1) * part.element_size(), name))
    return spans
