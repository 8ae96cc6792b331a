"""Real engines of vLLM on a tiny signed Llama: loaders that lose or change a tensor, modes, configuration that was exchanged
and put back, reloads. `run` has the changes of files. Each test starts an engine in this process, which takes seconds."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]
from conftest import require

for _module in ("torch", "transformers", "vllm", "runai_model_streamer"):
    require(_module)

from start import start, stop  # Sets the environment: before vLLM is imported.

import toy
from tensorseal.errors import TensorsealError, UsageError, VerifyError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Path:
    """`policy.toml`, `manifest` signed with a tensor manifest, `files` signed without, `adapter`."""
    import tensorseal.vllm

    tensorseal.vllm.register()
    at = tmp_path_factory.mktemp("vllm")
    key, _ = toy.key_and_policy(at)
    for name, more in (("manifest", ["--tensors"]), ("files", ["--hash", "blake3"])):
        toy.llama(at / name)
        toy.sign(at / name, key, *more)
    toy.adapter(at / "adapter")
    toy.sign(at / "adapter", key)
    return at


@pytest.fixture
def engine(folder: Path) -> Iterator[Callable[..., Any]]:
    """Starts one, and lets go of it."""
    engines: list[Any] = []

    def begin(model: str = "manifest", adapter: Path | None = None, **settings: Any) -> Any:
        policy = None if settings.get("mode") == "off" else folder / "policy.toml"
        engines.append(start(folder / model, policy, adapter, **settings))
        return engines[-1]

    yield begin
    engines.clear()
    stop()


def status(engine: Any) -> dict[str, Any]:
    """Of the one worker, its last load."""
    found = engine.collective_rpc("tensorseal_status")[0]
    return {**found, "load": found["loads"][-1]}


def model_of(engine: Any) -> Any:
    """The model in the worker of this process."""
    return engine.llm_engine.model_executor.driver_worker.worker.get_model()


Altered = Callable[[Callable[[str, Any], tuple[str, Any] | None]], None]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Altered:
    """An iterator of the engine that does something to what it read. The files on disk are as signed."""
    from vllm.model_executor.model_loader import weight_utils

    good = weight_utils.runai_safetensors_weights_iterator

    def alter(change: Callable[[str, Any], tuple[str, Any] | None]) -> None:
        def bad(*arguments: Any) -> Iterator[tuple[str, Any]]:
            yield from filter(None, (change(name, tensor) for name, tensor in good(*arguments)))

        monkeypatch.setattr(weight_utils, "runai_safetensors_weights_iterator", bad)

    return alter


VICTIM = "model.layers.1.mlp.down_proj.weight"


def flipped(name: str, tensor: Any) -> tuple[str, Any]:
    """One bit of one tensor."""
    import torch

    if name == VICTIM:
        tensor.view(torch.uint8)[-1, -1] ^= 1
    return name, tensor


@pytest.mark.parametrize("model", ["manifest", "files"])
def test_what_the_iterator_of_another_loader_yields_is_verified(engine: Callable[..., Any], model: str) -> None:
    found = status(engine(model, inner="runai_streamer"))
    assert found["load"]["complete"] and found["load"]["inner"] == "runai_streamer"
    files = found["load"]["folders"][0]["files"]
    assert {file["checked"] for name, file in files.items() if name.endswith(".safetensors")} == {"memory"}


@pytest.mark.parametrize("model", ["manifest", "files"])
@pytest.mark.parametrize(
    "change",
    [
        flipped,
        lambda name, tensor: None if name == VICTIM else (name, tensor),
        lambda name, tensor: ("model.layers.1.mlp.up_projection.weight" if name == VICTIM else name, tensor),
        lambda name, tensor: (name, tensor.t() if name == VICTIM else tensor),
    ],
    ids=["flipped", "lost", "renamed", "transposed"],
)
def test_a_loader_that_changes_what_it_reads_stops_the_start(
    engine: Callable[..., Any], faulty: Altered, model: str, change: Callable[[str, Any], Any]
) -> None:
    faulty(change)
    with pytest.raises(VerifyError, match=r"down_proj|up_projection|model-0000"):
        engine(model, inner="runai_streamer")


def test_mode_log_says_so_and_goes_on(engine: Callable[..., Any], folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    stranger = folder / "manifest" / "extra.txt"
    stranger.write_text("nobody signed this")
    try:
        with pytest.raises(VerifyError, match=r"extra\.txt"):
            engine()
        stop()
        found = status(engine(mode="log"))
    finally:
        stranger.unlink()
    assert not found["load"]["complete"] and "extra.txt" in found["load"]["folders"][0]["refused"]


def test_mode_off_verifies_nothing_and_needs_no_policy(engine: Callable[..., Any], folder: Path) -> None:
    from tensorseal.vllm import registry

    before = len(registry.loads())
    engine(mode="off")
    assert len(registry.loads()) == before


def test_a_configuration_that_was_exchanged_while_the_engine_read_it_is_found(
    engine: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorseal.vllm.loader import TensorsealLoader

    config = folder / "manifest" / "config.json"
    good = config.read_text()
    monkeypatch.setattr(
        TensorsealLoader, "create_model", lambda *a, **k: (config.write_text(good), _create(*a, **k))[1]
    )
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    _create = BaseModelLoader.create_model
    config.write_text(json.dumps({**json.loads(good), "rms_norm_eps": 0.1}))
    try:
        with pytest.raises(VerifyError, match=r"differs in rms_norm_eps"):
            engine()
    finally:
        config.write_text(good)


def test_a_configuration_that_the_engine_adapts_is_as_signed(engine: Callable[..., Any], folder: Path) -> None:
    toy.llama(folder / "tied")
    config = folder / "tied" / "config.json"
    # The engine unties them, since the weights have a head of their own.
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": True}))
    toy.sign(folder / "tied", folder / "key.pem")
    assert status(engine("tied"))["load"]["folders"][0]["engine_configuration"] == "as signed"


def test_what_the_engine_makes_of_a_configuration_is_made_of_the_signed_one(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from tensorseal.vllm.loader import _derived
    from transformers import GptOssConfig, MistralConfig
    from vllm.config import ModelConfig

    text = GptOssConfig(num_hidden_layers=2).to_dict()
    text |= {"architectures": ["GptOssForCausalLM"], "quantization_config": {"quant_method": "mxfp4"}}
    (tmp_path / "config.json").write_text(json.dumps(text))
    held = ModelConfig.__new__(ModelConfig)
    held.hf_config = GptOssConfig(**text)
    held.model_arch_config = SimpleNamespace(architectures=["GptOssForCausalLM"])
    held._architecture = "GptOssForCausalLM"
    held.word_embeddings_untied_by_checkpoint, held.disable_sliding_window = False, False
    signed, told = _derived(GptOssConfig(**text), held)
    assert signed.quantization_config["quant_method"] == "gpt_oss_mxfp4" and told == ""
    held._architecture, held.disable_sliding_window = "MistralForCausalLM", True
    for window, says in ((0, ""), (64, ", but for sliding_window, signed as 64"), (None, "")):
        signed, told = _derived(MistralConfig(sliding_window=window), held)
        assert signed.sliding_window is None and told.startswith(says) and bool(told) == bool(says)


def test_a_reload_is_verified_and_sealed_anew(engine: Callable[..., Any], folder: Path) -> None:
    of = engine()
    weight = model_of(of).model.norm.weight.data
    weight += 1
    assert of.collective_rpc("tensorseal_reverify")[0]["result"] == "broken"
    of.collective_rpc("reload_weights")
    assert of.collective_rpc("tensorseal_reverify")[0]["result"] == "unchanged"
    assert status(of)["load"]["complete"]


def test_a_reload_that_is_refused_voids_the_seal(engine: Callable[..., Any], folder: Path) -> None:
    of = engine()
    stranger = folder / "manifest" / "extra.txt"
    stranger.write_text("nobody signed this")
    try:
        with pytest.raises(TensorsealError):
            of.collective_rpc("reload_weights")
    finally:
        stranger.unlink()
    assert of.collective_rpc("tensorseal_reverify")[0]["result"] == "broken"


def test_weights_from_an_iterator_are_no_verified_load(engine: Callable[..., Any]) -> None:
    import torch

    of = engine()
    model = model_of(of)
    weights = [("model.norm.weight", model.model.norm.weight.detach().clone() + 1)]
    with torch.no_grad():
        of.collective_rpc("reload_weights", kwargs={"weights_iterator": weights, "is_checkpoint_format": False})
    assert of.collective_rpc("tensorseal_reverify")[0]["result"] == "broken"


def test_folders_of_links_are_loaded_if_that_is_asked_for(engine: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    for name in ("manifest", "adapter"):
        links = folder / "links" / name
        links.mkdir(parents=True)
        for file in (folder / name).iterdir():
            (links / file.name).symlink_to(file)
    with pytest.raises(VerifyError, match="symbolic link"):
        engine("links/manifest")
    stop()
    extra = folder / "links" / "manifest" / "extra.txt"
    extra.symlink_to(folder / "policy.toml")
    with pytest.raises(VerifyError, match=r"extra\.txt"):
        engine("links/manifest", symlinks="anywhere")
    stop()
    extra.unlink()
    assert status(engine("links/manifest", symlinks="anywhere"))["load"]["complete"]
    from tensorseal.vllm.lora import materialise

    with pytest.raises(VerifyError, match="symbolic link"):
        materialise(folder / "links" / "adapter", tmp_path, folder / "policy.toml")
    materialise(folder / "links" / "adapter", tmp_path, folder / "policy.toml", "anywhere")
    assert not (tmp_path / "adapter_model.safetensors").is_symlink()


def test_adapters_are_those_that_were_signed_and_the_seal_stays(engine: Callable[..., Any], folder: Path) -> None:
    from vllm.lora.request import LoRARequest

    of = engine(adapter=folder / "adapter")
    assert status(of)["adapters"][-1]["model"] == str(folder / "adapter")
    assert of.collective_rpc("tensorseal_reverify")[0]["result"] == "unchanged"
    (folder / "adapter" / "extra.txt").write_text("nobody signed this")
    try:
        with pytest.raises(VerifyError, match=r"extra\.txt"):
            of.llm_engine.add_lora(LoRARequest("other", 2, str(folder / "adapter")))
    finally:
        (folder / "adapter" / "extra.txt").unlink()


def test_settings_that_make_no_sense_stop_the_start(engine: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="unknown keys"):
        engine(inner="safetensors", polcy="x")
