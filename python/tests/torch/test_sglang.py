"""The load format of SGLang on a fake of its interface: what reaches the model was verified, or the start ends."""

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import require

require("torch")
require("safetensors")

import torch
from engines import differing, faked, found
from recorded import SGLANG_FIELDS, SGLANG_SIGNATURES
from safetensors.torch import load_file, save_file

from tensorseal.errors import UsageError, VerifyError

INNERS = ("safetensors", "fastsafetensors", "instanttensor")


class Toy(torch.nn.Module):
    """Takes whatever comes, as an engine does: into parameters of its own."""

    def load_weights(self, weights) -> None:
        self.seen = []
        for name, tensor in weights:
            self.seen.append(name)
            parameter = torch.nn.Parameter(tensor.clone(), requires_grad=False)
            self.register_parameter(name.replace(".", "_"), parameter)


@pytest.fixture
def sglang() -> Iterator[None]:
    with faked("sglang", "tensorseal.sglang"):
        import tensorseal.sglang

        tensorseal.sglang.register()
        yield


@pytest.fixture
def policy(keys: tuple[Path, Path], tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(f'version = 1\n[signers.us]\nkey = "{keys[1]}"\n[[rule]]\npath = "/**"\nany_of = ["us"]\n')
    return path


def start(model: Path, policy: Path | None, load_format="private", quantization=None, **asked):
    """As SGLang does: a configuration, a loader for it, a model."""
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.model_loader import loader

    extra = {"tensorseal": {"policy": str(policy), **asked}} if policy is not None else {}
    config = LoadConfig(load_format=load_format, model_loader_extra_config=extra, tp_rank=0)
    made = Toy()
    model_config = SimpleNamespace(model_path=str(model), quantization=quantization, make=lambda: made)
    return loader.get_model_loader(config, model_config).load_model(
        model_config=model_config, device_config=SimpleNamespace(device="cpu")
    )


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_the_fake_is_what_was_recorded(sglang) -> None:
    # `get_model_loader` and `check_weights` are wrapped, and wrappers show what they wrap.
    assert differing(SGLANG_SIGNATURES) == {}
    for target, fields in SGLANG_FIELDS.items():
        assert fields <= {field.name for field in dataclasses.fields(found(target))}


@pytest.mark.skipif(importlib.util.find_spec("sglang") is None, reason="SGLang is not installed: it wants a GPU")
def test_sglang_is_what_was_recorded() -> None:
    assert differing(SGLANG_SIGNATURES) == {}


@pytest.mark.parametrize("inner", INNERS)
def test_what_was_signed_is_loaded(sglang, signed_model: Path, policy: Path, inner: str) -> None:
    model = start(signed_model, policy, inner=inner)
    for file in signed_model.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            assert torch.equal(getattr(model, name.replace(".", "_")), tensor)
    assert len(model.seen) == 5


@pytest.mark.parametrize("inner", INNERS)
@pytest.mark.parametrize(
    "change",
    [
        lambda model: flip(model / "model-00002-of-00002.safetensors"),
        lambda model: flip(model / "config.json"),
        lambda model: save_file({"more": torch.zeros(3)}, model / "more.safetensors"),
        lambda model: (model / "model-00001-of-00002.safetensors").unlink(),
        lambda model: (model / "model.sig").unlink(),
    ],
    ids=["a flipped bit", "another configuration", "an unsigned file", "a missing file", "no signature"],
)
def test_what_was_not_signed_ends_the_start(sglang, signed_model: Path, policy: Path, inner: str, change) -> None:
    from tensorseal.errors import TensorsealError

    change(signed_model)
    with pytest.raises(TensorsealError):
        start(signed_model, policy, inner=inner)


@pytest.fixture
def with_more(model: Path, keys: tuple[Path, Path], cli) -> Path:
    """A signed model with a file of weights that its index does not name, so that no engine reads it."""
    save_file({"more": torch.zeros(3)}, model / "more.safetensors")
    made = cli("sign", "key", model, "--private-key", keys[0], "--signature", model / "model.sig", "--tensors")
    assert made.returncode == 0, made.stderr
    return model


def test_files_that_the_engine_does_not_read_are_checked(sglang, with_more: Path, policy: Path) -> None:
    assert "more" not in start(with_more, policy).seen
    flip(with_more / "more.safetensors")
    with pytest.raises(VerifyError, match="more"):
        start(with_more, policy)


def test_files_are_compared_whole_without_a_tensor_manifest(sglang, model: Path, keys, cli, policy: Path) -> None:
    made = cli("sign", "key", model, "--private-key", keys[0], "--signature", model / "model.sig")
    assert made.returncode == 0, made.stderr
    assert len(start(model, policy, inner="fastsafetensors").seen) == 5
    flip(model / "model-00001-of-00002.safetensors")
    with pytest.raises(VerifyError):
        start(model, policy, inner="fastsafetensors")


def test_a_quantization_does_not_lead_past_it(sglang, signed_model: Path, policy: Path) -> None:
    assert len(start(signed_model, policy, quantization="modelopt").seen) == 5


def test_the_class_is_the_same(sglang, signed_model: Path, policy: Path) -> None:
    import tensorseal.sglang

    assert len(start(signed_model, policy, load_format=tensorseal.sglang.load_format()).seen) == 5


def test_without_the_plugin_nothing_is_loaded(signed_model: Path, policy: Path) -> None:
    with faked("sglang", "tensorseal.sglang"):
        with pytest.raises(ValueError, match="private"):
            start(signed_model, policy)
        import tensorseal.sglang

        with pytest.raises(UsageError, match="plugin"):
            start(signed_model, policy, load_format=tensorseal.sglang.load_format())


def test_with_a_policy_set_nothing_is_loaded_otherwise(sglang, signed_model: Path, policy: Path, monkeypatch) -> None:
    start(signed_model, None, load_format="auto")
    monkeypatch.setenv("TENSORSEAL_POLICY", str(policy))
    with pytest.raises(UsageError, match="private"):
        start(signed_model, None, load_format="auto")


def test_weights_of_a_cache_are_refused(sglang, signed_model: Path) -> None:
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.model_loader import loader

    config = LoadConfig(load_format="ipc_cache", fallback_load_format="private", weight_cache_mode="client")
    with pytest.raises(UsageError, match="cache"):
        loader.get_model_loader(config, None)


def test_another_class_does_not_pass_for_ours(sglang, signed_model: Path, policy: Path) -> None:
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.model_loader import loader

    class Other(loader.DefaultModelLoader):
        pass

    extra = {"tensorseal": {"policy": str(policy)}}
    config = LoadConfig(load_format=Other, fallback_load_format="private", model_loader_extra_config=extra)
    assert type(loader.get_model_loader(config, None)).__name__ == "TensorsealLoader"


def test_who_stops_early_is_refused(sglang, signed_model: Path, policy: Path, monkeypatch) -> None:
    monkeypatch.setattr(Toy, "load_weights", lambda self, weights: next(iter(weights)))
    with pytest.raises(VerifyError, match="stopped"):
        start(signed_model, policy)


def test_a_draft_model_has_its_own_names(sglang, signed_model: Path, policy: Path) -> None:
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.model_loader import loader

    extra = {"tensorseal": {"policy": str(policy)}}
    config = LoadConfig(load_format="private", model_loader_extra_config=extra, draft_model_idx=0)
    made = loader.get_model_loader(config, None)
    source = made.Source(str(signed_model), None, prefix="draft.")
    assert all(name.startswith("draft.") for name, _ in made._get_weights_iterator(source))
    flip(signed_model / "model-00002-of-00002.safetensors")
    with pytest.raises(VerifyError):
        list(made._get_weights_iterator(source))


def test_mode_log_goes_on_and_says_so(sglang, signed_model: Path, policy: Path, caplog) -> None:
    flip(signed_model / "model-00002-of-00002.safetensors")
    assert len(start(signed_model, policy, mode="log", seal=False).seen) == 5
    assert "NOT VERIFIED" in caplog.text


def test_mode_off_is_no_load_that_was_verified(sglang, signed_model: Path, policy: Path, caplog) -> None:
    from tensorseal.vllm import registry

    flip(signed_model / "model-00002-of-00002.safetensors")
    before = registry.metrics(0, {})
    assert len(start(signed_model, policy, mode="off").seen) == 5
    assert "NOTHING IS VERIFIED" in caplog.text
    assert registry.metrics(0, {}) == before


def test_a_broken_seal_is_an_answer_of_the_weight_checker(sglang, signed_model: Path, policy: Path) -> None:
    from sglang.srt.managers.io_struct import CheckWeightsReqInput
    from sglang.srt.managers.scheduler_components.weight_updater import SchedulerWeightUpdaterManager

    model = start(signed_model, policy)
    ask = SchedulerWeightUpdaterManager().check_weights
    assert ask(CheckWeightsReqInput()).success
    with torch.no_grad():
        model.embed_weight.view(-1)[7] += 1
    answer = ask(CheckWeightsReqInput())
    assert not answer.success and "broken" in answer.message
