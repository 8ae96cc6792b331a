"""Tensors in the memory of CUDA devices, on the project's driver for machines without one (tests/fakecuda). The driver is
looked for once in a process, so each test is a child: this file again, as a program."""

import ctypes
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import require

require("blake3")

import blake3

DATA = bytes((index * 2654435761 >> 13) & 255 for index in range(200_003))


def expected(data: bytes) -> str:
    return blake3.blake3(data).hexdigest()


# ---- what a library of tensors would do, in the child -----------------------------------------------------------------


class Driver:
    """The calls that whoever allocates memory makes."""

    def __init__(self):
        self.lib = ctypes.CDLL("libcuda.so.1")
        self.contexts = {}
        self("cuInit", 0)
        self.use(0)

    def __call__(self, name, *arguments):
        code = getattr(self.lib, name)(*arguments)
        assert code == 0, (name, code)

    def use(self, device):
        if device not in self.contexts:
            context = ctypes.c_void_p()
            self("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self.contexts[device] = context
        self("cuCtxSetCurrent", self.contexts[device])

    def alloc(self, size):
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address):
        self("cuMemFree_v2", ctypes.c_uint64(address))

    def write(self, address, data):
        self("cuMemcpyHtoD_v2", ctypes.c_uint64(address), data, ctypes.c_size_t(len(data)))

    def stream(self):
        # Not ordered with the legacy default stream.
        handle = ctypes.c_void_p()
        self("cuStreamCreate", ctypes.byref(handle), 1)
        return handle.value

    def write_later(self, address, data, stream):
        pinned = ctypes.c_void_p()
        self("cuMemHostAlloc", ctypes.byref(pinned), ctypes.c_size_t(len(data)), 0)
        ctypes.memmove(pinned, data, len(data))
        self("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), pinned, ctypes.c_size_t(len(data)), ctypes.c_void_p(stream))


class Memory:
    """Bytes on the device, freed with this."""

    def __init__(self, driver, data=None, size=None):
        self.driver, self.size = driver, len(data) if data is not None else size
        self.address = driver.alloc(self.size)
        if data is not None:
            driver.write(self.address, data)

    def __del__(self):
        self.driver.free(self.address)


class Interface:
    """`__cuda_array_interface__`, and nothing else."""

    def __init__(self, memory, shape=None, typestr="|u1", strides=None, at=0, **fields):
        self.memory = memory
        self.fields = {
            "version": 3,
            "data": (memory.address + at, False),
            "shape": (memory.size,) if shape is None else shape,
            "typestr": typestr,
            "strides": strides,
            **fields,
        }

    @property
    def __cuda_array_interface__(self):
        return self.fields


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_uint64),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", DELETER)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


class Dlpack:
    """DLPack as a library would write it, old or versioned. It keeps account of what is asked for and given back."""

    alive = {}

    def __init__(self, memory, shape=None, *, device=(2, 0), dtype=(1, 8, 1), strides=None, at=0, flags=0, version=(1, 1)):
        self.memory, self.shape, self.device = memory, (memory.size,) if shape is None else shape, device
        self.dtype, self.strides, self.at, self.flags, self.version = dtype, strides, at, flags, version
        self.asked = []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **asked):
        self.asked.append(asked)
        row = lambda of: None if of is None else (ctypes.c_int64 * len(of))(*of)
        shape, strides = row(self.shape), row(self.strides)
        tensor = Tensor(
            self.memory.address,
            (ctypes.c_int32 * 2)(*self.device),
            len(self.shape),
            *self.dtype,
            ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)),
            ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64)) if strides else None,
            self.at,
        )
        key = len(self.asked), id(self)
        # What is given back is looked at by nobody any more.
        deleter = DELETER(lambda _: self.alive.pop(key) and None)
        if self.version is None:
            name, managed = b"dltensor", Managed(tensor, None, deleter)
        else:
            name, managed = b"dltensor_versioned", Versioned(*self.version, None, deleter, self.flags, tensor)
        self.alive[key] = (managed, deleter, shape, strides, self.memory, name)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(managed), name, None)


# ---- the children ------------------------------------------------------------------------------------------------------


