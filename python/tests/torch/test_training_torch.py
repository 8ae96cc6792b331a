"""save_and_sign of torch's tensors: what is written is what safetensors and huggingface_hub would write."""

from pathlib import Path

import pytest
from conftest import require

require("torch")
require("safetensors")
require("huggingface_hub")

import safetensors.torch
import torch
from huggingface_hub import split_torch_state_dict_into_shards

import tensorseal
from tensorseal import training


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "w": torch.randn(300, 128),
        "half": torch.randn(64, 8).half(),
        "bf16": torch.randn(64, 8).bfloat16(),
        "f64": torch.randn(7, dtype=torch.float64),
        "e4m3": torch.randn(33).to(torch.float8_e4m3fn),
        "e5m2": torch.randn(33).to(torch.float8_e5m2),
        "e8m0": torch.randint(0, 255, (6,), dtype=torch.uint8).view(torch.float8_e8m0fnu),
        "fnuz": torch.randn(5).to(torch.float8_e4m3fnuz),
        "fp4": torch.randint(0, 255, (4, 6), dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        "bool": torch.tensor([True, False, True]),
        "complex": torch.randn(5, dtype=torch.complex64),
        "scalar": torch.tensor(5.0),
        "none": torch.zeros(0, 7),
        "uint64": torch.arange(3).to(torch.uint64),
        "uint16": torch.arange(3).to(torch.uint16),
        "int8": torch.arange(3, dtype=torch.int8),
        "é\n\"": torch.arange(3, dtype=torch.int32),
        "parameter": torch.nn.Parameter(torch.randn(3, 3)),
    }


@pytest.fixture
def signer(keys: tuple[Path, Path]) -> tensorseal.KeySigner:
    return tensorseal.KeySigner(keys[0])


@pytest.fixture
def policy(keys: tuple[Path, Path]) -> tensorseal.Key:
    return tensorseal.Key(keys[1])


def test_every_type_is_written_as_safetensors_writes_it(tmp_path, signer, policy, keys, cli):
    signed = tensorseal.save_and_sign(tensors(), tmp_path / "m", signer=signer)
    safetensors.torch.save_file(tensors(), tmp_path / "own.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "own.safetensors").read_bytes()
    assert tensorseal.verify(tmp_path / "m", policy=policy, digests="all").root == signed.root
    verified = cli("verify", "key", tmp_path / "m", "--public-key", keys[1], "--signature", tmp_path / "m" / "model.sig")
    assert verified.returncode == 0, verified.stderr


def test_strides(tmp_path, signer, policy, monkeypatch):
    monkeypatch.setattr("tensorseal._blocks.BLOCK", 1000)
    whole = torch.randn(40, 50, 6)
    given = {
        "t": torch.randn(30, 70).t(),
        "permuted": torch.randn(4, 50, 6).permute(2, 0, 1),
        "sliced": whole[::2, 3:40, 1:4],
        "narrow": torch.randn(100, 64).narrow(1, 8, 16),
        "channels": torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last),
    }
    assert not any(tensor.is_contiguous() for tensor in given.values())
    tensorseal.save_and_sign(given, tmp_path / "m", signer=signer)
    dense = {name: tensor.contiguous() for name, tensor in given.items()}
    safetensors.torch.save_file(dense, tmp_path / "own.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "own.safetensors").read_bytes()
    tensorseal.verify(tmp_path / "m", policy=policy, digests="all")


@pytest.mark.parametrize("size", ["20KB", "100KB", "5GB", 7])
def test_shards_are_those_of_huggingface_hub(tmp_path, signer, policy, size):
    given = {name: tensor for name, tensor in tensors().items() if name not in ("none", "fp4")}
    given |= {f"more.{i}": torch.randn(40 * i + 1, 11) for i in range(12)}
    tensorseal.save_and_sign(given, tmp_path, signer=signer, max_shard_size=size)
    split = split_torch_state_dict_into_shards(given, filename_pattern="model{suffix}.safetensors", max_shard_size=size)
    # The hub begins a first shard even if it stays empty, and counts it.
    held = {name: names for name, names in split.filename_to_tensors.items() if names}
    found = {
        path.name: sorted(safetensors.torch.load_file(path)) for path in sorted(tmp_path.glob("*.safetensors"))
    }
    if len(held) == len(split.filename_to_tensors):
        assert found == {name: sorted(names) for name, names in held.items()}
    assert sorted(sorted(names) for names in found.values()) == sorted(sorted(names) for names in held.values())
    tensorseal.verify(tmp_path, policy=policy, digests="all")


def test_tied_weights_are_refused_or_left_out_as_save_model_has_it(tmp_path, signer, policy):
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(10, 4)
            self.head = torch.nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    with pytest.raises(tensorseal.UsageError, match="share memory"):
        tensorseal.save_and_sign(model.state_dict(), tmp_path, signer=signer)
    tensorseal.save_and_sign(model.state_dict(), tmp_path, signer=signer, discard=["head.weight"], metadata={})
    safetensors.torch.save_model(model, tmp_path / "own")
    written = (tmp_path / "model.safetensors").read_bytes()
    assert written == (tmp_path / "own").read_bytes()
    (tmp_path / "own").unlink()
    again = Tied()
    safetensors.torch.load_model(again, tmp_path / "model.safetensors")
    assert torch.equal(again.head.weight, model.embed.weight)
    tensorseal.verify(tmp_path, policy=policy)


def test_what_has_no_bytes_to_sign(tmp_path, signer):
    for tensor in [torch.zeros(3, device="meta"), torch.zeros(3).to_sparse(), torch.randn(3, dtype=torch.complex64).conj()]:
        with pytest.raises(tensorseal.UsageError, match="tensor \"w\""):
            tensorseal.save_and_sign({"w": tensor}, tmp_path / "m", signer=signer)
    assert not (tmp_path / "m").exists()


def test_a_flipped_bit_is_named(tmp_path, signer, monkeypatch):
    real = training.blocks

    def blocks(tensor):
        for block in real(tensor):
            if tensor.name == "bf16":
                block = block.clone()
                block[100] ^= 1
            yield block

    monkeypatch.setattr(training, "blocks", blocks)
    with pytest.raises(tensorseal.VerifyError, match='the tensor "bf16" differs') as raised:
        tensorseal.save_and_sign(tensors(), tmp_path / "m", signer=signer)
    assert raised.value.kind == "written-bytes-differ"
    assert not (tmp_path / "m").exists()


def test_the_model_is_not_copied_as_a_whole(tmp_path, signer):
    """Of a tensor on the host that lies in order, what is written is its own memory."""
    from tensorseal._blocks import blocks
    from tensorseal._safetensors import lend_all

    tensor = torch.randn(64, 64)
    [lent] = lend_all({"w": tensor})
    assert [block.data_ptr() for block in blocks(lent)] == [tensor.data_ptr()]
