"""The store of a process group, as one thread sees it: no call of ours ever waits for it longer than we want to.

A client of a TCPStore blocks for as long as its server does not answer, which a stopped process never does. So one thread
of ours, the courier, makes all calls, and whoever wants something of it waits with a deadline. The same thread tells the
others at intervals that this process lives, whatever its main thread is busy with.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any


class StoreGone(Exception):
    """The store does not answer, or no more: `silent` says for how many seconds, if it is silence."""

    def __init__(self, why: str, silent: float | None = None) -> None:
        super().__init__(why)
        self.silent = silent


class Courier(threading.Thread):
    """The only thread that touches the store; it also beats: `beat(store)` is called every `interval` seconds."""

    def __init__(self, store: Any, beat: Callable[[Any], None], interval: float) -> None:
        super().__init__(name="tensorseal-courier", daemon=True)
        # A connection of our own: other threads of torch wait on theirs, and hold it while they do.
        clone = getattr(store, "clone", None)
        self._store = clone() if clone is not None else store
        self._beat = beat
        self._interval = interval
        self._asked: queue.SimpleQueue[tuple[Callable[[Any], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._failed: BaseException | None = None
        self.answered = time.monotonic()
        """When the store last did what it was asked, by the monotonic clock."""

    def run(self) -> None:
        """Beats, and does what it is asked, until it is told to stop or the store fails."""
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                try:
                    self._beat(self._store)
                except Exception as error:  # whatever it is, the store is of no use any more: all who ask are told
                    self._fail(error)
                    return
                self.answered = time.monotonic()
                due = self.answered + self._interval
            try:
                asked = self._asked.get(timeout=max(due - time.monotonic(), 0))
            except queue.Empty:
                continue
            if asked is None:
                return
            do, answer = asked
            try:
                answer.set_result(do(self._store))
            except Exception as error:
                answer.set_exception(error)
                self._fail(error)
                return
            self.answered = time.monotonic()

    def _fail(self, error: BaseException) -> None:
        self._failed = error
        while True:
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                return
            if asked is not None:
                asked[1].set_exception(error)

    def ask(self, do: Callable[[Any], Any], patience: float) -> Any:
        """What `do(store)` returns, in at most `patience` seconds.

        Raises `StoreGone` if the store fails or does not answer in time.
        """
        answer: Future[Any] = Future()
        self._asked.put((do, answer))
        end = time.monotonic() + patience
        while True:
            # In short turns: a courier that failed between our look and our question would never answer it.
            if self._failed is not None and not answer.done():
                raise StoreGone(_first_line(self._failed)) from self._failed
            try:
                return answer.result(timeout=min(0.5, max(end - time.monotonic(), 0.001)))
            except FutureTimeout as error:  # until Python 3.10 a class of its own
                if answer.done():
                    raise StoreGone(_first_line(error)) from error
            except Exception as error:
                raise StoreGone(_first_line(error)) from error
            if time.monotonic() >= end:
                raise StoreGone("it does not answer", silent=patience)

    def stop(self, wait: bool = True) -> None:
        """Ends the thread; one that the store holds up is not worth the wait, and is a daemon."""
        self._asked.put(None)
        if wait:
            self.join(timeout=1.0)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
