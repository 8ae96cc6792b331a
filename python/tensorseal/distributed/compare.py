"""What rank 0 makes of the digests that all ranks took: the same leaf from all who hold it, and from the files."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import VerifyError
from .control import Control
from .measure import Measured
from .plan import Tensor

_NAMED = 5


class Leaves:
    """All digests of all tiles, and whose they are."""

    def __init__(self, control: Control, measured: Iterable[Measured]) -> None:
        self._control = control
        self._found: dict[tuple[str, int], dict[str, list[tuple[int, ...]]]] = {}
        for rank, one in enumerate(measured):
            for name, tiles in one.tiles.items():
                for tile, digest in tiles.items():
                    self._add(name, tile, digest, (rank,))
            for cut in one.cut:
                self._add(cut.name, cut.tile, cut.digest, cut.ranks)

    def _add(self, name: str, tile: int, digest: str, ranks: tuple[int, ...]) -> None:
        self._found.setdefault((name, tile), {}).setdefault(digest, []).append(ranks)

    def copies(self) -> int:
        """How many digests had another of the same tile to be compared with."""
        counts = (sum(map(len, of.values())) for of in self._found.values())
        return sum(count - 1 for count in counts)

    def tiles_of(self, name: str) -> set[int]:
        """The tiles of a tensor that somebody measured."""
        return {tile for of, tile in self._found if of == name}

    def _who(self, ranks: list[tuple[int, ...]]) -> str:
        several = sorted({rank for of in ranks for rank in of})
        if any(len(of) > 1 for of in ranks):
            return f"put together from {self._control.ranks(several)}"
        return f"on {self._control.ranks(several)}"

    def against(self, expected: dict[str, list[str]], source: dict[str, str], lead: str) -> None:
        """Compares with the digests of the tiles of each tensor that are `expected`; `source` says where each comes from.

        Raises `VerifyError` that names tensors, tiles and ranks: of copies that differ from each other, and of what
        differs from what is expected. What nobody measured is not looked at here.
        """
        faults = []
        for (name, tile), digests in sorted(self._found.items(), key=lambda one: (one[0][0].encode(), one[0][1])):
            wanted = expected[name][tile] if name in expected else None
            if len(digests) == 1 and (wanted is None or wanted in digests):
                continue
            held = "; ".join(f"{digest[:16]} {self._who(ranks)}" for digest, ranks in sorted(digests.items(), key=lambda o: o[1]))
            against = f"; {wanted[:16]} {source[name]}" if wanted is not None else ""
            faults.append(f"tile {tile} of {name!r}: {held}{against}")
        if faults:
            more = f"; and {len(faults) - _NAMED} tiles more" if len(faults) > _NAMED else ""
            raise VerifyError(f"{lead}: {'; '.join(faults[:_NAMED])}{more}", kind="tiles")

    def covered(self, tensors: dict[str, Tensor]) -> None:
        """Raises `VerifyError` unless each tile of each tensor was measured by somebody."""
        for name, tensor in tensors.items():
            missing = set(range(tensor.grid.tiles)) - self.tiles_of(name)
            if missing:
                raise VerifyError(f"no rank measured tile {min(missing)} of {name!r}: nothing was signed", kind="coverage")
