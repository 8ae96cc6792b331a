"""What all tests share: keys, small models, and the command line as an independent witness."""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def require(module: str) -> None:
    """Skips, or fails where everything has to be there, if a package is not installed."""
    if importlib.util.find_spec(module) is not None:
        return
    message = f"the Python package {module} is not installed"
    if os.environ.get("TENSORSEAL_REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


@pytest.fixture(scope="session")
def program() -> Path:
    """The command line program: it shares the library with the bindings, and nothing of their code."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(os.environ.get("TENSORSEAL_BIN", target / "debug" / "tensorseal"))
    if not path.is_file():
        message = f"{path} is not there: cargo build, or name it in TENSORSEAL_BIN"
        if os.environ.get("TENSORSEAL_REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def cli(program: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs it: `cli("verify", "key", ..)`; the caller looks at `returncode`."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory, cli) -> tuple[Path, Path]:
    """A private and a public key, in files."""
    private = tmp_path_factory.mktemp("keys") / "key.pem"
    made = cli("keygen", "--out", private)
    assert made.returncode == 0, made.stderr
    return private, private.with_suffix(".pub")


@pytest.fixture(scope="session")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of tensors, an index and a configuration, written by safetensors itself."""
    require("numpy")
    require("safetensors")
    import numpy
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("model")
    random = numpy.random.default_rng(6)
    names = {
        "model-00001-of-00002.safetensors": {
            "embed.weight": random.standard_normal((64, 32)).astype(numpy.float32),
            "norm.weight": random.standard_normal(33).astype(numpy.float16),
        },
        "model-00002-of-00002.safetensors": {
            "lm_head.weight": random.standard_normal((64, 32)).astype(numpy.float32),
            "steps": numpy.arange(7, dtype=numpy.int64),
            "mask": numpy.array([True, False, True]),
        },
    }
    weights: dict[str, str] = {}
    for file, tensors in names.items():
        save_file(tensors, folder / file)
        weights |= {name: file for name in tensors}
    total = sum(tensor.nbytes for tensors in names.values() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type": "toy"}\n')
    return folder


@pytest.fixture
def model(_model: Path, tmp_path: Path) -> Path:
    """A copy of that model which the test may change."""
    return Path(shutil.copytree(_model, tmp_path / "model"))


@pytest.fixture
def signed_model(model: Path, keys: tuple[Path, Path], cli) -> Path:
    """The same, signed by the command line, with a tensor manifest; the bundle is `model.sig` in it."""
    made = cli("sign", "key", model, "--private-key", keys[0], "--signature", model / "model.sig", "--tensors")
    assert made.returncode == 0, made.stderr
    return model
