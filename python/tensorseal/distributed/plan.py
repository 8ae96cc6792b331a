"""What all ranks hold together: the tensors of the model, who has which part of each, and which bytes have to travel."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from ..errors import UsageError
from .control import Control
from .grid import Grid, cut_tiles
from .layout import Box, Held, common, element_bytes, volume, whole, without

ROUND_BYTES = 64 << 20
"""What a rank gathers at a time, about: it bounds memory, and a row of a tensor may be longer."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model, and who holds which part of it."""

    dtype: str
    shape: tuple[int, ...]
    holders: tuple[tuple[int, Box], ...]
    """Ranks of the group, ascending, and a box that each holds; a rank may hold several."""

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.shape) * element_bytes(self.dtype)

    @property
    def grid(self) -> Grid:
        """How it is cut into tiles."""
        return Grid.of(self.dtype, self.shape)


@dataclass(frozen=True)
class Job:
    """A box of a tensor that a rank wants whole, and from whom it gets which part of it."""

    to: int
    name: str
    box: Box
    parts: tuple[tuple[int, Box], ...]
    nbytes: int


def dump(value: object) -> bytes:
    """JSON, short: listings are names and numbers that repeat."""
    return zlib.compress(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), 1)


def load(data: bytes) -> Any:
    """What `dump` made bytes of."""
    return json.loads(zlib.decompress(data))


def listing(held: dict[str, Held], terms: dict[str, object]) -> bytes:
    """What this rank holds, and `terms`: arguments of the call in which no rank may differ."""
    meshes: dict[tuple[int, ...] | None, int] = {}
    tensors = {
        name: [
            one.dtype,
            one.shape,
            meshes.setdefault(one.mesh, len(meshes)),
            [box for box, _ in one.pieces],
        ]
        for name, one in held.items()
    }
    return dump({"terms": terms, "meshes": list(meshes), "tensors": tensors})


def agree(control: Control, held: dict[str, Held], terms: dict[str, object]) -> dict[str, Tensor]:
    """The tensors of the model by name, in the order of names: the same on all ranks.

    Raises `UsageError`, on all ranks, if one was called otherwise, or knows a tensor otherwise.
    """
    tables = [load(one) for one in control.share(listing(held, {"verb": control.verb, **terms}))]
    _same_terms(control, [table["terms"] for table in tables])
    found: dict[str, tuple[int, str, tuple[int, ...], list[int] | None]] = {}
    holders: dict[str, list[tuple[int, Box]]] = {}
    for rank, table in enumerate(tables):
        for name, (dtype, shape, mesh, boxes) in table["tensors"].items():
            one = (rank, dtype, tuple(shape), table["meshes"][mesh])
            first = found.setdefault(name, one)
            if first[1:] != one[1:]:
                raise UsageError(
                    f"{name!r} is {_say(first)} on {control.ranks([first[0]])}, and {_say(one)} on {control.ranks([rank])}: "
                    "every rank has to give the same model"
                )
            boxed = (tuple((first, end) for first, end in box) for box in boxes)
            holders.setdefault(name, []).extend((rank, box) for box in boxed)
    if not found:
        raise UsageError(f"{control.verb}: no rank has a tensor, so nothing would be covered")
    for name, (holder, _, _, mesh) in found.items():
        absent = [
            rank for rank, table in enumerate(tables) if mesh and control.names[rank] in mesh and name not in table["tensors"]
        ]
        if absent:
            raise UsageError(
                f"{control.ranks(absent)} has no {name!r}, of which {control.ranks([holder])} says that it is a part"
            )
    return {name: Tensor(found[name][1], found[name][2], tuple(holders[name])) for name in sorted(found, key=str.encode)}


def agreed_twins(control: Control, removed: dict[str, str], discard: Collection[str]) -> dict[str, str]:
    """For each discarded name the one whose memory it is: the same on all ranks that have elements of it."""
    twins: dict[str, str] = {}
    for rank, one in enumerate(control.share(dump(removed))):
        for name, twin in load(one).items():
            if twins.setdefault(name, twin) != twin:
                raise UsageError(f"{name!r} is the memory of {twins[name]!r}, and on {control.ranks([rank])} that of {twin!r}")
    unknown = sorted(set(discard) - set(twins))
    if unknown:
        raise UsageError(f"discard names what is no tensor of the state dict: {', '.join(map(repr, unknown))}")
    return twins


def _say(one: tuple[int, str, tuple[int, ...], list[int] | None]) -> str:
    return f"{one[1]} {list(one[2])} {'whole' if one[3] is None else f'over ranks {one[3]}'}"


