"""`guard`: transformers and diffusers over models that were verified, and refused over others."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from conftest import require

require("torch")
require("transformers")
require("safetensors")

import safetensors
import safetensors.torch
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

import tensorseal

# As a user would have them: names of its own in each module.
from safetensors import safe_open
from safetensors.torch import load_file

CODE = """
from transformers import LlamaConfig
class OwnConfig(LlamaConfig):
    model_type = "own-llama"
"""


@pytest.fixture(scope="module")
def _llama(tmp_path_factory: pytest.TempPathFactory, keys, cli) -> Path:
    torch.manual_seed(6)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    folder = tmp_path_factory.mktemp("llama") / "m"
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    _sign(folder, keys, cli)
    return folder


def _sign(folder: Path, keys, cli) -> None:
    made = cli("sign", "key", folder, "--private-key", keys[0], "--signature", folder / "model.sig")
    assert made.returncode == 0, made.stderr


@pytest.fixture
def llama(_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_llama, tmp_path / "m"))


@pytest.fixture
def key(keys) -> tensorseal.Key:
    return tensorseal.Key(keys[1])


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _names() -> list[object]:
    """What a guard replaces, as it is now."""
    return [
        safetensors.safe_open,
        safe_open,
        load_file,
        safetensors.torch.load_file,
        safetensors.torch.load,
        safetensors.deserialize,
        torch.load,
        torch.serialization.load,
        torch.jit.load,
        transformers.modeling_utils.safe_open,
        transformers.utils.hub.cached_files,
        transformers.PreTrainedModel.__dict__["from_pretrained"],
        transformers.PreTrainedConfig.__dict__["get_config_dict"],
    ]


@pytest.fixture(autouse=True)
def _restored():
    before = _names()
    yield
    assert all(now is then for now, then in zip(_names(), before, strict=True)), "leaving restores everything"
    import sys

    assert not any(type(finder).__module__.startswith("tensorseal") for finder in sys.meta_path)


def test_a_signed_model_loads_as_without_a_guard(llama: Path, key: tensorseal.Key) -> None:
    plain = AutoModelForCausalLM.from_pretrained(llama).state_dict()
    # safetensors maps files: these would change with them.
    plain = {name: tensor.clone() for name, tensor in plain.items()}
    with tensorseal.guard(policy=key) as guarded:
        model = AutoModelForCausalLM.from_pretrained(llama)
        assert AutoConfig.from_pretrained(str(llama)).hidden_size == 32
        with safe_open(_weights(llama), "pt") as opened:
            assert opened.keys()
    assert [report.model for report in guarded.reports] == [str(llama)], "once for the folder"
    state = model.state_dict()
    assert state.keys() == plain.keys()
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    # Its memory is its own: what happens to the files is nothing to it.
    for file in llama.glob("*.safetensors"):
        file.write_bytes(b"\0" * file.stat().st_size)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in model.state_dict().items())
    logits = model(torch.tensor([[1, 2, 3]])).logits
    assert logits.shape == (1, 3, 64) and torch.isfinite(logits).all()


def _refused(llama: Path, key: tensorseal.Key) -> tensorseal.VerifyError:
    with pytest.raises(tensorseal.VerifyError) as caught, tensorseal.guard(policy=key):
        AutoModelForCausalLM.from_pretrained(llama)
    return caught.value


def _weights(m: Path) -> Path:
    return sorted(m.glob("*.safetensors"))[-1]


CHANGES = {
    "a bit of the weights": (lambda m: _flip(_weights(m), -1), "changed"),
    "a bit of a header": (lambda m: _flip(_weights(m), 20), "changed"),
    "a configuration": (
        lambda m: (m / "config.json").write_text((m / "config.json").read_text().replace('"silu"', '"gelu"')),
        "changed",
    ),
    "an extra shard": (lambda m: shutil.copy(_weights(m), m / "model-00009.safetensors"), "unsigned"),
    "pickled weights beside": (lambda m: (m / "pytorch_model.bin").write_bytes(b"\x80\x04."), "unsigned"),
    "code beside": (lambda m: (m / "modeling_own.py").write_text(CODE), "unsigned"),
    "a shard missing": (lambda m: _weights(m).unlink(), "missing"),
    "an index": (lambda m: _flip(m / "model.safetensors.index.json", 30), "changed"),
}


@pytest.mark.parametrize("about", CHANGES)
def test_every_change_stops_from_pretrained(llama: Path, key: tensorseal.Key, about: str) -> None:
    change, kind = CHANGES[about]
    change(llama)
    error = _refused(llama, key)
    kinds = {difference.kind for difference in error.differences}
    assert kinds & {kind, "resized"}, (about, error.differences)


def test_a_configuration_is_not_even_read_from_what_is_refused(llama: Path, key: tensorseal.Key) -> None:
    (llama / "config.json").write_text("this is no JSON, and its parser would say so")
    with pytest.raises(tensorseal.VerifyError), tensorseal.guard(policy=key):
        AutoConfig.from_pretrained(llama)
    with pytest.raises(tensorseal.VerifyError), tensorseal.guard(policy=key):
        AutoConfig.from_pretrained(llama / "config.json")


def test_whatever_is_looked_for_is_a_signed_file(llama: Path, key: tensorseal.Key) -> None:
    with pytest.raises(tensorseal.VerifyError) as caught, tensorseal.guard(policy=key):
        GenerationConfig.from_pretrained(llama)
        (llama / "later.json").write_text("{}")
        GenerationConfig.from_pretrained(llama, "later.json")
    assert caught.value.kind == "unsigned", "it came after the folder was verified"
    (llama / "later.json").unlink()
    (llama / "generation_config.json").write_text("this is no JSON, and its parser would say so")
    with pytest.raises(tensorseal.VerifyError), tensorseal.guard(policy=key):
        GenerationConfig.from_pretrained(llama)


def test_another_signer_and_no_signature(llama: Path, key: tensorseal.Key, cli, tmp_path: Path) -> None:
    assert cli("keygen", "--out", tmp_path / "other.pem").returncode == 0
    assert _refused(llama, tensorseal.Key(tmp_path / "other.pub")).kind == "signature"
    (llama / "model.sig").unlink()
    with pytest.raises(tensorseal.NoAnswerError) as caught, tensorseal.guard(policy=key):
        AutoModelForCausalLM.from_pretrained(llama)
    assert caught.value.kind == "no-signature"
    with pytest.raises(tensorseal.UsageError, match="TENSORSEAL_POLICY"):
        tensorseal.guard()


def test_a_bundle_may_lie_elsewhere(llama: Path, key: tensorseal.Key, tmp_path: Path) -> None:
    bundle = (llama / "model.sig").rename(tmp_path / "elsewhere.sig")
    with tensorseal.guard(policy=key, bundle=bundle) as guarded:
        AutoModel.from_pretrained(llama)
    assert len(guarded.reports) == 1


def test_pickled_weights_are_refused_also_where_they_are_signed(llama: Path, key: tensorseal.Key, keys, cli) -> None:
    state = LlamaForCausalLM.from_pretrained(llama).state_dict()
    for file in llama.glob("model*"):
        file.unlink()
    torch.save(state, llama / "pytorch_model.bin")
    _sign(llama, keys, cli)
    error = _refused(llama, key)
    assert "pickled" in str(error) and error.kind == "unguarded"
    with pytest.raises(tensorseal.VerifyError, match="pickled"), tensorseal.guard(policy=key):
        torch.load(llama / "pytorch_model.bin", weights_only=True)


def test_code_is_run_where_it_is_signed(llama: Path, key: tensorseal.Key, keys, cli) -> None:
    (llama / "configuration_own.py").write_text(CODE)
    config = json.loads((llama / "config.json").read_text())
    config |= {"model_type": "own-llama", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
    (llama / "config.json").write_text(json.dumps(config))
    _sign(llama, keys, cli)
    with tensorseal.guard(policy=key):
        assert type(AutoConfig.from_pretrained(llama, trust_remote_code=True)).__name__ == "OwnConfig"
    with (llama / "configuration_own.py").open("a") as code:
        code.write("raise SystemExit('code that nobody signed was run')\n")
    with pytest.raises(tensorseal.VerifyError), tensorseal.guard(policy=key):
        AutoConfig.from_pretrained(llama, trust_remote_code=True)


def test_what_goes_past_the_guard_is_refused(llama: Path, key: tensorseal.Key, monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights that are read into memory by others, and parsed there.
    with pytest.raises(tensorseal.VerifyError, match="safetensors.torch.load"), tensorseal.guard(policy=key):
        AutoModelForCausalLM.from_pretrained(llama, disable_mmap=True)
    # A version that reads weights in a way which nothing here knows: it returns, and what it returns is not handed out.
    own = LlamaForCausalLM(LlamaConfig.from_pretrained(llama))
    original = transformers.PreTrainedModel.__dict__["from_pretrained"]

    def looks_only(cls, folder, *_, **__):
        with transformers.modeling_utils.safe_open(_weights(folder), "pt") as opened:
            assert opened.metadata() and opened.get_slice(opened.keys()[0]).get_shape()
        return own

    try:
        transformers.PreTrainedModel.from_pretrained = classmethod(looks_only)
        with pytest.raises(tensorseal.NoAnswerError, match="without having read a verified tensor"):
            with tensorseal.guard(policy=key):
                AutoConfig.from_pretrained(llama)
                LlamaForCausalLM.from_pretrained(llama)
    finally:
        transformers.PreTrainedModel.from_pretrained = original
    # A version without what is replaced.
    monkeypatch.delattr(transformers.utils.hub, "cached_files")
    with pytest.raises(tensorseal.UsageError, match="cannot be guarded"), tensorseal.guard(policy=key):
        pass
    monkeypatch.undo()


def test_a_second_model_is_not_what_became_of_the_first(llama: Path, key: tensorseal.Key) -> None:
    with tensorseal.guard(policy=key):
        first = LlamaForCausalLM.from_pretrained(llama)
        plain = {name: tensor.clone() for name, tensor in first.state_dict().items()}
        for parameter in first.parameters():
            parameter.data.zero_()
        second = LlamaForCausalLM.from_pretrained(llama)
        files = load_file(_weights(llama)), load_file(_weights(llama))
        with safe_open(_weights(llama), "pt") as opened:
            name = opened.keys()[0]
            tensor = opened.get_tensor(name)
            assert opened.get_tensor(name).data_ptr() == tensor.data_ptr(), "one reader, one memory"
    assert all(torch.equal(tensor, plain[name]) for name, tensor in second.state_dict().items())
    assert not any(files[0][name].data_ptr() == files[1][name].data_ptr() for name in files[0])
    with pytest.raises(tensorseal.VerifyError), tensorseal.guard(policy=key):
        LlamaForCausalLM.from_pretrained(llama)
        _flip(_weights(llama), -1)
        LlamaForCausalLM.from_pretrained(llama)


def test_weights_that_stay_on_disk_are_refused(llama: Path, key: tensorseal.Key, tmp_path: Path) -> None:
    require("accelerate")
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {"model.layers.0": "cpu", "model.layers.1": "disk"}
    with pytest.raises(tensorseal.NoAnswerError, match="on disk"), tensorseal.guard(policy=key):
        LlamaForCausalLM.from_pretrained(llama, device_map=places, offload_folder=tmp_path / "o")


def test_a_file_that_came_later_is_not_read_however_it_is_opened(llama: Path, key: tensorseal.Key) -> None:
    with tensorseal.guard(policy=key):
        AutoConfig.from_pretrained(llama)
        (llama / "later.json").write_text("{}")
        for mode in ("r", "rb", "r+", "rb+"):
            with pytest.raises(tensorseal.VerifyError), (llama / "later.json").open(mode):
                pass


def test_nothing_verified_is_no_success(key: tensorseal.Key) -> None:
    with pytest.raises(tensorseal.NoAnswerError), tensorseal.guard(policy=key):
        pass
    with pytest.raises(KeyError), tensorseal.guard(policy=key):
        raise KeyError("what the caller raises is what is raised")


def test_one_at_a_time(llama: Path, key: tensorseal.Key) -> None:
    seen: list[BaseException] = []

    def other() -> None:
        try:
            with tensorseal.guard(policy=key):
                pass
        except tensorseal.UsageError as error:
            seen.append(error)

    with tensorseal.guard(policy=key):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        AutoModel.from_pretrained(llama)
    assert len(seen) == 1
    with tensorseal.guard(policy=key):
        AutoModel.from_pretrained(llama)


def test_a_snapshot_of_the_hub_is_links(llama: Path, key: tensorseal.Key, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(llama.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    with pytest.raises(tensorseal.VerifyError), tensorseal.guard(policy=key):
        AutoModel.from_pretrained(snapshot)
    with tensorseal.guard(policy=key, symlinks="anywhere") as guarded:
        AutoModel.from_pretrained(snapshot)
    assert len(guarded.reports) == 1


def test_diffusers(tmp_path: Path, key: tensorseal.Key, keys, cli) -> None:
    require("diffusers")
    from diffusers import AutoencoderKL

    torch.manual_seed(6)
    model = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=2)
    folder = tmp_path / "d"
    model.save_pretrained(folder)
    _sign(folder, keys, cli)
    with tensorseal.guard(policy=key) as guarded:
        loaded = AutoencoderKL.from_pretrained(folder)
    assert len(guarded.reports) == 1
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    weights = next(folder.glob("*.safetensors"))
    sound = {path: path.read_bytes() for path in folder.iterdir()}
    more = folder / "x.safetensors"
    for change, name in (
        (lambda: _flip(weights, -1), weights.name),
        (lambda: _flip(folder / "config.json", 3), "config.json"),
        (lambda: shutil.copy(weights, more), more.name),
    ):
        change()
        with pytest.raises(tensorseal.VerifyError) as caught, tensorseal.guard(policy=key):
            AutoencoderKL.from_pretrained(folder)
        assert [of.name for of in caught.value.differences] == [name]
        more.unlink(missing_ok=True)
        for path, data in sound.items():
            path.write_bytes(data)
    with tensorseal.guard(policy=key):
        AutoencoderKL.from_pretrained(folder)
    with pytest.raises(tensorseal.UsageError, match="local folder"), tensorseal.guard(policy=key):
        AutoencoderKL.from_pretrained("nobody/nothing-of-the-kind")
