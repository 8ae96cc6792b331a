"""What a signature says, and memory compared with it. Models are signed by the program; tiles are computed here, as
docs/tensor-manifest.md describes them."""

import itertools
import json
import shutil
import time
from pathlib import Path

import pytest
from conftest import require

require("numpy")
require("blake3")
require("safetensors")

import blake3
import numpy
from safetensors.numpy import load_file, save_file

import tensorseal
from tensorseal import Key, Slice

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def digest(data) -> str:
    return blake3.blake3(numpy.ascontiguousarray(data).tobytes()).hexdigest()


@pytest.fixture(scope="session")
def _large(tmp_path_factory, cli, keys) -> Path:
    """A model with tensors that are cut into tiles, signed with a tensor manifest."""
    folder = tmp_path_factory.mktemp("large") / "model"
    folder.mkdir()
    rng = numpy.random.default_rng(7)
    save_file(
        {
            "wide": rng.integers(0, 255, (64, 4096), dtype=numpy.uint8).view(numpy.float16),
            "tall": rng.standard_normal((4096, 256)).astype(numpy.float32),
            "cube": rng.standard_normal((16, 128, 256)).astype(numpy.float32),
            "small": numpy.arange(5, dtype=numpy.int32),
            "scalar": numpy.array(3.5),
        },
        folder / "model.safetensors",
    )
    made = cli("sign", "key", folder, "--private-key", keys[0], "--signature", folder / "model.sig", "--tensors")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def large(_large, tmp_path) -> Path:
    return Path(shutil.copytree(_large, tmp_path / "large"))


def manifest_of(model: Path, keys) -> tensorseal.TensorManifest:
    found = tensorseal.signed(model, policy=Key(keys[1])).tensor_manifest()
    assert found is not None
    return found


def boxes(record):
    """The elements of each tile, in order."""
    cuts = [
        [(size // parts * part, size // parts * (part + 1)) for part in range(parts)]
        for size, parts in zip(record.shape, record.parts, strict=True)
    ]
    return list(itertools.product(*cuts))


def at(box):
    return tuple(slice(*of) for of in box)


def test_a_signature_says_what_it_covers_and_no_file_is_read(signed_model, keys, cli):
    told = json.loads(cli("inspect", "--json", signed_model / "model.sig").stdout)
    # Nothing but the bundle is there.
    for path in signed_model.iterdir():
        if path.name != "model.sig":
            path.unlink()
    signed = tensorseal.signed(signed_model, policy=Key(keys[1]))
    assert "key" in signed.identity and signed.identities == [signed.identity]
    assert signed.root in json.dumps(told)
    names = {ONE, TWO, "config.json", "model.safetensors.index.json", "tensorseal.tensors"}
    assert set(signed.resources) == names
    for resource in signed.resources.values():
        assert set(resource) == {"sha256", "blake3", "size"} and len(resource["sha256"]) == len(resource["blake3"]) == 64


def test_a_signature_of_others_is_refused(signed_model, keys, cli, tmp_path):
    made = cli("keygen", "--out", tmp_path / "other.pem")
    assert made.returncode == 0
    with pytest.raises(tensorseal.VerifyError) as caught:
        tensorseal.signed(signed_model, policy=Key(tmp_path / "other.pub"))
    assert caught.value.kind == "signature"
    bundle = signed_model / "model.sig"
    bundle.write_text(bundle.read_text().replace('"payload":"', '"payload":"AA', 1).replace('"payload": "', '"payload": "AA', 1))
    with pytest.raises(tensorseal.VerifyError):
        tensorseal.signed(signed_model, policy=Key(keys[1]))
    with pytest.raises(tensorseal.NoAnswerError):
        tensorseal.signed(signed_model, bundle=tmp_path / "none.sig", policy=Key(keys[1]))


def test_a_policy_may_ask_for_two(signed_model, keys, cli, tmp_path):
    cli("keygen", "--out", tmp_path / "second.pem")
    second = tmp_path / "second.sig"
    ignored = ("--ignore-paths", signed_model / "model.sig")
    made = cli("sign", "key", signed_model, "--private-key", tmp_path / "second.pem", "--signature", second, *ignored)
    assert made.returncode == 0, made.stderr
    policy = tmp_path / "policy.toml"
    policy.write_text(f"""
version = 1

[signers.first]
key = "{keys[1]}"

[signers.second]
key = "{tmp_path / 'second.pub'}"

[[rule]]
path = "/**"
all_of = ["first", "second"]
""")
    bundles = [signed_model / "model.sig", second]
    signed = tensorseal.signed(signed_model, bundle=bundles, policy=policy)
    assert len(set(signed.identities)) == 2
    assert signed.tensor_manifest() is not None
    with pytest.raises(tensorseal.VerifyError):
        tensorseal.signed(signed_model, bundle=bundles[:1], policy=policy)


def test_the_manifest_has_the_tiles_of_the_tensors(large, keys):
    manifest = manifest_of(large, keys)
    assert manifest.to_bytes() == (large / "tensorseal.tensors").read_bytes()
    assert manifest.files == ["model.safetensors"] and "key" in manifest.identity
    tensors = load_file(large / "model.safetensors")
    assert set(manifest.tensors) == set(tensors)
    cut = 0
    for name, tensor in tensors.items():
        record = manifest.tensors[name]
        assert (record.name, record.shape, record.file) == (name, tensor.shape, "model.safetensors")
        assert record.range[1] - record.range[0] == tensor.nbytes
        assert record.tiles == [digest(tensor[at(box)]) for box in boxes(record)]
        cut += len(record.tiles) > 1
    assert cut >= 3
    assert [manifest.tensors[name].dtype for name in ("wide", "tall", "small", "scalar")] == ["F16", "F32", "I32", "F64"]


def test_a_manifest_that_was_changed_stale_or_gone_is_refused(large, keys, cli):
    path = large / "tensorseal.tensors"
    signed = tensorseal.signed(large, policy=Key(keys[1]))
    text = bytearray(path.read_bytes())
    text[-1] ^= 1
    path.write_bytes(text)
    with pytest.raises(tensorseal.VerifyError) as caught:
        signed.tensor_manifest()
    assert caught.value.kind == "tensors"
    path.unlink()
    with pytest.raises(tensorseal.NoAnswerError):
        signed.tensor_manifest()


def test_a_signed_file_of_tensors_that_no_manifest_lists_is_refused(large, keys):
    require("model_signing")
    from model_signing import hashing, signing

    # Our program refuses to sign that. Others know nothing of tensors.
    save_file({"more": numpy.ones(3)}, large / "more.safetensors")
    config = signing.Config().use_elliptic_key_signer(private_key=keys[0])
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[large / "model.sig"]))
    config.sign(large, large / "model.sig")
    signed = tensorseal.signed(large, policy=Key(keys[1]))
    assert "more.safetensors" in signed.resources
    with pytest.raises(tensorseal.VerifyError, match="more.safetensors.*is there and not listed"):
        signed.tensor_manifest()


