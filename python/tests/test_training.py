"""Signing at the end of training, with NumPy alone: what is written is what safetensors would write, it is what lay in
memory, and whatever goes wrong, no signature lies beside weights that it is not of."""

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT, require

require("numpy")
require("safetensors")
require("blake3")

import blake3
import numpy
import safetensors.numpy

import tensorseal
from tensorseal import _native, training
from tensorseal._lend import lend


def tensors(seed: int = 0) -> dict[str, numpy.ndarray]:
    random = numpy.random.default_rng(seed)
    return {
        "b.weight": random.standard_normal((300, 512)).astype(numpy.float32),
        "a.weight": random.standard_normal((64, 32)).astype(numpy.float16),
        "mask": numpy.array([True, False, True]),
        "scalar": numpy.array(5.0),
        "none": numpy.zeros((0, 4), numpy.int8),
        "steps \u00e9\"\n": numpy.arange(7),
        "complex": (random.standard_normal(6) + 1j).astype(numpy.complex64),
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def signer(keys: tuple[Path, Path]) -> tensorseal.KeySigner:
    return tensorseal.KeySigner(keys[0])


@pytest.fixture
def policy(keys: tuple[Path, Path]) -> tensorseal.Key:
    return tensorseal.Key(keys[1])


def test_the_file_is_safetensors_own_and_the_signature_verifies_everywhere(tmp_path, signer, policy, keys, cli):
    require("model_signing")
    import model_signing

    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    signed = tensorseal.save_and_sign(tensors(), folder, signer=signer)
    written = (folder / "model.safetensors").read_bytes()
    assert written == safetensors.numpy.save(tensors())
    report = tensorseal.verify(folder, policy=policy, digests="all")
    assert report.root == signed.root and report.resources == 3
    verified = cli("verify", "key", folder, "--public-key", keys[1], "--signature", folder / "model.sig", "--all-digests")
    assert verified.returncode == 0, verified.stderr
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys[1]).verify(folder, folder / "model.sig")
    # As signing the same files anew would have it, but for nothing.
    again = tmp_path / "again.sig"
    assert tensorseal.sign(folder, signer=signer, bundle=again, ignore=folder / "model.sig").root == signed.root
    # And a changed file is none that was signed.
    (folder / "config.json").write_text("{} ")
    with pytest.raises(tensorseal.VerifyError):
        tensorseal.verify(folder, policy=policy)


def test_metadata_and_hash(tmp_path, signer, policy):
    tensorseal.save_and_sign(tensors(), tmp_path, signer=signer, metadata={"format": "np"}, tensors=False, hash="blake3")
    assert (tmp_path / "model.safetensors").read_bytes() == safetensors.numpy.save(tensors(), {"format": "np"})
    assert sorted(contents(tmp_path)) == ["model.safetensors", "model.sig"]
    assert tensorseal.verify(tmp_path, policy=policy).checked == {"blake3": "cpu"}


def test_strides_are_written_in_order(tmp_path, signer, policy, monkeypatch):
    monkeypatch.setattr("tensorseal._blocks.BLOCK", 1000)
    big = numpy.arange(60 * 50 * 8, dtype=numpy.float32).reshape(60, 50, 8)
    given = {
        "transposed": big.transpose(2, 0, 1),
        "step": big[::3, 1:40:2],
        "fortran": numpy.asfortranarray(big[:, :, 0]),
        "row": big[5, 7],
        "contiguous": big + 1,
    }
    for name, array in given.items():
        folder = tmp_path / name
        tensorseal.save_and_sign({name: array}, folder, signer=signer)
        dense = {name: numpy.ascontiguousarray(array)}
        assert (folder / "model.safetensors").read_bytes() == safetensors.numpy.save(dense)
        tensorseal.verify(folder, policy=policy, digests="all")


