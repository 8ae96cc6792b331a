"""Which tiles a box of a tensor consists of, and which it cuts. The grid is that of docs/tensor-manifest.md.

The native library has it, too, and refuses whatever this module would get wrong: it is here to say which elements have to
travel before a tile can be hashed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

from .layout import Box, common, element_bytes, whole

_MOST_TILES = 512
_LARGE = 16 << 20
_LEAST_TILE = 64 << 10


@dataclass(frozen=True)
class Grid:
    """Into how many equal parts each dimension is cut; tiles are numbered in C order of their parts."""

    shape: tuple[int, ...]
    parts: tuple[int, ...]

    @staticmethod
    def of(dtype: str, shape: tuple[int, ...]) -> Grid:
        """The grid of every tensor of this type and shape."""
        size = prod(shape) * element_bytes(dtype)
        if size == 0:
            return Grid(shape, (1,) * len(shape))
        parts = [next(part for part in (8, 4, 2, 1) if size_of % part == 0) for size_of in shape]
        most = min(_MOST_TILES, size // _LEAST_TILE) if size > _LARGE else _MOST_TILES
        while prod(parts) > most:
            parts[parts.index(max(parts))] //= 2
        return Grid(shape, tuple(parts))

    @property
    def tiles(self) -> int:
        """How many there are."""
        return prod(self.parts)

    def box(self, tile: int) -> Box:
        """The elements of a tile."""
        ranges = []
        for size, parts in zip(reversed(self.shape), reversed(self.parts)):
            tile, part = divmod(tile, parts)
            step = size // parts
            ranges.append((part * step, (part + 1) * step))
        return tuple(reversed(ranges))

    def _numbers(self, of: list[range]) -> list[int]:
        numbers = []
        for parts_of in product(*of):
            number = 0
            for part, parts in zip(parts_of, self.parts):
                number = number * parts + part
            numbers.append(number)
        return numbers

    def split(self, box: Box) -> tuple[Box | None, list[int], list[int]]:
        """The largest box of whole tiles in `box`, the numbers of its tiles, and those of the tiles that `box` cuts."""
        if 0 in self.shape:
            return (whole(self.shape), [0], []) if box == whole(self.shape) else (None, [], [])
        steps = [size // parts for size, parts in zip(self.shape, self.parts)]
        inner = [range(-(-first // step), end // step) for (first, end), step in zip(box, steps)]
        touched = self._numbers([range(first // step, -(-end // step)) for (first, end), step in zip(box, steps)])
        if not all(inner):
            return None, [], touched
        numbers = self._numbers(inner)
        full = tuple((of.start * step, of.stop * step) for of, step in zip(inner, steps))
        return full, numbers, sorted(set(touched) - set(numbers))


def cut_tiles(grid: Grid, holders: list[tuple[int, Box]]) -> dict[int, list[tuple[int, Box]]]:
    """The tiles that some holder has only a part of, and who has which part of each: all holders, those of the whole, too.

    `holders` are ranks and what they hold.
    """
    cut = sorted({tile for _, box in holders for tile in grid.split(box)[2]})
    parts: dict[int, list[tuple[int, Box]]] = {}
    for tile in cut:
        shared = ((rank, common(box, grid.box(tile))) for rank, box in holders)
        parts[tile] = [(rank, part) for rank, part in shared if part is not None]
    return parts