def refused(error, call, *words):
    try:
        call()
    except error as raised:
        for word in words:
            assert word in str(raised), (word, str(raised))
        return raised
    raise AssertionError("it was not refused")


def child_digests():
    import tensorseal
    from tensorseal import tensors

    driver = Driver()
    memory = Memory(driver, DATA)
    view = memoryview(DATA)
    cases = [
        (Interface(memory), DATA),
        (Interface(memory, (100, 1000), "<f2"), DATA[:200_000]),
        (Interface(memory, (3, 7), at=5), DATA[5:26]),
        (Interface(memory, (100, 300), strides=(2000, 1), at=1), b"".join(view[1 + 2000 * row :][:300] for row in range(100))),
        (Interface(memory, (20, 10), "<u4", (4, 400)), None),
        (Interface(memory, (0,), data=(0, False)), b""),
        (Interface(memory, version=2), DATA),
        (Interface(memory, (10, 10), "<V2"), DATA[:200]),
        (Dlpack(memory), DATA),
        (Dlpack(memory, version=None), DATA),
        (Dlpack(memory, (100, 1000), dtype=(4, 16, 1), at=3), DATA[3:200_003]),
        (Dlpack(memory, (10, 100), dtype=(17, 4, 2)), DATA[:1000]),
        (Dlpack(memory, (10, 200), dtype=(17, 4, 1)), DATA[:1000]),
        (Dlpack(memory, (50, 40), strides=(1000, 1), version=None), b"".join(view[1000 * row :][:40] for row in range(50))),
        (Dlpack(memory, device=(13, 0)), DATA),
    ]
    columns = [DATA[400 * column + 4 * row :][:4] for row in range(20) for column in range(10)]
    cases[4] = (cases[4][0], b"".join(columns))
    for tensor, data in cases:
        info = tensors.info(tensor)
        assert info.device == "cuda:0" and info.nbytes == len(data)
        assert tensors.digest(tensor) == expected(data), info
    assert tensors.digests([tensor for tensor, _ in cases]) == [expected(data) for _, data in cases]
    infos = [tensors.info(tensor) for tensor, _ in cases]
    assert [(infos[index].dtype, infos[index].shape) for index in (1, 7, 10, 11, 12)] == [
        ("F16", (100, 1000)),
        (None, (10, 10)),
        ("BF16", (100, 1000)),
        ("F4", (10, 200)),
        ("F4", (10, 200)),
    ]
    # Some of a string on the host, in memory of Python's and elsewhere, some on the device.
    parts = [b"header", cases[3][0], bytearray(b"x" * 3000), cases[0][0], b"end"]
    whole = b"header" + cases[3][1] + b"x" * 3000 + DATA + b"end"
    assert tensors.digest_parts(parts) == expected(whole)
    gc.collect()
    assert not Dlpack.alive, "everything that DLPack lent was given back"


def child_streams():
    from tensorseal import tensors

    driver = Driver()
    other = DATA[::-1]
    # Older than the engine's: what nothing orders, this driver runs newest first.
    streams = [driver.stream() for _ in range(20)]
    # To free memory is to wait for all streams.
    kept = []

    def fresh():
        memory = Memory(driver, DATA)
        kept.append(memory)
        stream = streams.pop()
        driver.write_later(memory.address, other, stream)
        return memory, stream

    class Torch:
        def __init__(self, stream):
            self.cuda_stream = stream

    class Protocol:
        def __init__(self, stream):
            self.stream = stream

        def __cuda_stream__(self):
            return (0, self.stream)

    for make in (lambda stream: stream, Torch, Protocol):
        memory, stream = fresh()
        assert tensors.digest(Interface(memory), stream=make(stream)) == expected(other)
        memory, stream = fresh()
        tensor = Dlpack(memory)
        assert tensors.digest(tensor, stream=make(stream)) == expected(other)
        assert tensor.asked[-1]["stream"] == stream
    # The object's own stream.
    memory, stream = fresh()
    assert tensors.digest(Interface(memory, stream=stream)) == expected(other)
    # Nothing said: the memory as it is, since lazy streams have not begun. So it was the order that made it right above.
    memory, stream = fresh()
    assert tensors.digest(Interface(memory), stream=-1) == expected(DATA)
    memory, stream = fresh()
    assert tensors.digest(Interface(memory)) == expected(DATA)
    # What is not said in DLPack is the legacy default stream.
    memory, stream = fresh()
    tensor = Dlpack(memory)
    assert tensors.digest(tensor) == expected(DATA) and tensor.asked[-1]["stream"] == 1
    # Two streams in one call.
    (one, first), (two, second) = fresh(), fresh()
    given = [Interface(one, stream=first), Interface(two, stream=second), b"host"]
    assert tensors.digests(given) == [expected(other), expected(other), expected(b"host")]


