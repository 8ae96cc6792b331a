"""Must show 6: a Trainer ends with a signature that everybody verifies, and a bit that flips between device and disk ends it
without one."""

import json
from pathlib import Path

import pytest
from conftest import require

for _module in ("torch", "transformers", "accelerate", "safetensors", "model_signing"):
    require(_module)

import model_signing
import safetensors.torch
import torch
import transformers

import tensorseal
from tensorseal import hf


@pytest.fixture
def signer(keys: tuple[Path, Path]) -> tensorseal.KeySigner:
    return tensorseal.KeySigner(keys[0])


@pytest.fixture
def policy(keys: tuple[Path, Path]) -> tensorseal.Key:
    return tensorseal.Key(keys[1])


def model_of(tied: bool = True) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=tied,
    )
    return transformers.LlamaForCausalLM(config)


class Words(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = (torch.arange(8) + index) % 64
        return {"input_ids": words, "labels": words}


def trainer_of(folder: Path, callback: hf.SigningCallback, tied: bool = True) -> transformers.Trainer:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="steps",
    )
    return transformers.Trainer(
        model=model_of(tied), args=arguments, train_dataset=Words(), callbacks=[callback]
    )


@pytest.mark.parametrize("tied", [True, False])
def test_a_training_ends_with_signatures_that_everybody_verifies(tmp_path, signer, policy, keys, cli, tied):
    callback = hf.SigningCallback(signer=signer)
    trainer = trainer_of(tmp_path, callback, tied)
    trainer.train()
    folders = [tmp_path / name for name in ("checkpoint-2", "checkpoint-4", "final")]
    assert [Path(signed.model) for signed in callback.signed] == folders
    for folder in folders:
        report = tensorseal.verify(folder, policy=policy, digests="all")
        assert report.resources > 3
        verified = cli("verify", "key", folder, "--public-key", keys[1], "--signature", folder / "model.sig")
        assert verified.returncode == 0, verified.stderr
        config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys[1])
        config.verify(folder, folder / "model.sig")
    again = transformers.LlamaForCausalLM.from_pretrained(folders[-1])
    assert torch.equal(again.model.norm.weight, trainer.model.model.norm.weight)
    data = bytearray((folders[-1] / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folders[-1] / "model.safetensors").write_bytes(data)
    with pytest.raises(tensorseal.VerifyError):
        tensorseal.verify(folders[-1], policy=policy)


class FlipsABit:
    """In place of the function by which transformers writes weights: what arrives on the disk differs in one bit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at_call: int) -> None:
        self.calls = 0
        real = transformers.modeling_utils.safe_save_file

        def save_file(tensors, filename, *arguments, **named):
            self.calls += 1
            if self.calls == at_call:
                name = sorted(tensors)[1]
                flipped = tensors[name].clone()
                flipped.view(torch.uint8).reshape(-1)[5] ^= 1
                tensors = tensors | {name: flipped}
            return real(tensors, filename, *arguments, **named)

        monkeypatch.setattr(transformers.modeling_utils, "safe_save_file", save_file)


@pytest.mark.parametrize(("at_call", "folder"), [(1, "checkpoint-2"), (3, "final")])
def test_a_bit_that_flips_between_device_and_disk_stops_the_signing(
    tmp_path, signer, policy, monkeypatch, at_call, folder
):
    flips = FlipsABit(monkeypatch, at_call)
    callback = hf.SigningCallback(signer=signer)
    with pytest.raises(tensorseal.VerifyError, match="written bytes differ") as raised:
        trainer_of(tmp_path, callback).train()
    assert flips.calls == at_call
    assert raised.value.kind == "written-bytes-differ"
    assert "differs in 1 of" in str(raised.value)
    assert not (tmp_path / folder / "model.sig").exists()
    assert not list((tmp_path / folder).glob("tensorseal.tensors"))
    for signed in callback.signed:
        tensorseal.verify(signed.model, policy=policy)


def test_the_signer_fails(tmp_path):
    bad = tmp_path / "key.pem"
    bad.write_text("no key")
    out = tmp_path / "out"
    with pytest.raises(tensorseal.NoAnswerError):
        trainer_of(out, hf.SigningCallback(signer=tensorseal.KeySigner(bad), checkpoints=False)).train()
    assert not list(out.rglob("model.sig"))
    assert (out / "final" / "model.safetensors").is_file()


def test_an_older_signature_goes_before_the_weights_are_replaced(tmp_path, signer, monkeypatch):
    trainer_of(tmp_path, hf.SigningCallback(signer=signer, checkpoints=False)).train()
    final = tmp_path / "final"
    assert (final / "model.sig").is_file()
    real = transformers.modeling_utils.safe_save_file

    def save_file(tensors, filename, *arguments, **named):
        if Path(filename).parent == final:
            assert not (final / "model.sig").exists()
        return real(tensors, filename, *arguments, **named)

    monkeypatch.setattr(transformers.modeling_utils, "safe_save_file", save_file)
    trainer_of(tmp_path, hf.SigningCallback(signer=signer, checkpoints=False)).train()
    assert (final / "model.sig").is_file()


def test_what_somebody_saved_is_compared(tmp_path, signer, policy):
    model = model_of()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    hf.sign_saved(model, tmp_path, signer=signer)
    tensorseal.verify(tmp_path, policy=policy, digests="all")
    # Again, in place of the older signature; by the state dict; without tensors.
    hf.sign_saved(model.state_dict(), tmp_path, signer=signer, tensors=False, hash="blake3")
    tensorseal.verify(tmp_path, policy=policy)

    def refused(match: str) -> None:
        with pytest.raises(tensorseal.VerifyError, match=match) as raised:
            hf.sign_saved(model, tmp_path, signer=signer)
        assert raised.value.kind == "written-bytes-differ" and raised.value.differences
        assert not (tmp_path / "model.sig").exists()

    # A shard is missing; a tensor is in memory in another type; one is in the files that is in no model; nothing is there.
    index = json.loads((tmp_path / "model.safetensors.index.json").read_bytes())
    shard = tmp_path / index["weight_map"]["model.norm.weight"]
    data = shard.read_bytes()
    shard.unlink()
    refused("is in no file")
    shard.write_bytes(data)
    safetensors.torch.save_file({"more": torch.zeros(2)}, tmp_path / "more.safetensors")
    refused("no tensor in memory")
    safetensors.torch.save_file({"model.norm.weight": model.model.norm.weight.detach()}, tmp_path / "more.safetensors")
    refused("once more")
    (tmp_path / "more.safetensors").unlink()
    with torch.no_grad():
        model.model.norm.weight[3] += 1
    refused('"model.norm.weight" differs')
    model.model.norm.half()
    refused("is F32")
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(tensorseal.NoAnswerError, match="no .safetensors"):
        hf.sign_saved(model, tmp_path, signer=signer)


def test_a_module_that_is_no_model_of_transformers(tmp_path, signer, policy):
    class Toy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(8, 8)

        def forward(self, input_ids, labels=None):
            found = self.linear(input_ids.float())
            return {"loss": found.pow(2).mean(), "logits": found}

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    callback = hf.SigningCallback(signer=signer)
    transformers.Trainer(model=Toy(), args=arguments, train_dataset=Words(), callbacks=[callback]).train()
    tensorseal.verify(tmp_path / "final", policy=policy)
    assert [Path(signed.model).name for signed in callback.signed] == ["final"]


def test_an_old_signature_goes_also_if_the_new_one_lies_elsewhere(tmp_path, signer, policy):
    folder, bundle = tmp_path / "m", tmp_path / "other.sig"
    model = model_of()
    model.save_pretrained(folder)
    for where in (None, bundle):
        hf.sign_saved(model, folder, signer=signer, bundle=where)
    assert not (folder / "model.sig").exists()
    assert "model.sig" not in tensorseal.signed(folder, bundle=bundle, policy=policy).resources


def test_a_file_that_is_replaced_while_it_is_compared(tmp_path, signer, monkeypatch):
    model = model_of()
    model.save_pretrained(tmp_path)
    real = hf._names_in

    def names_in(*arguments):
        held = real(*arguments)
        # The tied one that was saved is in it no more.
        state = {name: tensor for name, tensor in model.state_dict().items() if name not in ("model.embed_tokens.weight", "lm_head.weight")}
        safetensors.torch.save_file(state, tmp_path / "model.safetensors")
        return held

    monkeypatch.setattr(hf, "_names_in", names_in)
    with pytest.raises(tensorseal.NoAnswerError, match="was replaced"):
        hf.sign_saved(model, tmp_path, signer=signer)
    assert not (tmp_path / "model.sig").exists()


def test_a_model_that_is_spread_over_ranks_is_refused_before_the_training(tmp_path, signer):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = model_of(tied=False)
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        callback = hf.SigningCallback(signer=signer)
        arguments = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
        with pytest.raises(tensorseal.UsageError, match="tensorseal.distributed"):
            callback.on_train_begin(arguments, None, None, model=model)
    finally:
        dist.destroy_process_group()


RANK = """
import os, sys
sys.path[:0] = {paths!r}
import test_hf_trainer as t
from tensorseal import KeySigner, hf
if os.environ["RANK"] == "0":
    real = hf.sign_saved
    def sign_saved(model, folder, **options):
        with t.torch.no_grad():
            next(model.parameters())[0] += 1
        return real(model, folder, **options)
    hf.sign_saved = sign_saved
callback = hf.SigningCallback(signer=KeySigner({key!r}), final=None)
try:
    t.trainer_of(t.Path({out!r}), callback).train()
except t.tensorseal.VerifyError as error:
    print("refused:", error, flush=True)
    os._exit(3)
os._exit(0)
"""


def test_what_one_rank_refuses_all_refuse(tmp_path, keys):
    """Two ranks with copies, of which one saves: the other does not wait for it in the next step."""
    import os
    import socket
    import subprocess
    import sys

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(tensorseal.__file__).parents[1])]
    code = RANK.format(paths=paths, key=str(keys[0]), out=str(tmp_path / "out"))
    started = []
    for rank in ("0", "1"):
        ranked = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | ranked | {"ACCELERATE_USE_CPU": "true"}
        started.append(
            subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        said = [process.communicate(timeout=180) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [3, 3], said
    assert all("written bytes differ" in out for out, _ in said) and "rank 0: " in said[1][0]
    assert not list(tmp_path.rglob("model.sig"))