def test_without_a_manifest_there_is_none(model, keys, cli):
    made = cli("sign", "key", model, "--private-key", keys[0], "--signature", model / "model.sig")
    assert made.returncode == 0
    assert tensorseal.signed(model, policy=Key(keys[1])).tensor_manifest() is None


def test_a_manifest_outside_of_the_model_is_named(large, keys, cli, tmp_path):
    (large / "tensorseal.tensors").unlink()
    out = tmp_path / "outside.tensors"
    made = cli("sign", "key", large, "--private-key", keys[0], "--signature", large / "model.sig", "--tensors-out", out)
    assert made.returncode == 0, made.stderr
    signed = tensorseal.signed(large, policy=Key(keys[1]))
    with pytest.raises(tensorseal.UsageError, match="outside|no file of the model"):
        signed.tensor_manifest()
    found = signed.tensor_manifest(out)
    assert found is not None and set(found.tensors) == {"wide", "tall", "cube", "small", "scalar"}


def slices_of(tensors, manifest):
    """Each tensor whole, and of those with tiles a half along each dimension, as a view of the whole."""
    for name, tensor in tensors.items():
        yield Slice(name, None, tensor)
        for dimension, parts in enumerate(manifest.tensors[name].parts):
            if parts % 2 == 0:
                size = tensor.shape[dimension]
                box = [(size // 2, size) if d == dimension else (0, n) for d, n in enumerate(tensor.shape)]
                yield Slice(name, box, tensor[at(box)])
                yield Slice(name, [slice(*of) for of in box], tensor[at(box)].copy())


def test_slices_are_checked_where_they_lie(large, keys):
    manifest = manifest_of(large, keys)
    tensors = {name: tensor.copy() for name, tensor in load_file(large / "model.safetensors").items()}
    slices = list(slices_of(tensors, manifest))
    assert len(slices) > 10
    measured = manifest.verify_slices(slices)
    for one, found in zip(slices, measured, strict=True):
        assert (found.tensor, found.bytes, found.device) == (one.name, one.tensor.nbytes, "cpu")
        assert abs(found.at - time.time()) < 300
    # Every element counts: a flipped bit in any slice is found, and in which tile.
    for name, place in [("wide", (63, 2047)), ("tall", (2048, 0)), ("cube", (8, 127, 255)), ("small", (4,)), ("scalar", ())]:
        before = tensors[name].copy()
        raw = tensors[name][place].tobytes()
        tensors[name][place] = numpy.frombuffer(bytes([raw[0] ^ 1]) + raw[1:], dtype=before.dtype)[0]
        with pytest.raises(tensorseal.VerifyError) as caught:
            manifest.verify_slices(slices_of(tensors, manifest))
        assert {of.name for of in caught.value.differences} == {name} and caught.value.kind == "tensors"
        first = caught.value.differences[0]
        record = manifest.tensors[name]
        tile = record.tiles.index(first.expected.removeprefix("blake3:"))
        assert all(start <= index < end for index, (start, end) in zip(place, boxes(record)[tile], strict=True))
        assert first.found == "blake3:" + digest(tensors[name][at(boxes(record)[tile])])
        (start, end), = first.ranges
        assert record.range[0] <= start < end <= record.range[1]
        tensors[name][...] = before
    manifest.verify_slices(slices_of(tensors, manifest))


def test_what_is_not_the_signed_slice_is_refused(large, keys):
    manifest = manifest_of(large, keys)
    tensors = load_file(large / "model.safetensors")
    tall = tensors["tall"]
    no = [
        Slice("none", None, tall),
        Slice("tall", None, tall.view(numpy.int32)),
        Slice("tall", None, tall.reshape(2048, 512)),
        Slice("tall", None, tall[:2048]),
        Slice("tall", [(0, 4096)], tall),
        Slice("tall", [(0, 2048), (0, 256)], tall[2048:]),
        Slice("wide", None, tensors["wide"][:, ::-1].copy()),
    ]
    for one in no:
        with pytest.raises(tensorseal.VerifyError):
            manifest.verify_slices([Slice("small", None, tensors["small"]), one])
    unusable = [
        Slice("tall", [(0, 3), (0, 256)], tall[:3]),
        Slice("tall", None, numpy.asfortranarray(tall)),
        Slice("tall", None, tall.T.copy().T),
        Slice("tall", [slice(0, 4096, 2), slice(None)], tall),
        Slice("tall", [(-1, 4096), (0, 256)], tall),
        Slice("small", None, tensors["small"][::-1]),
    ]
    for one in unusable:
        with pytest.raises(tensorseal.UsageError) as caught:
            manifest.verify_slices([one])
        assert one.name in str(caught.value)
    with pytest.raises(tensorseal.UsageError, match="no slice"):
        manifest.verify_slices([])


def test_differences_are_named_up_to_a_thousand(tmp_path, keys, cli):
    folder = tmp_path / "many"
    folder.mkdir()
    save_file({f"w{index}": numpy.full(3, index) for index in range(1300)}, folder / "model.safetensors")
    made = cli("sign", "key", folder, "--private-key", keys[0], "--signature", folder / "model.sig", "--tensors")
    assert made.returncode == 0, made.stderr
    manifest = manifest_of(folder, keys)
    other = numpy.full(3, -1)
    with pytest.raises(tensorseal.VerifyError, match="1300 tiles are not as signed") as caught:
        manifest.verify_slices([Slice(name, None, other) for name in manifest.tensors])
    assert len(caught.value.differences) == 1000 and caught.value.fields["differing_tiles"] == 1300


def test_tiles_need_no_manifest(large, keys):
    manifest = manifest_of(large, keys)
    for name, tensor in load_file(large / "model.safetensors").items():
        record = manifest.tensors[name]
        whole = tensorseal.TensorManifest.tile_digests(record.dtype, tensor.shape, None, tensor)
        assert whole == dict(enumerate(record.tiles))
        for dimension, parts in enumerate(record.parts):
            if parts % 2 == 0:
                size = tensor.shape[dimension]
                box = [(0, size // 2) if d == dimension else (0, n) for d, n in enumerate(tensor.shape)]
                part = tensorseal.TensorManifest.tile_digests(record.dtype, tensor.shape, box, tensor[at(box)])
                assert part and part == {tile: record.tiles[tile] for tile in part}
                assert len(part) == len(record.tiles) // 2
    tall = load_file(large / "model.safetensors")["tall"]
    for dtype, shape, ranges in [("F16", (4096, 256), None), ("F32", (4096, 255), None), ("F32", (4096, 256), [(0, 9), (0, 256)])]:
        with pytest.raises(tensorseal.UsageError):
            tensorseal.TensorManifest.tile_digests(dtype, shape, ranges, tall)


def test_coverage_forgets_nothing(large, keys):
    manifest = manifest_of(large, keys)
    tensors = load_file(large / "model.safetensors")
    whole = manifest.verify_slices([Slice(name, None, tensor) for name, tensor in tensors.items()])
    coverage = manifest.coverage()
    coverage.add(whole)
    covered = coverage.finish()
    assert (covered.whole, covered.in_part, covered.not_held) == (5, 0, [])
    assert covered.bytes == sum(tensor.nbytes for tensor in tensors.values())

    coverage = manifest.coverage()
    coverage.add([one for one in whole if one.tensor != "cube"])
    with pytest.raises(tensorseal.VerifyError, match='"cube"'):
        coverage.finish()
    coverage.not_held("cube", "it is the other rank's")
    assert coverage.finish().not_held == [("cube", "it is the other rank's")]

    half = [(0, 2048), (0, 256)]
    coverage = manifest.coverage()
    coverage.add(manifest.verify_slices([Slice("tall", half, tensors["tall"][:2048])]))
    for name in ("wide", "cube", "small", "scalar"):
        coverage.not_held(name, "elsewhere")
    with pytest.raises(tensorseal.VerifyError, match='"tall" from tile'):
        coverage.finish()
    coverage.holds("tall", half)
    assert coverage.finish().in_part == 1
    coverage.not_held("unheard of", "it is nowhere")
    with pytest.raises(tensorseal.VerifyError):
        coverage.finish()


def test_a_slice_of_another_manifest_does_not_count(large, signed_model, keys):
    tensors = load_file(signed_model / TWO)
    other = manifest_of(signed_model, keys)
    coverage = manifest_of(large, keys).coverage()
    coverage.add(other.verify_slices([Slice("steps", None, tensors["steps"])]))
    with pytest.raises(tensorseal.UsageError, match="another manifest"):
        coverage.finish()


def test_whole_files_are_compared_where_their_tensors_lie(signed_model, keys):
    signed = tensorseal.signed(signed_model, policy=Key(keys[1]))
    one, two = load_file(signed_model / ONE), load_file(signed_model / TWO)
    found = tensorseal.verify_resident(signed, [ONE, TWO], one | two)
    assert [(file.name, file.tensors, file.devices) for file in found.files] == [(ONE, 2, ["cpu"]), (TWO, 3, ["cpu"])]
    assert [file.bytes for file in found.files] == [(signed_model / name).stat().st_size for name in (ONE, TWO)]
    assert found.root == signed.root and found.identity == signed.identity and "as signed" in str(found)
    assert set(found.not_measured) == {"config.json", "model.safetensors.index.json", "tensorseal.tensors"}
    # Of which file, and strided.
    wide = numpy.zeros((64, 64), dtype=numpy.float32)
    wide[:, ::2] = two["lm_head.weight"]
    tensorseal.verify_resident(signed, TWO, {(TWO, "steps"): two["steps"], "mask": two["mask"], "lm_head.weight": wide[:, ::2]})
    # Only the header is read of a file.
    with (signed_model / TWO).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    tensorseal.verify_resident(signed, TWO, two)
    with (signed_model / TWO).open("r+b") as file:
        file.seek(8 + two["mask"].nbytes)
        file.write(b" ")
    with pytest.raises((tensorseal.VerifyError, tensorseal.NoAnswerError)):
        tensorseal.verify_resident(signed, TWO, two)


def test_memory_that_is_not_as_signed_is_refused(signed_model, keys):
    signed = tensorseal.signed(signed_model, policy=Key(keys[1]))
    two = load_file(signed_model / TWO)
    flipped = two["mask"].copy()
    flipped[1] = not flipped[1]
    with pytest.raises(tensorseal.VerifyError) as caught:
        tensorseal.verify_resident(signed, TWO, {**two, "mask": flipped})
    assert caught.value.kind == "resident" and [of.name for of in caught.value.differences] == [TWO]
    refused = [
        {name: tensor for name, tensor in two.items() if name != "mask"},
        {**two, "more": two["mask"]},
        {**two, "mask": two["mask"].view(numpy.uint8)},
        {**two, "steps": two["steps"].reshape(7, 1)},
    ]
    for tensors in refused:
        with pytest.raises(tensorseal.VerifyError):
            tensorseal.verify_resident(signed, TWO, tensors)
    for files, tensors in [([], two), (["config.json"], two), (TWO, {**two, "mask": two["mask"][::-1]})]:
        with pytest.raises(tensorseal.UsageError):
            tensorseal.verify_resident(signed, files, tensors)


def test_nothing_is_made_without_a_check():
    for made in (tensorseal.SignedModel, tensorseal.TensorManifest, tensorseal.Seal):
        with pytest.raises(tensorseal.UsageError):
            made({"root": "sha256:00"})
    for native in (tensorseal._native.Signed, tensorseal._native.TensorManifest, tensorseal._native.Measured, tensorseal._native.Seal):
        with pytest.raises(TypeError):
            native()