def child_refusals():
    import tensorseal
    from tensorseal import tensors

    driver = Driver()
    memory = Memory(driver, DATA)
    usage = tensorseal.UsageError
    data = ctypes.create_string_buffer(DATA)

    class Host:
        address, size = ctypes.addressof(data), len(DATA)

    digest = lambda tensor: lambda: tensors.digest(tensor, name="w")
    refused(usage, digest(Interface(Host)), '"w"', "host memory")
    refused(usage, digest(Dlpack(Host)), '"w"', "host memory")
    longer = Memory(driver, DATA)
    longer.size += 4096
    refused(usage, digest(Interface(longer)), '"w"', "only 20", "are allocated")
    refused(usage, digest(Interface(memory, strides=(-1,))), '"w"', ".contiguous()")
    refused(usage, digest(Interface(memory, (10,), ">f4")), '"w"', "big-endian")
    refused(usage, digest(Dlpack(memory, flags=2)), '"w"', "copy")
    refused(usage, digest(Dlpack(memory, version=(2, 0))), '"w"', "DLPack 2.0")
    refused(usage, digest(Dlpack(memory, dtype=(3, 64, 1))), '"w"', "no type")
    refused(usage, digest(Dlpack(memory, (-1,))), '"w"', "less than 0")
    refused(usage, digest(Dlpack(memory, (3,), dtype=(17, 4, 1))), '"w"', "within a byte")
    refused(usage, digest(Dlpack(memory, (8, 8), dtype=(17, 4, 1), strides=(16, 1))), '"w"', ".contiguous()")
    # The second device's memory.
    driver.use(1)
    there = Memory(driver, DATA)
    refused(usage, digest(Dlpack(there)), '"w"', "cuda:1")
    assert tensors.info(Interface(there)).device == "cuda:1"
    assert tensors.digest(Interface(there)) == expected(DATA) == tensors.digest(Dlpack(there, device=(2, 1)))
    assert tensors.digest_parts([Interface(memory), b"and", Interface(there)]) == expected(DATA + b"and" + DATA)
    # A stream of the other device would end all work on this one, and not only be refused.
    for fields in ({"device": SimpleNamespace(type="cuda", index=0)}, {"device_id": 0}):
        stream = SimpleNamespace(cuda_stream=driver.stream(), **fields)
        refused(usage, lambda stream=stream: tensors.digest(Interface(there), stream=stream), "cuda:1", "stream", "cuda:0")
        assert tensors.digest(Interface(there)) == expected(DATA)
    refused(tensorseal.NoAnswerError, digest(Dlpack(there, device=(2, 2))), '"w"', "cuda:2")
    driver.use(1)
    del there
    driver.use(0)
    gc.collect()
    assert not Dlpack.alive, "also what was refused was given back"


def child_owners():
    from tensorseal import tensors
    from tensorseal._lend import lend
    import tensorseal

    driver = Driver()
    for give in (Interface, Dlpack):
        memory = Memory(driver, DATA)
        gone = weakref.ref(memory)
        lent = lend(give(memory))
        del memory
        gc.collect()
        assert gone() is not None
        assert tensorseal._native.digests([lent]) == [expected(DATA)]
        del lent
        gc.collect()
        assert gone() is None


def child_fails():
    """One call of the driver fails from some point on: an exception, and nothing of the device is used any more."""
    import tensorseal
    from tensorseal import tensors

    driver = Driver()
    memory = Memory(driver, DATA)
    error = refused(tensorseal.NoAnswerError, lambda: tensors.digest(Interface(memory)), "cuda:0")
    assert error.kind == "device", error.kind
    print(error)
    assert tensors.digest(b"host") == expected(b"host")


