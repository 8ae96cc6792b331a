"""Loading to a CUDA device, on the driver of tests/fakecuda. It counts when a process starts, so that each test is a child:
this file again, as a program."""

import ctypes
import gc
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# ---- what a consumer would do, in the child ---------------------------------------------------------------------------


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("ordinal", ctypes.c_int32)]


class _Type(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ]


def _take(capsule: object, kind: type, name: bytes) -> tuple[Any, int]:
    """As a consumer of DLPack takes a capsule: what is in it is the consumer's to delete."""
    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = api.PyCapsule_GetPointer(capsule, name)
    used = {b"dltensor": b"used_dltensor", b"dltensor_versioned": b"used_dltensor_versioned"}[name]
    assert api.PyCapsule_SetName(capsule, ctypes.c_char_p(used)) == 0
    _NAMES.append(used)
    return kind.from_address(address), address


# A capsule does not copy its name.
_NAMES: list[bytes] = []


def _driver() -> ctypes.CDLL:
    driver = ctypes.CDLL("libcuda.so.1")
    context = ctypes.c_void_p()
    assert driver.cuInit(0) == 0
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert driver.cuCtxPushCurrent_v2(context) == 0
    return driver


def _read(driver: ctypes.CDLL, address: int, size: int) -> bytes:
    into = ctypes.create_string_buffer(size)
    code = driver.cuMemcpyDtoH_v2(into, ctypes.c_uint64(address), ctypes.c_size_t(size))
    assert code == 0, code
    return into.raw


