"""Loading with NumPy alone: what is handed out, and that nothing is of what was altered."""

import gc
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import require

require("numpy")
require("safetensors")

import numpy
from safetensors.numpy import load_file as reference_load_file
from safetensors.numpy import save_file

import tensorseal
from tensorseal import _native

FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"


@pytest.fixture
def key(keys: tuple[Path, Path]) -> tensorseal.Key:
    return tensorseal.Key(keys[1])


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where data begin, and what the header says, read by nobody's code but this."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return 8 + length, json.loads(data[8 : 8 + length])


def _bytes_of(path: Path, name: str) -> bytes:
    start, header = _header(path)
    begin, end = header[name]["data_offsets"]
    return path.read_bytes()[start + begin : start + end]


def _sign(cli: Callable[..., Any], keys: tuple[Path, Path], model: Path, signature: Path, *more: str) -> None:
    made = cli("sign", "key", model, "--private-key", keys[0], "--signature", signature, *more)
    assert made.returncode == 0, made.stderr


def _same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        assert ours[name].tobytes() == array.tobytes(), name


def _calls(signed_model: Path, key: tensorseal.Key) -> list[Callable[[], object]]:
    """All ways to load it."""
    return [
        lambda: tensorseal.load_model(signed_model, policy=key, framework="np"),
        lambda: tensorseal.load_file(signed_model / FIRST, policy=key, framework="np"),
        lambda: tensorseal.load_file(signed_model / SECOND, policy=key, framework="np"),
        lambda: tensorseal.safe_open(signed_model / SECOND, "np", policy=key, bundle=signed_model / "model.sig"),
    ]


def test_what_is_handed_out_is_what_is_in_the_files(signed_model: Path, key: tensorseal.Key) -> None:
    model = tensorseal.load_model(signed_model, policy=key, framework="np")
    assert list(model) == [name for file in model.tensor_files for name in model.tensors_of(file)]
    assert len(model) == 5 and "steps" in model and "none" not in model
    for file in (FIRST, SECOND):
        _same(tensorseal.load_file(signed_model / file, policy=key, framework="np"), reference_load_file(signed_model / file))
        for name, array in model.tensors_of(file).items():
            assert array.tobytes() == _bytes_of(signed_model / file, name) == model[name].tobytes()
    assert model.file("config.json") == (signed_model / "config.json").read_bytes()
    assert "config.json" in model.files and FIRST in model.tensor_files
    for absent in ("none", FIRST):
        with pytest.raises(KeyError):
            model.file(absent)
    with pytest.raises(KeyError):
        model.tensors_of("config.json")
    with pytest.raises(KeyError):
        model["none"]
    assert (model.not_held, model.not_asked) == ((), ())
    assert model.report.files == 5 and model.report.checked == {"blake3": "cpu"}
    kept = tensorseal.load_model(signed_model, policy=key, framework="np", keep=1)
    assert "config.json" in kept.not_held


def test_one_file_of_a_folder_is_one_file(signed_model: Path, key: tensorseal.Key) -> None:
    # Of the other files nobody reads a byte: these could not pass.
    for file in (FIRST, "config.json"):
        _flip(signed_model / file, 10)
    tensors = tensorseal.load_file(signed_model / SECOND, policy=key, framework="np")
    assert tensors["steps"].tolist() == list(range(7))
    part = tensorseal.load_model(signed_model, policy=key, framework="np", only=[SECOND])
    assert part.report.files == 1 and set(part.not_asked) >= {FIRST, "config.json"}
    assert any(FIRST in note or "not asked for" in note for note in part.report.notes)
    for names in ([SECOND, FIRST], [SECOND, "config.json"]):
        with pytest.raises(tensorseal.VerifyError) as caught:
            tensorseal.load_model(signed_model, policy=key, framework="np", only=names)
        assert [difference.name for difference in caught.value.differences] == names[1:]
    for usage in ([], SECOND):
        with pytest.raises(tensorseal.UsageError):
            tensorseal.load_model(signed_model, policy=key, framework="np", only=usage)


def _first_tensor(path: Path) -> int:
    return _header(path)[0]


