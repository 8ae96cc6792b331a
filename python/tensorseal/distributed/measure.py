"""Digests of tiles of what this rank holds, taken where it lies; tiles that are cut between ranks are brought together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import NoAnswerError
from .control import Control
from .layout import Held
from .move import Mover
from .plan import Tensor, gather_tiles


@dataclass(frozen=True)
class Cut:
    """A tile of which several ranks have parts, as one of them put it together."""

    name: str
    tile: int
    digest: str
    ranks: tuple[int, ...]
    """Whose parts it is made of, in the group's numbers."""


@dataclass
class Measured:
    """What a rank found: digests of tiles, BLAKE3 in hex."""

    tiles: dict[str, dict[int, str]] = field(default_factory=dict)
    """By name and number: whole tiles of its own, hashed in place."""
    cut: list[Cut] = field(default_factory=list)
    """Tiles that it put together from parts of several ranks, its own among them."""

    def to_wire(self) -> dict[str, Any]:
        """For JSON."""
        return {"tiles": self.tiles, "cut": [[one.name, one.tile, one.digest, one.ranks] for one in self.cut]}

    @staticmethod
    def from_wire(wire: dict[str, Any]) -> Measured:
        """What `to_wire` gave, after JSON."""
        tiles = {name: {int(tile): digest for tile, digest in of.items()} for name, of in wire["tiles"].items()}
        return Measured(tiles, [Cut(name, tile, digest, tuple(ranks)) for name, tile, digest, ranks in wire["cut"]])


def own_tiles(control: Control, held: dict[str, Held], tensors: dict[str, Tensor]) -> dict[str, dict[int, str]]:
    """Digests of the whole tiles that this rank holds, by name and number, each hashed where it lies."""
    from .._signed import TensorManifest

    found: dict[str, dict[int, str]] = {}
    for name, one in held.items():
        control.look()
        grid, of = tensors[name].grid, found.setdefault(name, {})
        for box, _ in one.pieces:
            full, numbers, _ = grid.split(box)
            if full is None:
                continue
            digests = TensorManifest.tile_digests(one.dtype, list(one.shape), full, one.part(full))
            if sorted(digests) != sorted(numbers):
                raise NoAnswerError(f"{name!r}: the tiles {numbers} were to be hashed, and {sorted(digests)} were", kind="internal")
            of.update(digests)
    return found


def cut_tiles(control: Control, mover: Mover, tensors: dict[str, Tensor]) -> list[Cut]:
    """Digests of tiles that ranks hold in part, as far as this rank is the one to put them together. All ranks call it."""
    from ..tensors import digest

    tiles = {job: tile for name, tensor in tensors.items() for tile, job in gather_tiles(name, tensor)}
    found = []
    for job, data in mover.run(tiles):
        ranks = tuple(sorted({rank for rank, _ in job.parts}))
        found.append(Cut(job.name, tiles[job], digest(data), ranks))
    return found
