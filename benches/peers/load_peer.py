#!/usr/bin/env python3
"""One load of all tensors of a model, in a process of its own, by one of the programs that people use.

`serve SOCKET` imports all of them once, and makes a process for each load that `ask SOCKET CASE ..` asks for: importing torch takes longer
than most loads, and is told apart (`import MODULE`). A load begins with imported modules and nothing else, and ends with all tensors in
private memory that its process has just allocated: that is looked at after the clock has stopped, as are the tensors. `convert` writes the
same tensors in the formats of torch and tensorizer, and prints what they must be.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pages import resident

MODULES = (
    "torch", "safetensors.torch", "fastsafetensors", "tensorizer", "runai_model_streamer", "model_signing.verifying", "blake3",
    "tensorseal.loading",
)  # fmt: skip
# Starts a thread when it is imported, which a process that is made later has not got: imported there, before the clock.
LATE = ("hf_xet",)
HEAP = 32 << 20
Tensors = Mapping[str, Any]
Asked = argparse.Namespace


class Refused(Exception):
    """The tensors, the file or the memory are not what was asked for."""


# ---- the loads: each gives the tensors, and whatever has to live as long as they do -----------------------------


def tensorseal(asked: Asked) -> tuple[Tensors, object]:
    import tensorseal

    policy = tensorseal.Key(asked.public_key)
    return tensorseal.load_file(asked.file, policy=policy, bundle=asked.signature, threads=asked.threads), None


def cloned(tensors: Tensors) -> Tensors:
    """Maps of the file became this process's own bytes."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def safetensors(asked: Asked) -> tuple[Tensors, object]:
    from safetensors.torch import load_file

    return cloned(load_file(asked.file)), None


def safe_open(asked: Asked) -> tuple[Tensors, object]:
    from safetensors import safe_open as opened

    with opened(asked.file, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, None  # noqa: SIM118 (it is no dict)


def fastsafetensors(asked: Asked) -> tuple[Tensors, object]:
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    loader = SafeTensorsFileLoader(SingleGroup(), device="cpu", nogds=True, max_threads=asked.threads)
    loader.add_filenames({0: [str(asked.file)]})
    buffers = loader.copy_files_to_device()
    # The tensors lie in the loader's memory.
    return {name: buffers.get_tensor(name) for name in loader.get_keys()}, (loader, buffers)


def runai(asked: Asked) -> tuple[Tensors, object]:
    from runai_model_streamer import SafetensorsStreamer

    with SafetensorsStreamer() as streamer:
        streamer.stream_file(str(asked.file))
        return dict(streamer.get_tensors()), None


def runai_buffered(asked: Asked) -> tuple[Tensors, object]:
    # By itself it reads past the page cache (io_uring, O_DIRECT), however warm the file is.
    os.environ.update(RUNAI_STREAMER_FS_STRATEGY="sync_buffered", RUNAI_STREAMER_CONCURRENCY=str(asked.threads))
    return runai(asked)


def tensorizer(asked: Asked, verify: bool = False) -> tuple[Tensors, object]:
    from tensorizer import TensorDeserializer

    file = str(asked.file)
    with TensorDeserializer(file, device="cpu", num_readers=asked.threads, verify_hash=verify, lazy_load=False) as opened:
        return dict(opened.items()), None


def torch_load(asked: Asked) -> tuple[Tensors, object]:
    import torch

    return torch.load(asked.file, weights_only=True), None


def torch_load_mapped(asked: Asked) -> tuple[Tensors, object]:
    import torch

    return cloned(torch.load(asked.file, weights_only=True, mmap=True)), None


LOADS: dict[str, Callable[[Asked], tuple[Tensors, object]]] = {
    "tensorseal": tensorseal,
    "safetensors": safetensors,
    "safe-open": safe_open,
    "fastsafetensors": fastsafetensors,
    "runai": runai,
    "runai-buffered": runai_buffered,
    "tensorizer": tensorizer,
    "tensorizer-verify": lambda asked: tensorizer(asked, verify=True),
    "torch": torch_load,
    "torch-mmap": torch_load_mapped,
}


# ---- the checks of those that have none: a pass over the file, before it is loaded ----------------------------


def blake3_pass(asked: Asked) -> None:
    import blake3

    if blake3.blake3(max_threads=asked.threads).update_mmap(asked.file).hexdigest() != asked.digest_of_file:
        raise Refused(f"{asked.file} has another BLAKE3 digest")


def xet_pass(asked: Asked) -> None:
    import hf_xet

    if hf_xet.hash_files([str(asked.file)])[0].hash != asked.digest_of_file:
        raise Refused(f"{asked.file} has another Xet hash")


def model_signing_pass(asked: Asked) -> None:
    from model_signing import verifying as untyped

    verifying: Any = untyped
    verifying.Config().use_elliptic_key_verifier(public_key=asked.public_key).verify(asked.file.parent, asked.signature)


CHECKS: dict[str, Callable[[Asked], None]] = {"blake3": blake3_pass, "xet": xet_pass, "model-signing": model_signing_pass}


# ---- looking at what was loaded -----------------------------------------------------------------------------------


def memory_of(tensor: Any) -> memoryview:
    """The bytes of a tensor of torch, or of an array of NumPy, where they lie."""
    if hasattr(tensor, "untyped_storage"):
        import torch

        tensor = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return memoryview(tensor).cast("B")


def digest(tensors: Tensors) -> str:
    """Over all tensors and their names, by their names."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        hasher.update(name.encode() + b"\0")
        hasher.update(memory_of(tensors[name]))
    return hasher.hexdigest()


def edges(tensors: Tensors) -> str:
    """The same over the first and the last alone."""
    return digest({name: tensors[name] for name in (min(tensors), max(tensors))})


def in_file(file: Path) -> Iterator[tuple[str, int, int]]:
    """Names of the tensors of a safetensors file, and where their bytes are: read here, with no library."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        yield name, 8 + length + begin, 8 + length + end


def expected(file: Path) -> dict[str, object]:
    """What every load must give, from the bytes of the file."""
    with file.open("rb") as opened:

        def read(begin: int, end: int) -> bytes:
            opened.seek(begin)
            return opened.read(end - begin)

        # One tensor after another: the model is larger than what is in memory at once.
        places = {name: (begin, end) for name, begin, end in in_file(file)}
        hasher = hashlib.sha256()
        for name in sorted(places):
            hasher.update(name.encode() + b"\0")
            hasher.update(read(*places[name]))
        first_and_last = {name: memoryview(read(*places[name])) for name in (min(places), max(places))}
    return {"tensors": len(places), "bytes": sum(e - b for b, e in places.values()), "digest": hasher.hexdigest(),
            "edges": edges(first_and_last)}  # fmt: skip


def memory(line: str) -> int:
    """A line of the kernel's account of this process's memory, in bytes."""
    found = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith(line + ":"))
    return int(found.split()[1]) * 1024


