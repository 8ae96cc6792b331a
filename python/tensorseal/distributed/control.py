"""The control plane of a call that all ranks make: one verdict for all, and no waiting for the dead.

Weights never come here: only listings, digests and verdicts, by the store of the process group. Rank 0 of the group
decides; every rank says what it has, and takes what rank 0 made of it. Whoever fails says so under one key that all look
at, so that a refusal anywhere is a refusal everywhere, in the same words.

Torch's own errors name no rank (gloo: "connection closed by peer"), or come after minutes. So every rank *beats*: a thread
counts up a number of its own. Rank 0 watches all numbers, the others watch that of rank 0. A rank whose number stands still
is lost, and is named; a rank that is busy hashing is not.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from ..errors import Difference, NoAnswerError, TensorsealError, UsageError, VerifyError
from .store import Courier, StoreGone

_log = logging.getLogger("tensorseal.distributed")
_T = TypeVar("_T")

_ABORT = "abort"
_LEFT = "left"


class RankError(NoAnswerError):
    """No answer, for the sake of ranks that are gone, hang, or failed; `ranks` are their global numbers."""

    ranks: list[int]

    def __init__(self, message: str, ranks: Iterable[int] = (), *, kind: str = "rank") -> None:
        super().__init__(message, kind=kind)
        self.ranks = list(ranks)


class Aborted(Exception):
    """Raised inside of a call when another rank has ended it; never leaves this package."""


class Control:
    """What a call uses to speak with the other ranks. Made by `together`."""

    def __init__(self, verb: str, group: Any, timeout: float, patience: float) -> None:
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            raise UsageError(f"{verb} is for ranks of a process group: call torch.distributed.init_process_group first")
        if not (timeout > 0 and patience >= timeout):
            raise UsageError(f"timeout is {timeout} and patience {patience}: seconds above 0, patience no less than timeout")
        self.group = dist.group.WORLD if group is None else group
        self.rank = dist.get_rank(self.group)
        if self.rank < 0:
            raise UsageError(f"rank {dist.get_rank()} is not in the group that it called {verb} with")
        self.size = dist.get_world_size(self.group)
        self.names = dist.get_process_group_ranks(self.group)
        """The global number of each rank of the group: what messages say."""
        self.verb, self.timeout, self.patience = verb, timeout, patience
        # All that follows a silence has to be over within `timeout`.
        self._silence = timeout / 2
        self.call = 0
        """Which call of this package on this group it is."""
        self._step = 0
        self._progress = 0
        self._waiting = False
        self._lost: list[int] = []
        self._stuck: list[int] = []
        self._lock = threading.Lock()
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._moved: dict[int, tuple[bytes, float]] = {}
        self._started = time.monotonic()
        self._last_beat = self._started
        self._beats = 0
        self._prefix = ""
        self._courier: Courier | None = None
        self._gone = False
        if self.size > 1:
            self._open()

    def _open(self) -> None:
        from torch.distributed.distributed_c10d import _get_process_group_store

        store = _get_process_group_store(self.group)
        self._courier = Courier(store, self._beat, min(1.0, self.timeout / 20))
        # The calls of a rank are counted in the store, because every rank makes the same ones in the same order.
        self._prefix = "tensorseal/"
        self._courier.start()
        try:
            call = self._ask(lambda store: store.add(f"tensorseal/calls/{self.rank}", 1))
        except TensorsealError:
            self._courier.stop()
            raise
        # What is left of the call before the last: every rank has left that, or this would not be the next but one.
        self._ask(lambda store: [store.delete_key(f"tensorseal/{call - 2}/{key}") for key in self._own_keys()])
        self.call = call
        with self._lock:
            self._prefix = f"tensorseal/{call}/"

    def _own_keys(self) -> list[str]:
        return [f"beat/{self.rank}", *([_LEFT] if self.rank == 0 else [])]

    # The courier's thread

    def _beat(self, store: Any) -> None:
        now = time.monotonic()
        with self._lock:
            prefix, waiting, progress = self._prefix, self._waiting, self._progress
        if prefix == "tensorseal/":
            return
        if now - self._last_beat > self._silence / 2:
            # It is us who stood still: what the others did meanwhile we cannot know.
            self._seen = {rank: (value, now) for rank, (value, _) in self._seen.items()}
            self._started = now
        self._last_beat = now
        self._beats += 1
        store.set(f"{prefix}beat/{self.rank}", f"{self._beats} {progress} {'w' if waiting else 'b'}")
        self._watch(store, prefix)

    def _watch(self, store: Any, prefix: str) -> None:
        others = [rank for rank in range(self.size) if rank != self.rank] if self.rank == 0 else [0]
        lost, stuck = [], []
        for rank in others:
            key = f"{prefix}beat/{rank}"
            value = store.get(key) if rank in self._seen or store.check([key]) else b""
            now = time.monotonic()
            before, since = self._seen.get(rank, (b"", self._started))
            if value != before:
                self._seen[rank] = (value, now)
                count_progress = value.split(b" ", 1)[1]
                if self._moved.get(rank, (b"", 0.0))[0] != count_progress or count_progress.endswith(b"w"):
                    self._moved[rank] = (count_progress, now)
            elif now - since > self._silence:
                lost.append(rank)
            if rank in self._moved and now - self._moved[rank][1] > self.patience:
                stuck.append(rank)
        with self._lock:
            self._lost, self._stuck = lost, stuck

    # The caller's thread

    def _ask(self, do: Callable[[Any], _T]) -> _T:
        assert self._courier is not None
        try:
            return self._courier.ask(do, self._silence)
        except StoreGone as error:
            self._gone = True
            raise self._store_gone(error) from error

    def _store_gone(self, error: StoreGone) -> RankError:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            holder = "torchrun's agent, or rank 0, where one of them holds the store"
        else:
            holder = "rank 0, whose process holds the store of the process group"
        what = f"has been silent for {error.silent:.0f} s" if error.silent is not None else "is gone"
        return RankError(f"{self.verb}: {holder}, {what} ({error}). Nothing was decided: start the ranks anew", [0])

    def look(self) -> None:
        """Raises if another rank has ended the call, or is lost. Cheap; call it between pieces of work."""
        with self._lock:
            self._progress += 1
            lost, stuck = self._lost, self._stuck
        if self._courier is None:
            return
        silent = time.monotonic() - self._courier.answered
        if silent > self._silence and self._courier.is_alive():
            self._gone = True
            raise self._store_gone(StoreGone("it does not answer", silent))
        if self._ask(lambda store: store.check([self._prefix + _ABORT])):
            raise Aborted
        if lost:
            # Behind the first step, which no rank passes before all others are there, nobody can have stayed away.
            never = [rank for rank in lost if rank not in self._seen and self._step <= 1]
            gone = [rank for rank in lost if rank not in never]
            parts = [f"{self.ranks(gone)} went silent" if gone else "", f"{self.ranks(never)} never came" if never else ""]
            what = " and ".join(part for part in parts if part)
            message = (
                f"{self.verb}: {what}, for {self._silence:.0f} s: a process that is dead or stopped, or that does not make "
                f"the same calls. Nothing was decided: start the ranks anew"
            )
            raise RankError(message, [self.names[rank] for rank in lost])
        if stuck:
            message = f"{self.verb}: {self.ranks(stuck)} hangs: alive, but no step further in {self.patience:.0f} s"
            raise RankError(message, [self.names[rank] for rank in stuck])

    def ranks(self, of: list[int]) -> str:
        """`rank 2`, or `ranks 2, 5 and 7`: group numbers as people know them."""
        names = [str(self.names[rank]) for rank in sorted(of)]
        if len(names) == 1:
            return f"rank {names[0]}"
        return f"ranks {', '.join(names[:-1])} and {names[-1]}"

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Waits until `ready()`, looking around meanwhile. Raises what `look` raises."""
        pause = 0.001
        with self._lock:
            self._waiting = True
        try:
            while not ready():
                self.look()
                time.sleep(pause)
                pause = min(pause * 1.5, 0.05)
        finally:
            with self._lock:
                self._waiting = False

    def _take(self, keys: list[str]) -> list[bytes]:
        """The values of these keys, once all are there."""
        self.wait_for(lambda: self._ask(lambda store: store.check(keys)))
        # One by one, so that there are beats between large ones.
        return [bytes(self._ask(partial(_value_of, key))) for key in keys]

    def decide(self, mine: bytes, decision: Callable[[list[bytes]], bytes]) -> bytes:
        """Rank 0 makes one answer of what all ranks bring, by rank, and all get that answer.

        What `decision` raises, it raises on rank 0, and ends the call on all ranks.
        """
        self._step += 1
        if self._courier is None:
            return decision([mine])
        base = f"{self._prefix}{self._step}/"
        if self.rank == 0:
            others = self._take([f"{base}{rank}" for rank in range(1, self.size)])
            answer = decision([mine, *others])
            # Who lost patience with the decision has told all that there is none.
            if self._ask(lambda store: store.check([self._prefix + _ABORT])):
                raise Aborted
            self._ask(lambda store: store.set(base + "all", answer))
            return answer
        self._ask(lambda store: store.set(f"{base}{self.rank}", mine))
        return self._take([base + "all"])[0]

    def share(self, mine: bytes) -> list[bytes]:
        """What all ranks bring, by rank, on all ranks."""

        def pack(all_of_them: list[bytes]) -> bytes:
            lengths = json.dumps([len(one) for one in all_of_them]).encode()
            return len(lengths).to_bytes(8, "little") + lengths + b"".join(all_of_them)

        packed = self.decide(mine, pack)
        at = 8 + int.from_bytes(packed[:8], "little")
        shared = []
        for length in json.loads(packed[8:at]):
            shared.append(packed[at : at + length])
            at += length
        return shared

    # The end

    def fail(self, error: BaseException) -> BaseException:
        """Ends the call on all ranks for this error, unless another rank was first; the error to raise here."""
        if self._courier is None or self._gone:
            return error
        words = json.dumps(_to_wire(error, self))
        try:
            if not isinstance(error, Aborted):
                self._ask(lambda store: store.compare_set(self._prefix + _ABORT, "", words))
            first = bytes(self._ask(lambda store: store.get(self._prefix + _ABORT)))
        except RankError as gone:
            return gone if isinstance(error, Aborted) else error
        if isinstance(error, (Aborted, Exception)):
            return _from_wire(json.loads(first))
        return error

    def close(self, error: BaseException | None) -> None:
        """Leaves; whoever holds the store stays until all others that live have read the verdict."""
        if self._courier is None:
            return
        if self._gone:
            self._courier.stop(wait=False)
            return
        try:
            left = self._ask(lambda store: store.add(self._prefix + _LEFT, 1))
            if self.rank == 0 or self.names[self.rank] == 0:
                gone = len(error.ranks) if isinstance(error, RankError) else 0
                end = time.monotonic() + self.timeout / (6 if error is not None else 1)
                while left < self.size - gone and time.monotonic() < end:
                    time.sleep(0.005)
                    left = self._ask(lambda store: store.add(self._prefix + _LEFT, 0))
                if left == self.size and self.rank == 0:
                    self._clean()
                elif error is None:
                    _log.warning("%s: %d of %d ranks have not read the verdict", self.verb, self.size - left, self.size)
        except RankError as gone_store:
            # The verdict is there already; what is missing is only that others have read it.
            _log.warning("after the end of %s: %s", self.verb, gone_store)
        finally:
            self._courier.stop(wait=not self._gone)

    def _clean(self) -> None:
        steps = [f"{step}/{rank}" for step in range(1, self._step + 1) for rank in [*range(1, self.size), "all"]]

        def delete(store: Any) -> None:
            for key in [*steps, _ABORT]:
                store.delete_key(self._prefix + key)

        self._ask(delete)


