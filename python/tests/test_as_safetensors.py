"""The same calls on safetensors and on this package: the same answers, and the same exceptions where it matters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import require

require("numpy")
require("safetensors")

import safetensors

import tensorseal

SECOND = "model-00002-of-00002.safetensors"


@pytest.fixture
def key(keys: tuple[Path, Path]) -> tensorseal.Key:
    return tensorseal.Key(keys[1])


def test_it_answers_as_safetensors_does(signed_model: Path, key: tensorseal.Key) -> None:
    file = signed_model / SECOND
    ours = tensorseal.safe_open(file, "np", policy=key)
    theirs = safetensors.safe_open(file, framework="np")
    calls: list[Callable[[Any], Any]] = [
        lambda f: f.keys(),
        lambda f: f.offset_keys(),
        lambda f: f.metadata(),
        lambda f: list(f.get_tensors()),
        lambda f: f.get_slice("lm_head.weight").get_shape(),
        lambda f: f.get_slice("lm_head.weight").get_dtype(),
        lambda f: f.get_tensor("none"),
        lambda f: f.get_slice("none"),
        lambda f: f.get_slice("mask").get_dtype(),
    ]
    calls += [
        lambda f, name=name: f.get_tensor(name).tobytes() for name in ("lm_head.weight", "steps", "mask")
    ]
    rows: list[Any] = [slice(3, 9), (slice(None), slice(1, 3)), slice(0, 0), (slice(2, 4), slice(8, 16)), ...]
    calls += [lambda f, index=index: f.get_slice("lm_head.weight")[index].tolist() for index in rows]
    for number, call in enumerate(calls):
        assert _outcome(call, ours) == _outcome(call, theirs), number
    with ours, theirs:
        pass
    for call in (lambda f: f.keys(), lambda f: f.get_tensor("steps"), lambda f: f.__enter__()):
        assert _outcome(call, ours)[0] == "error"
    assert _outcome(lambda f: f.keys(), ours) == _outcome(lambda f: f.keys(), theirs)


def _outcome(call: Callable[[Any], Any], opened: Any) -> tuple[str, Any]:
    try:
        return "value", call(opened)
    except safetensors.SafetensorError as error:
        return "error", ("SafetensorError", str(error))


def test_it_raises_as_safetensors_does(signed_model: Path, key: tensorseal.Key) -> None:
    file = signed_model / SECOND
    for wrong, kind in (
        (lambda of, **m: of(signed_model / "none.safetensors", "np", **m), FileNotFoundError),
        (lambda of, **m: of(file, "nonsense", **m), safetensors.SafetensorError),
        (lambda of, **m: of(file, "np", "nonsense", **m), safetensors.SafetensorError),
    ):
        with pytest.raises(kind):
            wrong(safetensors.safe_open)
        with pytest.raises(kind):
            wrong(tensorseal.safe_open, policy=key)
    with pytest.raises(tensorseal.UsageError):
        tensorseal.safe_open(file, "np", policy=key, backend="nonsense")
    with pytest.raises(tensorseal.UsageError, match="wgpu"):
        tensorseal.load_file(file, "wgpu", policy=key, framework="np")
    with pytest.raises(tensorseal.UsageError):
        tensorseal.load_file(signed_model, policy=key, framework="np")
    with pytest.raises(tensorseal.UsageError):
        tensorseal.load_file(signed_model / "config.json", policy=key, framework="np")