def _same_terms(control: Control, terms: list[dict[str, object]]) -> None:
    for rank, one in enumerate(terms):
        for key in sorted({*one, *terms[0]}):
            if one.get(key) != terms[0].get(key):
                raise UsageError(
                    f"{control.ranks([rank])} was called otherwise than {control.ranks([0])}: "
                    f"{key} is {one.get(key)!r}, and {terms[0].get(key)!r}. Give the same on all ranks"
                )


def same_plan(control: Control, what: str, digest: str) -> None:
    """Raises `UsageError`, on all ranks, if a rank's plan has another digest: it names the ranks."""
    digests = [one.decode() for one in control.share(digest.encode())]
    others = [rank for rank, one in enumerate(digests) if one != digests[0]]
    if others:
        raise UsageError(f"{control.ranks(others)} has another {what} than {control.ranks([0])}: is the same version installed?")


def uncovered(tensor: Tensor) -> Box | None:
    """Some elements that no rank holds, if there are any."""
    if 0 in tensor.shape:
        return None if tensor.holders else whole(tensor.shape)
    _, left = cover(whole(tensor.shape), tensor.holders)
    return left[0] if left else None


def cover(box: Box, holders: Iterable[tuple[int, Box]]) -> tuple[list[tuple[int, Box]], list[Box]]:
    """Parts of `box` that share nothing, each from the first who holds it, and what nobody holds."""
    parts, left = [], [box]
    for rank, held in holders:
        if not left:
            break
        rest: list[Box] = []
        for open_box in left:
            shared = common(open_box, held)
            if shared is None and volume(open_box) > 0:
                rest.append(open_box)
            elif shared is not None:
                parts.append((rank, shared))
                rest.extend(without(open_box, shared))
        left = rest
    return parts, left


def gather_tensor(name: str, tensor: Tensor, to: int) -> Iterator[Job]:
    """Jobs that bring a tensor to a rank, in the order of its bytes, a run of whole rows at a time."""
    width = element_bytes(tensor.dtype)
    if tensor.nbytes == 0:
        return
    rows = tensor.shape[0] if tensor.shape else 1
    step = max(1, rows * ROUND_BYTES // tensor.nbytes)
    # Who wants it is asked first, and then the others in turn, so that not always the same one sends what many have.
    turn = sum(name.encode()) % len(tensor.holders)
    holders = [*tensor.holders[turn:], *tensor.holders[:turn]]
    holders.sort(key=lambda holder: holder[0] != to)
    for first in range(0, rows, step):
        box = ((first, min(first + step, rows)), *whole(tensor.shape[1:])) if tensor.shape else ()
        parts, _ = cover(box, holders)
        yield Job(to, name, box, tuple(parts), volume(box) * width)


def gather_tiles(name: str, tensor: Tensor) -> Iterator[tuple[int, Job]]:
    """Tiles that somebody holds a part of only, and jobs that bring such a tile together.

    Copies are brought together by themselves, so that each part of each holder is looked at once at least: a tile of
    which others hold other copies is gathered several times. Raises `UsageError` if parts of such a tile are nowhere.
    """
    width = element_bytes(tensor.dtype)
    for tile, parts in cut_tiles(tensor.grid, list(tensor.holders)).items():
        box = tensor.grid.box(tile)
        waiting = [part for part in parts if part[1] != box]
        while waiting:
            # What was not looked at yet comes first; the first of it is looked at whole, so that this ends.
            rest = [part for part in parts if part not in waiting]
            chosen, left = cover(box, [*waiting, *rest])
            if left:
                raise UsageError(
                    f"no rank has the elements {say_box(left[0])} of {name!r}, and tile {tile} of it is held in part: "
                    "it can only be checked whole"
                )
            waiting = [part for part in waiting if part not in chosen]
            yield tile, Job(chosen[0][0], name, box, tuple(chosen), volume(box) * width)


def say_box(box: Box) -> str:
    """A box as people write slices."""
    return f"[{', '.join(f'{first}:{end}' for first, end in box)}]"


def rounds(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs in rounds: all ranks do the same ones at a time, and none gathers much more than `ROUND_BYTES` in one."""
    waiting: dict[int, list[Job]] = {}
    for job in jobs:
        waiting.setdefault(job.to, []).append(job)
    for queue in waiting.values():
        queue.reverse()
    # Many who gather at once may ask much of one who sends.
    share = max(1 << 20, 4 * ROUND_BYTES // max(1, len(waiting)))
    while waiting:
        now = []
        for to in sorted(waiting):
            size = 0
            queue = waiting[to]
            while queue and (size == 0 or size + queue[-1].nbytes <= min(ROUND_BYTES, share)):
                now.append(queue.pop())
                size += max(now[-1].nbytes, 1)
            if not queue:
                del waiting[to]
        yield now