# What is done, what is said of which file, and whether a single file of the model can tell.
ALTERATIONS: dict[str, tuple[Callable[[Path], object], str, set[str]]] = {
    "a bit of the header": (lambda m: _flip(m / SECOND, 20), SECOND, {"changed"}),
    "a bit of its length": (lambda m: _flip(m / SECOND, 0), SECOND, {"changed"}),
    "a bit of the first tensor": (lambda m: _flip(m / SECOND, _first_tensor(m / SECOND)), SECOND, {"changed"}),
    "a bit of the last tensor": (lambda m: _flip(m / SECOND, -1), SECOND, {"changed"}),
    "the end cut off": (lambda m: os.truncate(m / SECOND, (m / SECOND).stat().st_size - 8), SECOND, {"resized"}),
    "all cut off": (lambda m: os.truncate(m / SECOND, 0), SECOND, {"resized"}),
    "a byte more": (lambda m: (m / SECOND).write_bytes((m / SECOND).read_bytes() + b"\0"), SECOND, {"resized"}),
    "another shard in its place": (lambda m: shutil.copy(m / FIRST, m / SECOND), SECOND, {"resized", "changed"}),
    "a shard missing": (lambda m: (m / FIRST).unlink(), FIRST, {"missing"}),
    "a shard more": (lambda m: shutil.copy(m / FIRST, m / "model-00003-of-00002.safetensors"), "model-00003-of-00002.safetensors", {"unsigned"}),
    "code": (lambda m: (m / "modeling_toy.py").write_text("import os"), "modeling_toy.py", {"unsigned"}),
}


@pytest.mark.parametrize("about", ALTERATIONS)
def test_nothing_is_handed_out_of_what_was_altered(signed_model: Path, key: tensorseal.Key, about: str) -> None:
    alter, name, kinds = ALTERATIONS[about]
    for call in _calls(signed_model, key):
        call()
    alter(signed_model)
    for number, call in enumerate(_calls(signed_model, key)):
        if number == 1 and name == SECOND and kinds == {"changed"}:
            # The other shard is as signed, and nobody looked into this one.
            call()
            continue
        if name == FIRST and number == 1:
            with pytest.raises(FileNotFoundError):
                call()
            continue
        with pytest.raises(tensorseal.VerifyError) as caught:
            call()
        assert {(of.name, of.kind in kinds) for of in caught.value.differences} == {(name, True)}, about


