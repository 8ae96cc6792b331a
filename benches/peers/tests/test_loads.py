"""The processes that load, and what is asked of them: with a stand-in for safetensors that reads by NumPy, and lies when it is told to."""

import hashlib
import json
import mmap
import os
import signal
import sys
from pathlib import Path

import data
import load_peer
import loads
import pytest
from cases import OURS, Disagreement, Here
from measure import one
from machine import Others

STAND_IN = '''
import json, mmap, os, signal, struct
import numpy as np
at = os.environ["STAND_IN"]

class Own(np.ndarray):
    def clone(self):
        return self if self.given else self.copy()

def parts(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return 8 + length, json.loads(file.read(length))

def load_file(path, whole=None):
    lie = open(at).read()
    if lie == "raise":
        raise RuntimeError("out of paper")
    if lie == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if lie == "before":
        whole = BEFORE
    elif lie == "mapped":
        whole = np.memmap(path, mode="r")
    elif lie == "shared":
        whole = np.frombuffer(mmap.mmap(-1, os.path.getsize(path)), np.uint8)
        whole[:] = np.fromfile(path, np.uint8)
    else:
        whole = np.fromfile(path, np.uint8)
    start, header = parts(path)
    tensors = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        Own.given = lie in ("before", "mapped", "shared")
        tensors[name] = whole[start + begin : start + end].view(Own)
    flipped = {"flip-middle": sorted(tensors)[len(tensors) // 2], "flip-first": min(tensors), "flip-last": max(tensors)}.get(lie)
    if flipped:
        tensors[flipped][-1] ^= 1
    if lie == "lose":
        del tensors[sorted(tensors)[1]]
    return tensors

BEFORE = np.fromfile(os.environ["STAND_IN_FILE"], np.uint8)
'''


class StandIn(loads.Loads):
    """The real thing, but for what it would install, build and sign."""

    def __init__(self, here: Here) -> None:
        self.here, self.python = here, sys.executable
        self.folder = self.converted = data.model(here.work, 48 << 20)
        self.file = self.folder / loads.FILE
        self.known = load_peer.expected(self.file)
        package = here.work / "package" / "safetensors"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "torch.py").write_text(STAND_IN)
        self.lie = here.work / "lie"
        self.lie.write_text("")
        self.environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1",
                            "STAND_IN": str(self.lie), "STAND_IN_FILE": str(self.file)}  # fmt: skip
        self.socket = here.work / "loads.sock"
        self.missing = self.serve()

    def told(self, lie: str, first: bool = False, *more: str) -> None:
        self.lie.write_text(lie)
        case = self.by("load-warm", loads.SAFETENSORS)
        case.argv += more
        one(case, self.here, Others(), first)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    work = tmp_path_factory.mktemp("loads")
    return StandIn(Here(work, "/bin/true", work / "key.pem", work / "key.pub"))


def test_what_a_file_holds_is_read_without_any_library(stand_in: StandIn) -> None:
    whole = stand_in.file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    hasher = hashlib.sha256()
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        hasher.update(name.encode() + b"\0" + whole[8 + length + begin : 8 + length + end])
    assert stand_in.known["digest"] == hasher.hexdigest()
    assert (stand_in.known["tensors"], stand_in.known["bytes"]) == (len(header), len(whole) - 8 - length)


def test_an_honest_load_is_accepted(stand_in: StandIn) -> None:
    stand_in.told("", first=True)
    stand_in.told("")


@pytest.mark.parametrize(("lie", "first", "says"), [
    ("flip-middle", True, "digest: "),
    ("flip-first", False, "edges: "),
    ("flip-last", False, "edges: "),
    ("lose", False, "tensors: "),
    ("raise", False, "out of paper"),
    ("die", False, "died and said nothing"),
    ("mapped", False, "lies in memory that is a file's or shared"),
    ("shared", False, "lies in memory that is a file's or shared"),
    ("before", False, "bytes of tensors, and this process has got"),
])  # fmt: skip
def test_a_load_that_lies_ends_the_run(stand_in: StandIn, lie: str, first: bool, says: str) -> None:
    with pytest.raises(Disagreement, match=says):
        stand_in.told(lie, first)


