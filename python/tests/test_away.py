"""Hashing happens away from Python: other threads run meanwhile, and it can be told how far it is, and stopped."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import tensorseal
from tensorseal import Key, KeySigner

GIB = 1 << 30


@pytest.fixture
def long(tmp_path: Path):
    """Makes a file of zeros which takes no room, and a while to hash."""

    def make(size: int) -> Path:
        path = tmp_path / "long.bin"
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return make


def bytes_read() -> int:
    """Bytes that this process has asked the system for, by `read` and its kin."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise AssertionError("the kernel does not count what is read")


@pytest.mark.parametrize("verb", ["digest", "sign", "verify"])
def test_other_threads_run_meanwhile(verb, long, keys, tmp_path):
    path = long(GIB // 4)
    counted, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)

    tensorseal.sign(path, signer=KeySigner(keys[0]))
    who, signer = Key(keys[1]), KeySigner(keys[0])
    calls = {
        "digest": lambda: tensorseal.digest(path),
        "sign": lambda: tensorseal.sign(path, signer=signer),
        "verify": lambda: tensorseal.verify(path, policy=who),
    }
    interval = sys.getswitchinterval()
    counter = threading.Thread(target=count)
    counter.start()
    try:
        # Nobody is made to give up the GIL: who does not release it keeps it.
        sys.setswitchinterval(1000)
        before = counted[0]
        calls[verb]()
        after = counted[0]
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        counter.join()
    # Who releases it for a moment, to look for a file, lets the counter go on by one or two.
    assert after > before + 20


def test_progress_is_told_on_the_callers_thread_up_to_the_end(long, keys):
    size = GIB // 4
    path = long(size)
    told: list[tuple[int, int | None]] = []
    threads = set()

    def progress(done: int, total: int | None) -> None:
        told.append((done, total))
        threads.add(threading.get_ident())

    tensorseal.digest(path, progress=progress)
    assert told[-1] == (size, size)
    done = [done for done, _ in told]
    assert done == sorted(done) and {total for _, total in told if total is not None} == {size}
    assert threads == {threading.get_ident()}

    told.clear()
    tensorseal.sign(path, signer=KeySigner(keys[0]), progress=progress)
    assert told[-1] == (size, size)
    told.clear()
    tensorseal.verify(path, policy=Key(keys[1]), digests="all", progress=progress)
    assert told[-1] == (size, size)


def test_what_progress_raises_ends_the_work_and_is_raised(long, keys):
    path = long(16 * GIB)
    enough = RuntimeError("enough")

    def progress(done: int, total: int | None) -> None:
        raise enough

    for call in (
        lambda: tensorseal.digest(path, progress=progress),
        lambda: tensorseal.sign(path, signer=KeySigner(keys[0]), progress=progress),
    ):
        before = bytes_read()
        with pytest.raises(RuntimeError) as caught:
            call()
        assert caught.value is enough
        assert bytes_read() - before < 8 * GIB, "it went on"
    assert not Path(f"{path}.sig").exists()


def test_what_progress_raises_at_the_end_is_raised(signed_model, keys):
    def progress(done: int, total: int | None) -> None:
        raise SystemExit(7)

    with pytest.raises(SystemExit) as caught:
        tensorseal.verify(signed_model, policy=Key(keys[1]), progress=progress)
    assert caught.value.code == 7


def test_blake3_by_maps_can_be_stopped_too(long):
    path = long(64 * GIB)

    def progress(done: int, total: int | None) -> None:
        if done:
            seen.append(done)
            raise KeyError("stop")

    seen: list[int] = []
    begun = os.times().user
    with pytest.raises(KeyError):
        tensorseal.digest(path, hash="blake3", progress=progress)
    # Hashing all of it takes minutes of the processor's time.
    assert len(seen) == 1 and seen[0] < 32 * GIB and os.times().user - begun < 20


@pytest.fixture
def interruptible():
    """Whoever is started in the background by a shell inherits that Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_it(long, interruptible):
    path = long(64 * GIB)
    before = bytes_read()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        tensorseal.digest(path)
    timer.join()
    assert bytes_read() - before < 32 * GIB


def test_threads_verify_at_once(signed_model, keys):
    who = Key(keys[1])
    found: list[object] = []

    def verify() -> None:
        try:
            found.append(tensorseal.verify(signed_model, policy=who).root)
        except Exception as error:  # noqa: BLE001 - told by the assertion below
            found.append(error)

    threads = [threading.Thread(target=verify) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and str(found[0]).startswith("sha256:")


def test_a_callback_may_call_back(signed_model, keys):
    inner: list[str] = []

    def progress(done: int, total: int | None) -> None:
        inner.append(tensorseal.digest(signed_model / "config.json").root)

    tensorseal.verify(signed_model, policy=Key(keys[1]), progress=progress)
    assert inner and len(set(inner)) == 1
