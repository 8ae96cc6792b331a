"""Seals: memory that is measured when it is taken into use, and compared with itself later.

After an engine has cast, packed or fused weights, no signed digest fits them any more. A seal says *unchanged since*,
never *as signed*. It holds no memory: whoever asks, shows the same tensors again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import _native
from ._lend import lend
from .errors import UsageError


@dataclass(frozen=True)
class Unchanged:
    """What was measured again is what was sealed. Printed, it says all of it. Times are seconds since 1970."""

    seal: str
    since: float
    at: float
    bytes: int
    """Bytes that were measured in this call, never none."""
    total: int
    """Bytes sealed."""
    oldest: float
    """How many seconds ago it is, at most, that any byte was last found unchanged."""
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Confirmed:
    """When some bytes of a tensor were last found to be what was sealed."""

    name: str
    start: int
    end: int
    age: float
    """Seconds since their measuring began."""


class Seal:
    """Named tensors, and what was in them. It may be used from several threads; one measures at a time."""

    def __init__(self, native: _native.Seal) -> None:
        if not isinstance(native, _native.Seal):
            raise UsageError("a Seal is what Seal.take() gives")
        self._native = native

    @classmethod
    def take(
        cls, tensors: Mapping[str, object], *, name: str = "weights", group: int | None = None, stream: Any = None
    ) -> Seal:
        """Measures `tensors`, whatever is in them, and keeps what was found: 48 bytes of it for each `group` bytes (1 MiB), which is what a
        change is narrowed down to.

        `name` stands in reports and metrics. Tensors may lie on several devices, and may be strided. One without a byte is refused, since
        what it held lies elsewhere: leave it out, and name that.

        Raises `UsageError` for what cannot be sealed, `NoAnswerError` if a device fails.
        """
        return cls(_native.Seal.take(_lent(tensors, stream), name=name, group=group))

    def reverify(
        self,
        tensors: Mapping[str, object],
        *,
        seconds: float | None = None,
        bytes: int | None = None,
        stream: Any = None,
    ) -> Unchanged:
        """Measures the tensors again, or as much as `seconds` or `bytes` allow, going on where the last call ended; at least
        one group. All must be shown each time, and be the same memory as when they were sealed.

        Raises `VerifyError` if bytes have changed, or a tensor is missing, new or other memory: `differences` has `kind` `changed` (with
        `ranges` of bytes in the tensor), `missing`, `added` or `moved`. From then on it always does, until `reseal`.
        Raises `NoAnswerError` if a device fails; nothing counts as unchanged then that was not found so.
        """
        return Unchanged(**self._native.reverify(_lent(tensors, stream), seconds=seconds, bytes=bytes))

    def reseal(self, tensors: Mapping[str, object], *, stream: Any = None) -> None:
        """Takes the seal anew, over whatever is in `tensors` now: after weights were changed on purpose, or a broken seal was
        looked into.

        Raises what `take` raises; the seal is then what it was.
        """
        self._native.reseal(_lent(tensors, stream))

    @property
    def name(self) -> str:
        """What it is called in reports and metrics."""
        return self._native.name

    @property
    def since(self) -> float:
        """When it was taken, or taken anew: seconds since 1970."""
        return self._native.since

    @property
    def broken(self) -> str | None:
        """What was found, if it is broken."""
        return self._native.broken

    @property
    def total(self) -> int:
        """Bytes sealed."""
        return self._native.total

    @property
    def oldest(self) -> float:
        """How many seconds ago it is that some byte was last found unchanged. It grows while the seal is broken."""
        return self._native.oldest

    def coverage(self) -> list[Confirmed]:
        """For all bytes, when they were last found unchanged: by name, neighbours of one age joined."""
        return [Confirmed(*of) for of in self._native.coverage()]


def exposition(seals: Iterable[Seal]) -> str:
    """Counters and ages of seals, told apart by their names, as a page for Prometheus to scrape: serve it as
    `text/plain; version=0.0.4; charset=utf-8`. It waits for a seal that is being measured.

    Raises `UsageError` if two seals have one name.
    """
    return _native.exposition([seal._native for seal in seals])


def _lent(tensors: Mapping[str, object], stream: Any) -> list[_native.Lent]:
    return [lend(tensor, name=name, stream=stream) for name, tensor in tensors.items()]