def test_shards_are_huggingfaces(tmp_path, signer, policy):
    given = {f"t{i:02}": numpy.full(250 + i, i, numpy.float32) for i in range(9)}
    tensorseal.save_and_sign(given, tmp_path, signer=signer, max_shard_size="3KB")
    # In the order of the dict, as many as fit: three times 1 kB and a little is too much.
    shards = [["t00", "t01"], ["t02", "t03"], ["t04", "t05"], ["t06", "t07"], ["t08"]]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_bytes())
    names = [f"model-{number:05}-of-00005.safetensors" for number in range(1, 6)]
    assert index["weight_map"] == {tensor: name for name, held in zip(names, shards, strict=True) for tensor in held}
    assert index["metadata"] == {"total_size": sum(array.nbytes for array in given.values())}
    for name, held in zip(names, shards, strict=True):
        own = {tensor: given[tensor] for tensor in held}
        assert (tmp_path / name).read_bytes() == safetensors.numpy.save(own)
    tensorseal.verify(tmp_path, policy=policy, digests="all")
    # Another save into the folder: no shard of the first one stays, what is not a shard does.
    (tmp_path / "model.safetensors.backup").write_bytes(b"mine")
    tensorseal.save_and_sign(given, tmp_path, signer=signer, max_shard_size=10**6)
    assert sorted(contents(tmp_path)) == ["model.safetensors", "model.safetensors.backup", "model.sig", "tensorseal.tensors"]
    tensorseal.verify(tmp_path, policy=policy, digests="all")


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        {"a": 5},
        {1: numpy.zeros(3)},
        {"__metadata__": numpy.zeros(3)},
        {"a": numpy.zeros(3, "U4")},
        {"a": numpy.zeros(3, numpy.complex128)},
        {"a": numpy.zeros(3, ">f4")},
        {"\ud800": numpy.zeros(3)},
        {"nothing": numpy.zeros((0, 4)), "neither": numpy.zeros(0)},
    ],
    ids=lambda given: repr(given)[:40],
)
def test_what_is_no_state_dict(tmp_path, signer, given):
    with pytest.raises(tensorseal.UsageError):
        tensorseal.save_and_sign(given, tmp_path / "m", signer=signer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [{"max_shard_size": 0}, {"max_shard_size": "5 parsecs"}, {"metadata": {"a": 1}}, {"hash": "blake2b"}, {"discard": ["x"]}],
    ids=repr,
)
def test_what_makes_no_sense(tmp_path, signer, options):
    with pytest.raises(tensorseal.UsageError):
        tensorseal.save_and_sign(tensors(), tmp_path / "m", signer=signer, **options)
    assert not (tmp_path / "m").exists()


def test_shared_memory_is_refused_unless_one_name_of_it_is_discarded(tmp_path, signer, policy):
    one = numpy.arange(100, dtype=numpy.float32)
    with pytest.raises(tensorseal.UsageError, match="'head' and 'embed' share memory|'embed' and 'head' share memory"):
        tensorseal.save_and_sign({"embed": one, "head": one}, tmp_path, signer=signer)
    with pytest.raises(tensorseal.UsageError, match="share memory"):
        tensorseal.save_and_sign({"all": one, "part": one[50:60]}, tmp_path, signer=signer)
    with pytest.raises(tensorseal.UsageError, match="no tensor that stays is the same memory"):
        tensorseal.save_and_sign({"embed": one, "head": one.copy()}, tmp_path, signer=signer, discard=["head"])
    with pytest.raises(tensorseal.UsageError, match="leaves no tensor"):
        tensorseal.save_and_sign({"embed": one}, tmp_path, signer=signer, discard=["embed"])
    # Halves of one array share nothing.
    tensorseal.save_and_sign({"first": one[:50], "second": one[50:]}, tmp_path, signer=signer)
    tensorseal.save_and_sign({"embed": one, "head": one}, tmp_path, signer=signer, discard=["head"])
    assert (tmp_path / "model.safetensors").read_bytes() == safetensors.numpy.save({"embed": one}, {"head": "embed"})
    tensorseal.verify(tmp_path, policy=policy)