def _value_of(key: str, store: Any) -> Any:
    return store.get(key)


def together(
    verb: str, group: Any, timeout: float, patience: float, body: Callable[[Control], _T]
) -> _T:
    """Runs `body` on this rank as part of a call of all ranks: it returns on all of them, or raises the same on all."""
    control = Control(verb, group, timeout, patience)
    ended: BaseException | None = None
    try:
        return body(control)
    except BaseException as error:
        ended = control.fail(error)
        if ended is error:
            raise
        raise ended from (None if isinstance(error, Aborted) else error)
    finally:
        control.close(ended)


def _to_wire(error: BaseException, control: Control) -> dict[str, Any]:
    """An error as all ranks will raise it."""
    me = control.names[control.rank]
    if isinstance(error, RankError):
        return {"class": "rank", "kind": error.kind, "message": str(error), "ranks": error.ranks}
    if isinstance(error, VerifyError):
        differences = [asdict(one) for one in error.differences]
        return {"class": "verify", "kind": error.kind, "message": _placed(str(error), me), "differences": differences}
    if isinstance(error, UsageError):
        return {"class": "usage", "message": _placed(str(error), me)}
    kind = error.kind if isinstance(error, NoAnswerError) else "rank"
    text = str(error) if isinstance(error, TensorsealError) else f"{type(error).__name__}: {error}"
    return {"class": "rank", "kind": kind, "message": _placed(text, me), "ranks": [me]}


def difference_of(wire: dict[str, Any]) -> Difference:
    """What `asdict` and JSON made of one."""
    return Difference(**{**wire, "ranges": tuple((first, end) for first, end in wire["ranges"])})


def _placed(text: str, rank: int) -> str:
    """The message with the rank that it comes from in front, unless it speaks of ranks already."""
    return text if re.search(r"\branks? \d", text) else f"rank {rank}: {text}"


def _from_wire(wire: dict[str, Any]) -> TensorsealError:
    if wire["class"] == "verify":
        differences = [difference_of(one) for one in wire["differences"]]
        return VerifyError(wire["message"], kind=wire["kind"], differences=differences)
    if wire["class"] == "usage":
        return UsageError(wire["message"])
    return RankError(wire["message"], wire["ranks"], kind=wire["kind"])