def child_seal():
    import tensorseal

    driver = Driver()
    host = bytearray(DATA)
    memory, other = Memory(driver, DATA), Memory(driver, DATA[:5000])
    named = {"w": Interface(memory), "rows": Interface(memory, (10, 100), strides=(1000, 1)), "v": Interface(other), "h": host}
    seal = tensorseal.Seal.take(named, name="mixed", group=4096)
    assert seal.reverify(named).bytes == seal.total == len(DATA) * 2 + 6000
    driver.write(memory.address + 70_000, b"\xff")
    error = refused(tensorseal.VerifyError, lambda: seal.reverify(named), '"w" has changed')
    assert [(of.name, of.kind, of.ranges) for of in error.differences] == [("w", "changed", ((69632, 73728),))]
    seal.reseal(named)
    host[3] ^= 1
    refused(tensorseal.VerifyError, lambda: seal.reverify(named), '"h" has changed')
    assert 'tensorseal_seal_covered_bytes{seal="mixed",device="cuda:0"}' in tensorseal.exposition([seal])
    assert 'tensorseal_seal_covered_bytes{seal="mixed",device="cpu"}' in tensorseal.exposition([seal])


# ---- the tests ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def driver(tmp_path_factory) -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[2] / "target"))
    library = target / "debug" / "libfakecuda.so"
    if not library.is_file():
        message = f"{library} is not there: cargo build -p fakecuda"
        if os.environ.get("TENSORSEAL_REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("driver")
    for name in ("libcuda.so", "libcuda.so.1"):
        (folder / name).symlink_to(library.resolve())
    return folder


def run(name: str, folder: Path | None, tmp_path: Path, **settings: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("FAKECUDA_")}
    env |= {"LD_LIBRARY_PATH": "" if folder is None else str(folder), "TENSORSEAL_CUDA_POLICY": "plain"}
    env |= {"XDG_CACHE_HOME": str(tmp_path), **{f"FAKECUDA_{key}": value for key, value in settings.items()}}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    made = subprocess.run([sys.executable, __file__, name], env=env, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


@pytest.mark.parametrize("streams", ["lazy", "eager"])
def test_memory_of_a_device_has_the_digest_of_its_bytes(driver, tmp_path, streams):
    run("digests", driver, tmp_path, STREAMS=streams)


def test_work_in_the_callers_stream_comes_first(driver, tmp_path):
    run("streams", driver, tmp_path)


def test_other_memory_is_refused(driver, tmp_path):
    run("refusals", driver, tmp_path, DEVICES="9.0,9.0")


def test_memory_is_kept_while_it_is_needed(driver, tmp_path):
    run("owners", driver, tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        # While the device is tested, and while it hashes.
        {"FAIL": "cuLaunchKernel:2:719"},
        {"FAIL": "cuLaunchKernel:8:719"},
        {"FAIL": "cuMemcpyDtoHAsync_v2:1:719"},
        {"FAIL": "cuPointerGetAttribute:1:999"},
        {"FAIL": "cuEventSynchronize:1:700"},
        {"FAULT": "8:700"},
        {"LOSE": "10"},
        {"SKIP": "8"},
        {"GONE": "100:719"},
        {"DEVICES": ""},
    ],
    ids=lambda settings: "-".join(f"{key}={value}" for key, value in settings.items()),
)
def test_a_failure_is_an_exception(driver, tmp_path, settings):
    if settings == {"DEVICES": ""}:
        run("absent", driver, tmp_path, **settings)
    else:
        run("fails", driver, tmp_path, **settings)


def child_absent():
    import tensorseal
    from tensorseal import tensors

    class Somewhere:
        address, size = 4096, 100

    refused(tensorseal.NoAnswerError, lambda: tensors.digest(Dlpack(Somewhere), name="w"), '"w"', "cuda:0 is not available")


def test_without_a_driver_there_is_no_answer(tmp_path):
    run("absent", None, tmp_path)


def test_seals_lie_over_devices_and_the_host(driver, tmp_path):
    run("seal", driver, tmp_path)


if __name__ == "__main__":
    globals()[f"child_{sys.argv[1]}"]()
