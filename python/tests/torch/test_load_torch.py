"""Loading into torch: no copy, every type, memory that lives as long as a tensor of it."""

import gc
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import require

require("torch")
require("safetensors")

import safetensors
import safetensors.torch
import torch

import tensorseal


@pytest.fixture
def key(keys: tuple[Path, Path]) -> tensorseal.Key:
    return tensorseal.Key(keys[1])


def _sign(cli, keys, model: Path, signature: Path) -> None:
    made = cli("sign", "key", model, "--private-key", keys[0], "--signature", signature)
    assert made.returncode == 0, made.stderr


# Names of safetensors, by the element sizes that they have there.
WHOLE = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}


def _raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b""


def _write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]], padding: int = 8) -> None:
    """A file of safetensors, by its specification and not by a library's ideas of what may be in it."""
    header: dict[str, Any] = {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % padding)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def _all_types() -> dict[str, tuple[str, list[int], bytes]]:
    # Bits that are no NaN in any type, so that values can be compared; of 6 elements each.
    data = {name: bytes((7 * at) % 48 for at in range(6 * dtype.itemsize)) for name, dtype in WHOLE.items()}
    data["BOOL"] = bytes([1, 0, 1, 1, 0, 0])
    by_size = sorted(data, key=lambda name: -WHOLE[name].itemsize)
    tensors = {f"t.{name}": (name, [2, 3], data[name]) for name in by_size}
    tensors["packed"] = ("F4", [2, 6], bytes(range(6)))
    tensors["scalar"] = ("U8", [], b"\x07")
    tensors["none"] = ("U8", [0, 4], b"")
    return tensors


def test_every_type_is_what_safetensors_makes_of_it(tmp_path: Path, key: tensorseal.Key, keys, cli) -> None:
    file = tmp_path / "types.safetensors"
    tensors = _all_types()
    _write(file, tensors)
    _sign(cli, keys, file, tmp_path / "types.safetensors.sig")
    ours, theirs = tensorseal.load_file(file, policy=key), safetensors.torch.load_file(file)
    assert list(ours) == list(theirs) and set(ours) == set(tensors)
    for name, tensor in theirs.items():
        assert (ours[name].dtype, ours[name].shape, ours[name].device) == (tensor.dtype, tensor.shape, tensor.device), name
        assert _raw(ours[name]) == _raw(tensor) == tensors[name][2], name
    assert ours["packed"].dtype == torch.float4_e2m1fn_x2 and ours["packed"].shape == (2, 3)
    with tensorseal.safe_open(file, "pt", policy=key) as f, safetensors.safe_open(file, "pt") as g:
        assert f.get_slice("packed").get_shape() == g.get_slice("packed").get_shape() == [2, 6]
        assert all(f.get_slice(name).get_dtype() == g.get_slice(name).get_dtype() for name in g.keys())
        assert (f.keys(), f.offset_keys(), f.metadata()) == (g.keys(), g.offset_keys(), g.metadata())


def test_by_dlpack_alone_too(tmp_path: Path, key: tensorseal.Key, keys, cli) -> None:
    """What the native tensors say of themselves, without the view that `load_file` makes."""
    file = tmp_path / "types.safetensors"
    _write(file, _all_types())
    _sign(cli, keys, file, tmp_path / "types.safetensors.sig")
    model = tensorseal.load_model(file, policy=key)
    for native in model._native.tensors():
        tensor = torch.from_dlpack(native)
        expected = model[native.name]
        assert (tensor.dtype, tensor.shape) == (expected.dtype, expected.shape), native.name
        assert not tensor.numel() or tensor.data_ptr() == expected.data_ptr() == native.address, native.name