def own(tensors: Tensors) -> None:
    """The bytes of each tensor lie in private memory that no file is behind."""
    shared = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, rights, _, _, inode, *_ = line.split()
        if rights[3] != "p" or inode != "0":
            begin, end = (int(number, 16) for number in area.split("-"))
            shared.append((begin, end, line))
    for name, tensor in tensors.items():
        at = tensor.data_ptr() if hasattr(tensor, "data_ptr") else tensor.ctypes.data
        for begin, end, line in shared:
            if begin < at + tensor.nbytes and at < end:
                raise Refused(f"{name} lies in memory that is a file's or shared: {line}")


def load(asked: Asked) -> dict[str, object]:
    """Checks and loads, and says what that took."""
    work, check = LOADS[asked.case], CHECKS[asked.check] if asked.check else None
    if asked.check == "xet":
        import hf_xet  # noqa: F401
    warm_up(asked)
    cached = resident(asked.file)
    # Under pressure the kernel lets some pages of a warm file go; a cold one has none, but for those that it keeps by itself.
    if asked.cached is not None and abs(cached - asked.cached) > (0.05 if asked.cached else 0.01):
        raise Refused(f"{cached:.1%} of {asked.file} is in the page cache, not {asked.cached:.0%}")
    # The peak so far is of no interest.
    Path("/proc/self/clear_refs").write_text("5")
    resident_before, anonymous = memory("VmRSS"), memory("RssAnon")
    before, begun = os.times(), time.perf_counter()
    if check is not None:
        check(asked)
    tensors, keep = work(asked)
    seconds, after = time.perf_counter() - begun, os.times()
    peak = memory("VmHWM") - resident_before
    total = sum(tensor.nbytes for tensor in tensors.values())
    own(tensors)
    # What the heap had before may take some: small tensors alone could lie there.
    if (grown := memory("RssAnon") - anonymous) < 0.99 * total - HEAP:
        raise Refused(f"{total} bytes of tensors, and this process has got {grown} bytes of memory for them")
    answer = {
        "seconds": seconds,
        "cpu": after.user + after.system - before.user - before.system,
        "peak": peak,
        "tensors": len(tensors),
        "bytes": total,
        "edges": edges(tensors),
    }
    if asked.digest:
        answer["digest"] = digest(tensors)
    del keep
    return answer


