"""torch.distributed.checkpoint signs what it saves, if that is what lay on the device."""

from pathlib import Path

import pytest
from conftest import require

for _module in ("torch", "safetensors", "model_signing"):
    require(_module)

import model_signing
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException

import tensorseal
from tensorseal.dcp import SigningWriter


@pytest.fixture
def signer(keys: tuple[Path, Path]) -> tensorseal.KeySigner:
    return tensorseal.KeySigner(keys[0])


@pytest.fixture
def policy(keys: tuple[Path, Path]) -> tensorseal.Key:
    return tensorseal.Key(keys[1])


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {"w": torch.randn(300, 128), "half": torch.randn(64, 8).half(), "bf16": torch.randn(64).bfloat16()}


OPTIONS = [
    {},
    {"fqn_to_index_mapping": {"w": 1, "half": 2, "bf16": 2}},
    {"save_distributed": True},
    {"save_distributed": True, "enable_consolidation": True},
    {"thread_count": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_a_checkpoint_is_signed(tmp_path, signer, policy, keys, cli, options):
    (tmp_path / "config.json").write_text("{}")
    # Twice: in place of an older signature.
    for seed in (1, 0):
        writer = SigningWriter(tmp_path, signer=signer, **options)
        dcp.save(tensors(seed), storage_writer=writer, no_dist=True)
    assert writer.signed is not None
    assert tensorseal.verify(tmp_path, policy=policy, digests="all").root == writer.signed.root
    verified = cli("verify", "key", tmp_path, "--public-key", keys[1], "--signature", tmp_path / "model.sig")
    assert verified.returncode == 0, verified.stderr
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys[1]).verify(
        tmp_path, tmp_path / "model.sig"
    )
    loaded: dict[str, torch.Tensor] = {}
    for path in tmp_path.glob("*.safetensors"):
        loaded |= load_file(path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors().items())


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_a_bit_that_flips_between_device_and_disk_stops_the_signing(tmp_path, signer, monkeypatch, options):
    dcp.save(tensors(1), storage_writer=SigningWriter(tmp_path, signer=signer, **options), no_dist=True)
    real = torch.distributed.checkpoint.filesystem._write_item

    def write_item(transforms, stream, data, item, *arguments):
        if item.index.fqn == "half":
            # In the host's copy, which is what is written.
            data.view(torch.uint8).reshape(-1)[7] ^= 1
        return real(transforms, stream, data, item, *arguments)

    monkeypatch.setattr(torch.distributed.checkpoint.filesystem, "_write_item", write_item)
    with pytest.raises(CheckpointException) as raised:
        dcp.save(tensors(), storage_writer=SigningWriter(tmp_path, signer=signer, **options), no_dist=True)
    [(error, _)] = raised.value.failures.values()
    assert isinstance(error, tensorseal.VerifyError) and error.kind == "written-bytes-differ"
    assert '"half" differs' in str(error)
    assert not (tmp_path / "model.sig").exists(), "nor the older one"


@pytest.mark.parametrize("options", [{}, {"save_distributed": True, "enable_consolidation": True}], ids=repr)
def test_files_of_an_earlier_save_are_not_signed_with_this_one(tmp_path, signer, options):
    mapping = {"w": 1, "half": 2, "bf16": 3}
    dcp.save(tensors(1), storage_writer=SigningWriter(tmp_path, signer=signer, fqn_to_index_mapping=mapping), no_dist=True)
    with pytest.raises(CheckpointException) as raised:
        dcp.save(tensors(), storage_writer=SigningWriter(tmp_path, signer=signer, **options), no_dist=True)
    [(error, _)] = raised.value.failures.values()
    assert isinstance(error, tensorseal.VerifyError) and error.kind == "written-bytes-differ"
    assert error.differences and not (tmp_path / "model.sig").exists()


def test_the_signer_fails(tmp_path, signer):
    bad = tmp_path / "key.pem"
    bad.write_text("no key")
    with pytest.raises(CheckpointException) as raised:
        writer = SigningWriter(tmp_path / "m", signer=tensorseal.KeySigner(bad))
        dcp.save(tensors(), storage_writer=writer, no_dist=True)
    [(error, _)] = raised.value.failures.values()
    assert isinstance(error, tensorseal.NoAnswerError)
    assert not (tmp_path / "m" / "model.sig").exists()


def test_what_is_no_tensor_is_refused_before_it_is_written(tmp_path, signer):
    with pytest.raises(CheckpointException) as raised:
        dcp.save({"w": torch.zeros(3), "step": 5}, storage_writer=SigningWriter(tmp_path, signer=signer), no_dist=True)
    [(error, _)] = raised.value.failures.values()
    assert isinstance(error, tensorseal.UsageError) and "'step'" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_not_signed_in_place_of_what_lies_on_the_device(tmp_path, signer):
    with pytest.raises(tensorseal.UsageError, match="async_save"):
        dcp.async_save(tensors(), storage_writer=SigningWriter(tmp_path, signer=signer), no_dist=True)
    assert list(tmp_path.iterdir()) == []


def test_an_old_signature_goes_also_if_the_new_one_lies_elsewhere(tmp_path, signer, policy):
    folder, bundle = tmp_path / "m", tmp_path / "other.sig"
    for where in (None, bundle):
        dcp.save(tensors(), storage_writer=SigningWriter(folder, signer=signer, bundle=where), no_dist=True)
    assert not (folder / "model.sig").exists()
    assert "model.sig" not in tensorseal.signed(folder, bundle=bundle, policy=policy).resources
    tensorseal.verify(folder, bundle=bundle, policy=policy)