def test_a_type_that_torch_lacks(tmp_path: Path, key: tensorseal.Key, keys, cli) -> None:
    file = tmp_path / "f6.safetensors"
    _write(file, {"six": ("F6_E2M3", [4], b"abc"), "odd": ("F4", [2, 1], b"x"), "fine": ("U8", [1], b"y")})
    _sign(cli, keys, file, tmp_path / "f6.safetensors.sig")
    with tensorseal.safe_open(file, "pt", policy=key) as opened, safetensors.safe_open(file, "pt") as theirs:
        for name in ("six", "odd"):
            for of in (opened, theirs):
                with pytest.raises(Exception) as caught:
                    of.get_tensor(name)
                assert isinstance(caught.value, safetensors.SafetensorError) or of is theirs, name
        assert opened.get_tensor("fine").tolist() == [ord("y")]
        assert opened.get_slice("six").get_dtype() == "F6_E2M3"
    with pytest.raises(tensorseal.UsageError, match="F6_E2M3"):
        tensorseal.load_file(file, policy=key)
    native = {tensor.name: tensor for tensor in tensorseal.load_model(file, policy=key)._native.tensors()}
    with pytest.raises(BufferError):
        torch.from_dlpack(native["six"])
    assert bytes(torch.from_dlpack(native["six"].as_bytes()).tolist()) == b"abc"


def test_it_is_the_memory_that_was_checked(signed_model: Path, key: tensorseal.Key) -> None:
    model = tensorseal.load_model(signed_model, policy=key)
    tensors = dict(model)
    for native in model._native.tensors():
        tensor = tensors[native.name]
        assert tensor.data_ptr() == native.address, "no copy"
        # As with safetensors: what is saved, or compared for sharing, is this tensor and not its file.
        assert tensor.untyped_storage().nbytes() == native.nbytes and tensor.storage_offset() == 0
        assert tensor.data_ptr() % tensor.element_size() == 0
    expected = {name: tensor.clone() for name, tensor in tensors.items()}
    del model, native
    gc.collect()
    for file in signed_model.glob("*.safetensors"):
        file.write_bytes(b"\0" * file.stat().st_size)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items()), "nothing but memory of our own"
    for tensor in tensors.values():
        tensor.zero_()
    parameter = torch.nn.Parameter(tensors["lm_head.weight"])
    parameter.sum().backward()
    assert parameter.grad is not None and not tensors["steps"].any()


def test_slices_are_cut_as_torch_cuts(signed_model: Path, key: tensorseal.Key) -> None:
    file = signed_model / "model-00002-of-00002.safetensors"
    with tensorseal.safe_open(file, "pt", policy=key) as f, safetensors.safe_open(file, "pt") as g:
        ours, theirs = f.get_slice("lm_head.weight"), g.get_slice("lm_head.weight")
        indices: list[Any] = [
            0, -1, slice(3, 9), slice(None, None, 2), slice(60, 99), (slice(None), slice(1, 3)), (..., 1), (0, 0), None,
            [0, 5], torch.tensor([2, 3]), (slice(None), [0, 2]), slice(-2, None), (), ..., slice(9, 3), 64, slice(None, None, -1),
        ]
        for index in indices:
            try:
                expected = theirs[index]
            except Exception as error:  # noqa: BLE001 (ours has to be of the same class)
                with pytest.raises(type(error)):
                    ours[index]
                continue
            assert ours[index].shape == expected.shape and torch.equal(ours[index], expected), index
        # A part is a copy, which keeps nothing of the file.
        assert ours[3:9].untyped_storage().nbytes() == 6 * 32 * 4
    with pytest.raises(safetensors.SafetensorError, match="closed"):
        f.get_tensor("steps")
    assert torch.equal(ours[:], safetensors.torch.load_file(file)["lm_head.weight"]), "a slice outlives what it is of"