def warm_up(asked: Asked) -> None:
    """What torch sets up when it is first used is no part of a load."""
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(asked.threads)
        torch.from_dlpack(torch.zeros(1)).view(torch.bfloat16).clone()


# ---- processes -----------------------------------------------------------------------------------------------------


def serve(at: str) -> None:
    """Imports all, and makes a process for each that asks. Ends when whoever started it closes its standard input."""
    missing = {}
    for module in MODULES:
        try:
            importlib.import_module(module)
        except ImportError as why:
            missing[module] = str(why)
    missing |= {module: "not installed" for module in LATE if importlib.util.find_spec(module) is None}
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise Refused(f"importing has started {threads - 1} threads, which the loads would not have")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(at)
    listening.listen()
    print(json.dumps({"missing": missing}), flush=True)
    # A thread that waits for the end would be one that the loads have not got.
    while select.select([listening, sys.stdin], [], [])[0] == [listening]:
        asking, _ = listening.accept()
        if (child := os.fork()) == 0:
            listening.close()
            signal.alarm(200)  # one that hangs would hold up all others
            answer(asking)
        asking.close()
        os.waitpid(child, 0)


def answer(asking: socket.socket) -> None:
    """One load, in a process of its own, with the standard streams of who asked."""
    ended = 1
    try:
        text, descriptors, _, _ = socket.recv_fds(asking, 1 << 16, 2)
        for number, descriptor in enumerate(descriptors, 1):
            os.dup2(descriptor, number)
        told = load(parsed(json.loads(text)))
        used = os.times()
        # What this process has used in all: it is no child of who asked.
        print(json.dumps({**told, "elsewhere": used.user + used.system}), flush=True)
        ended = 0
    except Refused as why:
        print(why, file=sys.stderr, flush=True)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    with contextlib.suppress(OSError):
        asking.send(bytes([ended]))
    # Some of them leave threads behind.
    os._exit(ended)


def ask(at: str, words: list[str]) -> int:
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(at)
    socket.send_fds(asking, [json.dumps(words).encode()], [1, 2])
    ended = asking.recv(1)
    if not ended:
        print("the load died and said nothing: out of memory?", file=sys.stderr)
        return 1
    return ended[0]


def parsed(words: list[str]) -> Asked:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=LOADS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", choices=CHECKS, help="a pass over the file before it is loaded")
    parser.add_argument("--digest-of-file", help="what --check must find")
    parser.add_argument("--public-key", type=Path)
    parser.add_argument("--signature", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cached", type=float, help="what part of the file has to be in the page cache: 0 or 1")
    parser.add_argument("--digest", action="store_true", help="also print a digest over all tensors")
    return parser.parse_args(words)


def convert(file: Path, folder: Path) -> None:
    """The same tensors in the formats of others, and what is expected of all."""
    import blake3
    import hf_xet
    import torch
    from safetensors.torch import load_file
    from tensorizer import TensorSerializer

    tensors, torchs = load_file(file), folder / "model.pt"
    torch.save(tensors, torchs)
    serializer = TensorSerializer(str(folder / "model.tensors"))
    serializer.write_state_dict(tensors)
    serializer.close()
    digests = {path.name: blake3.blake3(max_threads=blake3.blake3.AUTO).update_mmap(path).hexdigest() for path in (file, torchs)}
    xet = hf_xet.hash_files([str(file)])[0].hash
    (folder / "expected.json").write_text(json.dumps({**expected(file), "blake3": digests, "xet": xet}))


def main() -> None:
    verb, *words = sys.argv[1:]
    if verb == "ask":
        sys.exit(ask(words[0], words[1:]))
    elif verb == "serve":
        serve(words[0])
    elif verb == "convert":
        convert(Path(words[0]), Path(words[1]))
    elif verb == "import":
        begun = time.perf_counter()
        importlib.import_module(words[0])
        print(time.perf_counter() - begun)
    else:
        sys.exit(f"there is no verb {verb}")


if __name__ == "__main__":
    main()