def test_a_warm_file_is_not_taken_for_a_cold_one(stand_in: StandIn) -> None:
    with pytest.raises(Disagreement, match="100.0% of .* is in the page cache, not 0%"):
        stand_in.told("", False, "--cached", "0")


def test_a_cold_file_is_not_taken_for_a_warm_one(stand_in: StandIn) -> None:
    empty = stand_in.here.work / "empty"
    with empty.open("wb") as file:
        # A hole that nobody has read.
        file.truncate(1 << 20)
    asked = load_peer.parsed(["safetensors", str(empty), "--cached", "1"])
    with pytest.raises(load_peer.Refused, match="0.0% of .* is in the page cache, not 100%"):
        load_peer.load(asked)


def test_a_pass_that_finds_another_digest_ends_the_run(stand_in: StandIn) -> None:
    stand_in.told("", False, "--check", "blake3", "--digest-of-file", b3(stand_in.file))
    with pytest.raises(Disagreement, match="has another BLAKE3 digest"):
        stand_in.told("", False, "--check", "blake3", "--digest-of-file", "00" * 32)


def b3(file: Path) -> str:
    import blake3

    return blake3.blake3(file.read_bytes()).hexdigest()


def test_ours_in_rust_has_the_digest_of_the_file(stand_in: StandIn) -> None:
    size = stand_in.file.stat().st_size
    right = {loads.FILE: "ab" * 32}

    def told(count: int, digests: dict[str, str]) -> None:
        stand_in.is_right_in_rust(right, json.dumps({"seconds": 1.0, "bytes": count, "digests": digests}))

    told(size, right)
    for count, digests in ((size - 1, right), (size, {}), (size, {loads.FILE: "cd" * 32})):
        with pytest.raises(Disagreement):
            told(count, digests)


def test_a_look_at_the_tensors_cannot_be_left_out(stand_in: StandIn) -> None:
    with pytest.raises(Disagreement, match="no look at the tensors"):
        stand_in.is_right(json.dumps({"seconds": 1.0, "tensors": stand_in.known["tensors"]}))


def test_a_peer_that_is_not_there_is_skipped_with_the_reason_and_ours_is_not(stand_in: StandIn) -> None:
    # There is no torch beside the stand-in.
    assert "torch" in stand_in.missing
    assert stand_in.all_by("load-warm", (loads.TORCH,)) == []
    assert stand_in.here.skipped[-1]["program"] == "torch"
    with pytest.raises(Disagreement, match="our package cannot be imported"):
        stand_in.all_by("load-warm", (loads.MINE,))


def test_who_runs_beside_ours_is_checked_warm_and_cold(stand_in: StandIn) -> None:
    needed = {"safetensors", "fastsafetensors", "runai-model-streamer", "tensorizer", "torch", "hf_xet", "model_signing"}
    for peers in (loads.WARM, loads.COLD):
        assert {peer.program for peer in peers} == needed
        assert OURS not in {peer.program for peer in peers}
        assert {peer.signed for peer in peers} == {"", "sha256", "blake3"}
        # Each has a pass before it, or a check of its own.
        assert all(peer.check or peer.case == "tensorizer-verify" for peer in peers)
    assert not any(peer.check for peer in (*loads.WARM_ALONE, *loads.COLD_ALONE))


def test_the_process_that_has_imported_all_ends_with_who_started_it(stand_in: StandIn, tmp_path: Path) -> None:
    other = object.__new__(loads.Loads)
    other.python, other.environment, other.socket = stand_in.python, stand_in.environment, tmp_path / "loads.sock"
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reading)
        other.serve()
        os.write(writing, b"up")
        # No handler runs: this is how a harness dies that is killed.
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert os.read(reading, 2) == b"up"
    os.close(reading)
    with pytest.raises(OSError):
        # Its socket is refused as soon as it has gone.
        for _ in range(100):
            load_peer.time.sleep(0.05)
            load_peer.socket.socket(load_peer.socket.AF_UNIX).connect(str(other.socket))


def test_private_memory_is_told_from_a_file_s(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    load_peer.own({"a": numpy.ones(1 << 20), "small": numpy.ones(1)})
    path = tmp_path / "file"
    path.write_bytes(bytes(mmap.PAGESIZE))
    with pytest.raises(load_peer.Refused):
        # Also where writing to it would not change the file.
        load_peer.own({"a": numpy.memmap(path, mode="c")})