class Flip:
    """Flips a bit of one tensor on its way from memory to the file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tensor: str) -> None:
        self.done = False
        real = training.blocks

        def blocks(tensor_):
            for block in real(tensor_):
                if tensor_.name == tensor and not self.done:
                    block = numpy.array(block)
                    block[len(block) // 2] ^= 16
                    self.done = True
                yield block

        monkeypatch.setattr(training, "blocks", blocks)


@pytest.mark.parametrize("with_tensors", [True, False])
@pytest.mark.parametrize("shards", ["5GB", "100KB"])
def test_a_bit_that_flips_between_memory_and_disk_stops_the_signing(
    tmp_path, signer, policy, monkeypatch, with_tensors, shards
):
    folder = tmp_path / "m"
    tensorseal.save_and_sign(tensors(1), folder, signer=signer)
    before = contents(folder)
    flip = Flip(monkeypatch, "b.weight")
    for place in (folder, tmp_path / "new"):
        flip.done = False
        with pytest.raises(tensorseal.VerifyError, match="written bytes differ") as raised:
            tensorseal.save_and_sign(tensors(), place, signer=signer, tensors=with_tensors, max_shard_size=shards)
        assert flip.done
        error = raised.value
        assert error.kind == "written-bytes-differ"
        [difference] = error.differences
        assert difference.name.startswith("model") and difference.kind == "miswritten"
        assert difference.expected != difference.found
        assert ("'b.weight'" in str(error) or '"b.weight"' in str(error)) == with_tensors
        assert bool(difference.ranges) == with_tensors
    # What was there is as it was, and nothing else is.
    assert contents(folder) == before
    assert not (tmp_path / "new").exists()
    tensorseal.verify(folder, policy=policy, digests="all")


def test_the_digest_is_of_memory_and_not_of_what_was_read_of_it(tmp_path, signer, monkeypatch):
    # A tensor that changes between the digest and the writing.
    given = tensors()
    real = training.blocks

    def blocks(tensor):
        given["scalar"][...] = 6.0
        yield from real(tensor)

    monkeypatch.setattr(training, "blocks", blocks)
    with pytest.raises(tensorseal.VerifyError, match="scalar"):
        tensorseal.save_and_sign(given, tmp_path, signer=signer)
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def no_file_longer_than(size: int):
    """As on a disk that is full: writing more fails."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_changes_nothing(tmp_path, signer, policy):
    folder = tmp_path / "m"
    tensorseal.save_and_sign(tensors(1), folder, signer=signer)
    before = contents(folder)
    with no_file_longer_than(200_000), pytest.raises(tensorseal.NoAnswerError, match="cannot write") as raised:
        tensorseal.save_and_sign(tensors(), folder, signer=signer)
    assert raised.value.kind == "io" and os.strerror(errno.EFBIG) in str(raised.value)
    assert contents(folder) == before
    tensorseal.verify(folder, policy=policy, digests="all")


def test_a_signer_that_fails_leaves_whole_files_without_a_signature(tmp_path, signer, policy, keys):
    folder = tmp_path / "m"
    tensorseal.save_and_sign(tensors(1), folder, signer=signer)
    bad = tmp_path / "key.pem"
    bad.write_text("no key")
    with pytest.raises(tensorseal.NoAnswerError):
        tensorseal.save_and_sign(tensors(), folder, signer=tensorseal.KeySigner(bad))
    assert sorted(contents(folder)) == ["model.safetensors"], "no older signature beside new weights"
    assert (folder / "model.safetensors").read_bytes() == safetensors.numpy.save(tensors())
    tensorseal.sign(folder, signer=signer)
    tensorseal.verify(folder, policy=policy)


def test_a_file_that_is_no_signature_is_not_removed(tmp_path, signer):
    (tmp_path / "model.sig").write_text("letter")
    with pytest.raises(tensorseal.NoAnswerError):
        tensorseal.save_and_sign(tensors(), tmp_path, signer=signer)
    assert contents(tmp_path) == {"model.sig": b"letter"}


def test_an_old_signature_goes_also_if_the_new_one_lies_elsewhere(tmp_path, signer, policy):
    folder, bundle = tmp_path / "m", tmp_path / "other.sig"
    tensorseal.save_and_sign(tensors(1), folder, signer=signer)
    tensorseal.save_and_sign(tensors(), folder, signer=signer, bundle=bundle)
    assert sorted(contents(folder)) == ["model.safetensors", "tensorseal.tensors"]
    tensorseal.verify(folder, bundle=bundle, policy=policy)