def test_a_manifest_of_other_tensors_is_stale(signed_model: Path, keys, key: tensorseal.Key, cli) -> None:
    """A tensor manifest that is signed and not about these files."""
    manifest = (signed_model / "tensorseal.tensors").read_bytes()
    save_file({"other": numpy.arange(5)}, signed_model / SECOND)
    (signed_model / "model.safetensors.index.json").unlink()
    # Our own program would refuse to sign it: another one knows nothing of such files.
    require("model_signing")
    (signed_model / "model.sig").unlink()
    (signed_model / "tensorseal.tensors").write_bytes(manifest)
    command = ["-m", "model_signing", "sign", "key", ".", "--private_key", keys[0], "--signature", "model.sig", "--ignore-paths", "model.sig"]
    made = subprocess.run([sys.executable, *map(str, command)], cwd=signed_model, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    with pytest.raises(tensorseal.VerifyError) as caught:
        tensorseal.load_model(signed_model, policy=key, framework="np")
    assert caught.value.kind == "tensors" and SECOND in str(caught.value)


def test_a_word_is_no_flag(signed_model: Path, key: tensorseal.Key) -> None:
    (signed_model / "notes.txt").write_text("x")
    # `"no"` counts as true wherever a condition is asked for.
    for wrong in ({"ignore_unsigned": "no"}, {"strict": 0}, {"git": None}, {"digests": 5}, {"symlinks": True}, {"progress": 7}):
        with pytest.raises(tensorseal.UsageError):
            tensorseal.load_model(signed_model, policy=key, framework="np", **wrong)


def test_who_signed_and_that_somebody_did(signed_model: Path, key: tensorseal.Key, cli, tmp_path: Path) -> None:
    assert cli("keygen", "--out", tmp_path / "other.pem").returncode == 0
    for call in _calls(signed_model, tensorseal.Key(tmp_path / "other.pub")):
        with pytest.raises(tensorseal.VerifyError) as caught:
            call()
        assert caught.value.kind == "signature"
    (signed_model / "model.sig").unlink()
    for call in _calls(signed_model, key):
        with pytest.raises(tensorseal.NoAnswerError):
            call()


def test_without_a_policy_nothing_is_loaded(signed_model: Path, keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TENSORSEAL_POLICY", raising=False)
    calls: list[Callable[[], object]] = [
        lambda: tensorseal.load_model(signed_model, framework="np"),
        lambda: tensorseal.load_file(signed_model / FIRST, framework="np"),
        lambda: tensorseal.safe_open(signed_model / FIRST, "np"),
    ]
    for call in calls:
        with pytest.raises(tensorseal.UsageError, match="TENSORSEAL_POLICY"):
            call()
    monkeypatch.setenv("TENSORSEAL_POLICY", "")
    with pytest.raises(tensorseal.UsageError):
        calls[1]()
    policy = tmp_path / "policy.toml"
    rule = f'[[rule]]\npath = "{signed_model.resolve()}"\nany_of = ["team"]\n'
    policy.write_text(f'version = 1\n[signers.team]\nkey = "{keys[1]}"\n{rule}')
    monkeypatch.setenv("TENSORSEAL_POLICY", str(policy))
    for call in calls:
        call()
    _flip(signed_model / FIRST, -1)
    for call in calls:
        with pytest.raises(tensorseal.VerifyError):
            call()
    monkeypatch.setenv("TENSORSEAL_POLICY", str(tmp_path / "none.toml"))
    with pytest.raises(tensorseal.NoAnswerError):
        calls[1]()


def test_a_single_file_and_where_its_signature_is(model: Path, key: tensorseal.Key, keys, cli, tmp_path: Path) -> None:
    file = tmp_path / "alone.safetensors"
    shutil.copy(model / FIRST, file)
    # Beside others that nobody signed, and that are none of its model.
    (tmp_path / "other.txt").write_text("x")
    _sign(cli, keys, file, tmp_path / "alone.safetensors.sig")
    load = lambda **more: tensorseal.load_file(file, policy=key, framework="np", **more)  # noqa: E731
    _same(load(), reference_load_file(model / FIRST))
    moved = (tmp_path / "alone.safetensors.sig").rename(tmp_path / "a.sig")
    with pytest.raises(tensorseal.NoAnswerError) as caught:
        load()
    assert caught.value.kind == "no-signature"
    _same(load(bundle=moved), reference_load_file(model / FIRST))
    _flip(file, -1)
    with pytest.raises(tensorseal.VerifyError):
        load(bundle=moved)
    # In a folder within the model, by the bundle of the whole.
    (model / "sub").mkdir()
    save_file({"x": numpy.arange(3)}, model / "sub" / "x.safetensors")
    _sign(cli, keys, model, tmp_path / "whole.sig")
    inner = tensorseal.load_file(model / "sub" / "x.safetensors", policy=key, bundle=tmp_path / "whole.sig", framework="np")
    assert inner["x"].tolist() == [0, 1, 2]
    # A bundle that says nothing of the file.
    stranger = tmp_path / "stranger.safetensors"
    shutil.copy(model / FIRST, stranger)
    with pytest.raises(tensorseal.VerifyError):
        tensorseal.load_file(stranger, policy=key, bundle=tmp_path / "whole.sig", framework="np")


def test_a_cache_of_links(signed_model: Path, key: tensorseal.Key, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(signed_model.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    with pytest.raises(tensorseal.VerifyError):
        tensorseal.load_file(snapshot / FIRST, policy=key, framework="np")
    tensors = tensorseal.load_file(snapshot / FIRST, policy=key, framework="np", symlinks="anywhere")
    _same(tensors, reference_load_file(signed_model / FIRST))


def _misaligned(path: Path) -> None:
    """A file as an odd writer makes it: nothing lies at a multiple of anything."""
    tensors = {"one": ("U8", [3]), "wide": ("F64", [5]), "half": ("F16", [7]), "last": ("I32", [2, 3])}
    sizes = {"U8": 1, "F64": 8, "F16": 2, "I32": 4}
    header, at, data = {}, 0, b""
    for number, (name, (dtype, shape)) in enumerate(tensors.items()):
        size = sizes[dtype] * int(numpy.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        data += bytes((number * 37 + byte) % 120 for byte in range(size))
        at += size
    text = json.dumps(header).encode()
    text += b" " * ((5 - len(text)) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_no_pointer_is_misaligned(model: Path, key: tensorseal.Key, keys, cli, tmp_path: Path) -> None:
    file = tmp_path / "odd.safetensors"
    _misaligned(file)
    _sign(cli, keys, file, tmp_path / "odd.safetensors.sig")
    for name, array in tensorseal.load_file(file, policy=key, framework="np").items():
        assert array.flags.aligned and array.ctypes.data % array.itemsize == 0, name
        assert array.tobytes() == _bytes_of(file, name), name


def test_memory_is_private_is_shared_and_outlives_the_model(signed_model: Path, key: tensorseal.Key) -> None:
    model = tensorseal.load_model(signed_model, policy=key, framework="np")
    native = {tensor.name: tensor for tensor in model._native.tensors()}
    array, expected = model["lm_head.weight"], _bytes_of(signed_model / SECOND, "lm_head.weight")
    assert array.ctypes.data == native["lm_head.weight"].address, "it is the memory that was checked, and no copy"
    assert model["lm_head.weight"].ctypes.data == array.ctypes.data
    by_dlpack = numpy.from_dlpack(native["lm_head.weight"])
    assert by_dlpack.ctypes.data == array.ctypes.data and by_dlpack.flags.writeable
    del model, native
    gc.collect()
    # Neither the model nor the files have anything to do with it any more.
    (signed_model / SECOND).write_bytes(b"\0" * (signed_model / SECOND).stat().st_size)
    assert array.tobytes() == expected
    array[0, 0] = 42
    assert by_dlpack[0, 0] == 42 and array.flags.writeable
    del array
    gc.collect()
    assert by_dlpack.tobytes()[4:] == expected[4:]


def test_capsules_that_nobody_takes_are_given_back(signed_model: Path, key: tensorseal.Key) -> None:
    tensor = tensorseal.load_model(signed_model, policy=key, framework="np")._native.tensor("lm_head.weight")
    assert tensor is not None and tensor.__dlpack_device__() == (1, 0)
    for more in ({}, {"max_version": (1, 0)}, {"max_version": (0, 8)}, {"stream": None, "copy": False, "dl_device": (1, 0)}):
        assert type(tensor.__dlpack__(**more)).__name__ == "PyCapsule"
    assert '"dltensor_versioned"' in repr(tensor.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(tensor.__dlpack__())
    for no in ({"copy": True}, {"dl_device": (2, 0)}):
        with pytest.raises(BufferError):
            tensor.__dlpack__(**no)
    assert not hasattr(tensor, "__cuda_array_interface__")
    gc.collect()


def test_progress_is_told_and_ends_it(signed_model: Path, key: tensorseal.Key) -> None:
    told: list[tuple[int, int | None]] = []
    tensorseal.load_model(signed_model, policy=key, framework="np", progress=lambda done, total: told.append((done, total)))
    with pytest.raises(ZeroDivisionError):
        tensorseal.load_model(signed_model, policy=key, framework="np", progress=lambda done, total: 1 // 0)
    assert told and told[-1][0] == told[-1][1] == sum(file.stat().st_size for file in signed_model.iterdir() if file.name != "model.sig")


def test_the_report_says_what_was_compared(signed_model: Path, key: tensorseal.Key) -> None:
    every = tensorseal.load_model(signed_model, policy=key, framework="np", digests="all")
    assert set(every.report.checked) == {"sha256", "blake3"}
    (signed_model / "notes.txt").write_text("x")
    tolerant = tensorseal.load_model(signed_model, policy=key, framework="np", ignore_unsigned=True)
    assert tolerant.report.unsigned == ["notes.txt"]
    with pytest.raises(tensorseal.VerifyError):
        tensorseal.load_model(signed_model, policy=key, framework="np", ignore=[signed_model / "notes.txt"], strict=True)


def test_a_type_that_numpy_lacks(model: Path, key: tensorseal.Key, keys, cli, tmp_path: Path) -> None:
    file = tmp_path / "f8.safetensors"
    text = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\x38\x39\x3a\x3b")
    _sign(cli, keys, file, tmp_path / "f8.safetensors.sig")
    with tensorseal.safe_open(file, "np", policy=key) as opened:
        assert opened.get_slice("x").get_dtype() == "F8_E4M3"
        try:
            import ml_dtypes  # noqa: F401
        except ImportError:
            with pytest.raises(tensorseal.UsageError, match="F8_E4M3"):
                opened.get_tensor("x")
    native: _native.Tensor = tensorseal.load_model(file, policy=key, framework="np")._native.tensors()[0]
    assert bytes(numpy.asarray(native.as_bytes())) == b"\x38\x39\x3a\x3b"
    assert not hasattr(native, "__array_interface__")


@pytest.mark.parametrize(
    "options",
    [{"ignore_unsigned": "no"}, {"ignore_unsigned": 0}, {"strict": "no"}, {"strict": None}, {"allow_ignored": "notes.txt"}],
    ids=repr,
)
def test_a_yes_is_true_and_nothing_else(options, signed_model: Path, key: tensorseal.Key) -> None:
    """`"no"` counts as a yes where anything may: what was not signed would be handed out."""
    (signed_model / "notes.txt").write_text("x")
    with pytest.raises(tensorseal.UsageError):
        tensorseal.load_model(signed_model, policy=key, framework="np", **options)
