"""The weight loader for TensorRT-LLM on a fake of its interface."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import require

require("torch")
require("safetensors")

import torch
from engines import differing, faked
from recorded import TENSORRT_LLM_SIGNATURES
from safetensors.torch import load_file
from test_sglang import flip, policy, with_more

from tensorseal.errors import TensorsealError, UsageError, VerifyError
from tensorseal.tensorrt_llm import WeightLoader

__all__ = ["policy", "with_more"]


@pytest.fixture
def inner() -> Iterator[object]:
    with faked("tensorrt_llm", "tensorrt_llm"):
        from tensorrt_llm._torch.models.checkpoints.base_weight_loader import HfWeightLoader

        yield HfWeightLoader()


def test_the_fake_is_what_was_recorded(inner) -> None:
    assert differing(TENSORRT_LLM_SIGNATURES) == {}


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_llm") is None, reason="TensorRT-LLM is not installed: it wants a GPU")
def test_tensorrt_llm_is_what_was_recorded() -> None:
    assert differing(TENSORRT_LLM_SIGNATURES) == {}


@pytest.mark.parametrize("named", [False, True], ids=["our own reading", "another loader's"])
def test_what_was_signed_is_loaded(signed_model: Path, policy: Path, inner, named: bool) -> None:
    loader = WeightLoader(policy=policy, inner=inner if named else None)
    weights = loader.load_weights(str(signed_model), mapping=object())
    expected = {name: tensor for file in signed_model.glob("*.safetensors") for name, tensor in load_file(file).items()}
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    loader.cleanup()


@pytest.mark.parametrize("named", [False, True], ids=["our own reading", "another loader's"])
@pytest.mark.parametrize("file", ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json"])
def test_a_flipped_bit_is_refused(signed_model: Path, policy: Path, inner, named: bool, file: str) -> None:
    flip(signed_model / file)
    with pytest.raises(VerifyError):
        WeightLoader(policy=policy, inner=inner if named else None).load_weights(str(signed_model), mapping=object())


def test_files_that_are_not_loaded_are_checked(with_more: Path, policy: Path) -> None:
    assert "more" not in WeightLoader(policy=policy).load_weights(str(with_more), mapping=object())
    flip(with_more / "more.safetensors")
    with pytest.raises(VerifyError, match="more"):
        WeightLoader(policy=policy).load_weights(str(with_more), mapping=object())


def test_what_another_loader_changes_or_drops_is_refused(signed_model: Path, policy: Path, inner, monkeypatch) -> None:
    read = type(inner).load_weights

    def changed(self, checkpoint_dir, mapping, **kwargs):
        weights = read(self, checkpoint_dir, mapping, **kwargs)
        weights["steps"] = weights["steps"] + 1
        return weights

    def dropped(self, checkpoint_dir, mapping, **kwargs):
        weights = read(self, checkpoint_dir, mapping, **kwargs)
        del weights["steps"]
        return weights

    def short(self, checkpoint_dir, mapping, **kwargs):
        return load_file(Path(checkpoint_dir) / "model-00001-of-00002.safetensors")

    for load in (changed, dropped, short, lambda *arguments, **options: {}):
        monkeypatch.setattr(type(inner), "load_weights", load)
        with pytest.raises(VerifyError):
            WeightLoader(policy=policy, inner=inner).load_weights(str(signed_model), mapping=object())


def test_an_unknown_option_or_a_missing_folder_is_an_error(signed_model: Path, policy: Path) -> None:
    with pytest.raises(UsageError, match="layers"):
        WeightLoader(policy=policy).load_weights(str(signed_model), object(), layers=3)
    with pytest.raises(TensorsealError):
        WeightLoader(policy=policy).load_weights(str(signed_model / "none"), object())