@pytest.mark.parametrize("step", ["finish", "compare", "withdraw", "publish", "sign_written"])
@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_a_process_that_ends_in_between(tmp_path, keys, signer, policy, step, how):
    """At no step lies a signature beside weights that it is not of, and the next save puts everything right."""
    folder = tmp_path / "m"
    tensorseal.save_and_sign(tensors(1), folder, signer=signer, max_shard_size="100KB")
    before = contents(folder)
    script = f"""
        import os, signal, sys
        sys.path[:0] = {[str(Path(tensorseal.__file__).parents[1]), str(ROOT / "python" / "tests")]!r}
        import tensorseal
        from tensorseal import _native, training
        from test_training import tensors

        def end(*arguments, **named):
            if {how!r} == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

        class Native:
            def __getattr__(self, name):
                return end if name == {step!r} else wrap(getattr(_native, name))

        class Proxy:
            def __init__(self, of): self.of = of
            def __getattr__(self, name):
                # The second file of the shards, so that the first is published already.
                if name == {step!r}:
                    Proxy.calls = getattr(Proxy, "calls", 0) + 1
                    if Proxy.calls == 2: return end
                found = getattr(self.of, name)
                return wrap(found) if callable(found) else found

        def unwrapped(value):
            return value.of if isinstance(value, Proxy) else [unwrapped(one) for one in value] if isinstance(value, list) else value

        def wrap(call):
            def wrapped(*arguments, **named):
                made = call(*map(unwrapped, arguments), **named)
                return Proxy(made) if isinstance(made, (_native.Writer, _native.Finished, _native.Written)) else made
            return wrapped

        training._native = Native()
        tensorseal.save_and_sign(tensors(), {str(folder)!r}, signer=tensorseal.KeySigner({str(keys[0])!r}), max_shard_size="100KB")
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert ended.returncode == (-signal.SIGKILL if how == "kill" else -signal.SIGINT), ended.stderr
    after = contents(folder)
    if step in ("finish", "compare", "withdraw"):
        left = {name for name in after if name.endswith(".tmp")}
        assert bool(left) == (how == "kill"), "an exception cleans up; only a killed process cannot"
        assert {name: data for name, data in after.items() if name not in left} == before
    else:
        assert "model.sig" not in after
    with pytest.raises(tensorseal.TensorsealError) if how == "kill" or "model.sig" not in after else contextlib.nullcontext():
        tensorseal.verify(folder, policy=policy)
    tensorseal.save_and_sign(tensors(), folder, signer=signer)
    assert sorted(contents(folder)) == ["model.safetensors", "model.sig", "tensorseal.tensors"]
    tensorseal.verify(folder, policy=policy, digests="all")


def test_writer_digests_are_the_files(tmp_path):
    data = numpy.random.default_rng(0).bytes(9 << 20)
    writer = _native.Writer(str(tmp_path), "w.bin", len(data))
    for at in range(0, len(data), 1_000_003):
        writer.write(lend(data[at : at + 1_000_003]))
    finished = writer.finish()
    assert finished.blake3 == blake3.blake3(data).hexdigest() and finished.size == len(data)
    with pytest.raises(tensorseal.UsageError):
        writer.write(lend(b""))
    written = finished.publish()
    assert (tmp_path / "w.bin").read_bytes() == data
    assert _native.Written.from_bytes(written.to_bytes()).blake3 == finished_digest(data)
    with pytest.raises(tensorseal.NoAnswerError):
        _native.Written.from_bytes(written.to_bytes()[:-1])
    with pytest.raises(tensorseal.UsageError):
        finished.publish()


def finished_digest(data: bytes) -> str:
    return blake3.blake3(data).hexdigest()


def test_a_file_that_changes_after_it_was_written_is_not_signed(tmp_path, signer, monkeypatch):
    real = _native.sign_written

    def sign_written(model, *arguments, **named):
        path = Path(model) / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        return real(model, *arguments, **named)

    monkeypatch.setattr(_native, "sign_written", sign_written)
    with pytest.raises(tensorseal.NoAnswerError, match="not as it was written") as raised:
        tensorseal.save_and_sign(tensors(), tmp_path, signer=signer)
    assert raised.value.kind == "written"
    assert sorted(contents(tmp_path)) == ["model.safetensors"]


def test_a_folder_that_cannot_be_made_is_no_answer(tmp_path, signer):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(tensorseal.NoAnswerError, match="cannot be made") as refused:
        tensorseal.save_and_sign(tensors(), tmp_path / "file" / "model", signer=signer)
    assert refused.value.kind == "io"
    with pytest.raises(tensorseal.UsageError, match="tensors is True or False"):
        tensorseal.save_and_sign(tensors(), tmp_path / "model", signer=signer, tensors="no")
    assert not (tmp_path / "model").exists()