def _files(model: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of each tensor, read by nobody's code but this."""
    tensors = {}
    for path in model.glob("*.safetensors") if model.is_dir() else [model]:
        data = path.read_bytes()
        start = 8 + struct.unpack("<Q", data[:8])[0]
        for name, of in json.loads(data[8:start]).items():
            begin, end = of["data_offsets"]
            tensors[name] = of["dtype"], of["shape"], data[start + begin : start + end]
    return tensors


TYPES = {"F32": ("<f4", (2, 32, 1)), "F16": ("<f2", (2, 16, 1)), "I64": ("<i8", (0, 64, 1)), "BOOL": ("|b1", (6, 8, 1)),
         "F64": ("<f8", (2, 64, 1)), "BF16": (None, (4, 16, 1)), "U8": ("|u1", (1, 8, 1))}  # fmt: skip


def _loaded(model: str, key: str) -> None:
    import tensorseal

    driver = _driver()
    loaded = tensorseal.load_model(model, policy=tensorseal.Key(key), device="cuda")
    assert loaded.report.checked == {"blake3": "cuda:0"}, loaded.report
    files = _files(Path(model))
    natives = loaded._native.tensors()
    assert {native.name for native in natives} == set(files)
    for native in natives:
        dtype, shape, data = files[native.name]
        assert (native.device, native.dtype, list(native.shape)) == ("cuda:0", dtype, shape)
        typestr, code = TYPES[dtype]
        assert native.address % (code[1] // 8) == 0, native
        assert not hasattr(native, "__array_interface__"), "it is no memory of the host"
        lent = native if typestr else native.as_bytes()
        assert typestr or not hasattr(native, "__cuda_array_interface__")
        interface = lent.__cuda_array_interface__
        assert interface["typestr"] == (typestr or "|u1") and interface["version"] == 3
        assert (interface["strides"], interface["stream"]) == (None, None)
        assert list(interface["shape"]) == (shape if typestr else [len(data)])
        address, read_only = interface["data"]
        assert not read_only and _read(driver, address, len(data)) == data, native

        assert native.__dlpack_device__() == (2, 0)
        strides = [1]
        for size in reversed(shape[1:]):
            strides.insert(0, strides[0] * size)
        capsules = [(native.__dlpack__(stream=1, max_version=(1, 1)), _Versioned, b"dltensor_versioned"),
                    (native.__dlpack__(stream=-1), _Managed, b"dltensor")]  # fmt: skip
        for capsule, kind, name in capsules:
            managed, at = _take(capsule, kind, name)
            tensor = managed.tensor
            assert (tensor.data, tensor.byte_offset) == (native.address, 0)
            assert (tensor.device.kind, tensor.device.ordinal) == (2, 0)
            assert (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) == code
            assert list(tensor.shape[: tensor.ndim]) == shape
            assert list(tensor.strides[: tensor.ndim]) == strides[: len(shape)]
            if kind is _Versioned:
                assert managed.major == 1 and managed.flags == 0
            managed.deleter(at)


def _outlives(model: str, key: str) -> None:
    import tensorseal

    driver = _driver()
    loaded = tensorseal.load_model(model, policy=tensorseal.Key(key), device="cuda:0")
    native = loaded._native.tensor("lm_head.weight")
    assert native is not None
    expected, address = _files(Path(model))["lm_head.weight"][2], native.address
    managed, at = _take(native.__dlpack__(max_version=(1, 0)), _Versioned, b"dltensor_versioned")
    del loaded, native
    gc.collect()
    assert _read(driver, address, len(expected)) == expected, "whoever took the capsule keeps the memory"
    managed.deleter(at)
    into = ctypes.create_string_buffer(4)
    assert driver.cuMemcpyDtoH_v2(into, ctypes.c_uint64(address), ctypes.c_size_t(4)) != 0, "it is given back with the last"


def _refused(model: str, key: str) -> None:
    import tensorseal

    for call in (
        lambda: tensorseal.load_model(model, policy=tensorseal.Key(key), device="cuda"),
        lambda: tensorseal.safe_open(Path(model) / "model-00002-of-00002.safetensors", "pt", 0, policy=tensorseal.Key(key)),
    ):
        try:
            loaded = call()
        except tensorseal.TensorsealError as error:
            kinds = sorted({difference.kind for difference in getattr(error, "differences", [])})
            print(type(error).__name__, error.kind, *kinds)
        else:
            print("loaded")
            if isinstance(loaded, tensorseal.LoadedModel):
                driver, files = _driver(), _files(Path(model))
                for native in loaded._native.tensors():
                    data = files[native.name][2]
                    assert _read(driver, native.address, len(data)) == data, native


# ---- the tests ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def _run(name: str, model: Path, key: Path, driver: Path | None, cache: Path, **settings: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAKECUDA_")}
    # The plain way of adding, so that nothing is measured first; and a cache of its own.
    environment |= {"LD_LIBRARY_PATH": "" if driver is None else str(driver), "TENSORSEAL_CUDA_POLICY": "plain"}
    environment |= {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment |= {f"FAKECUDA_{name}": value for name, value in settings.items()}
    command = [sys.executable, __file__, name, str(model), str(key)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_what_lies_on_the_device_is_what_is_in_the_files(signed_model, keys, fake_driver, tmp_path) -> None:
    _run("loaded", signed_model, keys[1], fake_driver, tmp_path)


def test_memory_of_a_device_outlives_the_model(signed_model, keys, fake_driver, tmp_path) -> None:
    _run("outlives", signed_model, keys[1], fake_driver, tmp_path)


def test_no_pointer_to_the_device_is_misaligned(keys, cli, fake_driver, tmp_path) -> None:
    tensors = {"one": ("U8", [3]), "wide": ("F64", [5]), "half": ("BF16", [7, 3]), "last": ("F32", [2, 3])}
    sizes = {"U8": 1, "F64": 8, "BF16": 2, "F32": 4}
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        count = sizes[dtype]
        for size in shape:
            count *= size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + count]}
        at += count
    text = json.dumps(header).encode()
    text += b" " * ((5 - len(text)) % 8)
    file = tmp_path / "odd.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(number * 7 % 251 for number in range(at)))
    made = cli("sign", "key", file, "--private-key", keys[0], "--signature", tmp_path / "odd.safetensors.sig")
    assert made.returncode == 0, made.stderr
    _run("loaded", file, keys[1], fake_driver, tmp_path)


def test_what_arrived_otherwise_is_not_handed_out(signed_model, keys, fake_driver, tmp_path) -> None:
    # Every copy to the device in turn: those of its own tests, and those of the model.
    told = set()
    for copy in range(1, 24, 2):
        told |= set(_run("refused", signed_model, keys[1], fake_driver, tmp_path, FLIP=f"{copy}:77"))
    # There are fewer copies than that: what was loaded is what it should be, as the child has looked.
    assert {"VerifyError differs changed", "NoAnswerError device", "loaded"} <= told, told
    assert told <= {"VerifyError differs changed", "VerifyError differs miscopied", "NoAnswerError device", "loaded"}, told


def test_a_changed_file_and_a_device_that_is_not_there(signed_model, keys, fake_driver, tmp_path) -> None:
    assert _run("refused", signed_model, keys[1], None, tmp_path) == ["NoAnswerError device"] * 2
    assert _run("refused", signed_model, keys[1], fake_driver, tmp_path, DEVICES="") == ["NoAnswerError device"] * 2
    file = signed_model / "model-00002-of-00002.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert _run("refused", signed_model, keys[1], fake_driver, tmp_path) == ["VerifyError differs changed"] * 2


if __name__ == "__main__":
    {"loaded": _loaded, "outlives": _outlives, "refused": _refused}[sys.argv[1]](*sys.argv[2:])