def test_no_pointer_is_misaligned(tmp_path: Path, key: tensorseal.Key, keys, cli) -> None:
    file = tmp_path / "odd.safetensors"
    tensors = {"one": ("U8", [3], b"abc"), "wide": ("F64", [5], bytes(range(40))), "half": ("BF16", [7], bytes(range(14)))}
    _write(file, tensors, padding=1)
    assert (8 + struct.unpack("<Q", file.read_bytes()[:8])[0] + 3) % 8, "it is a file that needs care"
    _sign(cli, keys, file, tmp_path / "odd.safetensors.sig")
    for name, tensor in tensorseal.load_file(file, policy=key).items():
        assert tensor.data_ptr() % tensor.element_size() == 0, name
        assert _raw(tensor) == tensors[name][2], name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(tensorseal.VerifyError):
        tensorseal.load_file(file, policy=key)


# How much memory a child has at most taken to load a file, in KiB above what it took before, and what the tensors are.
CHILD = """
import resource, sys
import torch, tensorseal
key, file = tensorseal.Key(sys.argv[1]), sys.argv[2]
def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])
def now():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])
torch.from_dlpack(torch.zeros(1))
before = now()
tensors = tensorseal.load_file(file, policy=key)
took, kept = peak() - before, now() - before
first = tensors.pop("a")
assert first.shape == (32, 1 << 20) and int(first[0, 0]) == 1, first
del tensors
part = first[:2].clone()
del first
left = now() - before
print(took, kept, left)
"""


def test_memory_is_that_of_the_file_once_and_given_back(tmp_path: Path, keys, cli) -> None:
    file, mib = tmp_path / "big.safetensors", 1 << 20
    data = b"\1" * (32 * mib)
    _write(file, {"a": ("U8", [32, mib], data), "b": ("U8", [32, mib], data)})
    _sign(cli, keys, file, tmp_path / "big.safetensors.sig")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(keys[1]), str(file)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert run.returncode == 0, run.stderr
    took, kept, left = (int(number) // 1024 for number in run.stdout.split())
    # 64 MiB of tensors, and a few of buffers and threads: never twice.
    assert 60 <= kept <= 64 + 24, (took, kept, left)
    assert took <= 64 + 40, (took, kept, left)
    assert left <= 24, (took, kept, left)


def test_a_device_that_is_not_there(signed_model: Path, key: tensorseal.Key) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    file = signed_model / "model-00002-of-00002.safetensors"
    for device in ("cuda", "cuda:0", 0, torch.device("cuda")):
        with pytest.raises(tensorseal.NoAnswerError) as caught:
            tensorseal.load_file(file, device, policy=key)
        assert caught.value.kind == "device"
    for device in ("mps", "meta", "xpu", "nonsense"):
        with pytest.raises(safetensors.SafetensorError):
            tensorseal.load_file(file, device, policy=key)
    assert tensorseal.load_file(file, torch.device("cpu"), policy=key)


def test_migration_is_one_import(signed_model: Path, keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of a caller of safetensors, as they were."""
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'version = 1\n[signers.team]\nkey = "{keys[1]}"\n[[rule]]\npath = "{signed_model.resolve()}"\nany_of = ["team"]\n'
    )
    monkeypatch.setenv("TENSORSEAL_POLICY", str(policy))
    lines = """
tensors = {}
with safe_open(folder / "model-00001-of-00002.safetensors", framework="pt", device="cpu") as f:
    for k in f.keys():
        tensors[k] = f.get_tensor(k)
    part = f.get_slice("embed.weight")[:, 4:8]
again = load_file(folder / "model-00001-of-00002.safetensors", device="cpu")
"""
    seen = []
    for imports in (
        "from safetensors import safe_open\nfrom safetensors.torch import load_file",
        "from tensorseal import safe_open, load_file",
    ):
        names: dict[str, Any] = {"folder": signed_model}
        exec(imports + lines, names)
        seen.append({**names["tensors"], **{f"again.{k}": v for k, v in names["again"].items()}, "part": names["part"]})
    ours, theirs = seen
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    shutil.copy(signed_model / "config.json", signed_model / "more.json")
    with pytest.raises(tensorseal.VerifyError):
        exec("from tensorseal import safe_open, load_file" + lines, {"folder": signed_model})
