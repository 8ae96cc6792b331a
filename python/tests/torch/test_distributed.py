"""Signing and verifying across ranks, by real processes on gloo."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import require  # noqa: E402

require("torch")
require("safetensors")
sys.path.insert(0, str(Path(__file__).resolve().parent))
import ranks_worker  # noqa: E402

SHORT = ranks_worker.SHORT


@pytest.fixture(scope="session")
def processes():
    """Makes processes that have torch already: importing it takes seconds each time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranks_worker", "tensorseal.distributed"])
    return context


@pytest.fixture
def ranks(processes, tmp_path, keys):
    """Runs a scenario on all ranks: what each said, `None` for one that said nothing."""

    def run(scenario: str, folder: Path, world: int = 4, mute: tuple[int, ...] = (), **arguments: object) -> list[dict | None]:
        out = tmp_path / f"said-{time.monotonic_ns()}"
        out.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments |= {"folder": str(folder), "keys": [str(key) for key in keys]}
        started = [
            processes.Process(target=ranks_worker.main, args=(rank, world, port, scenario, arguments, str(out)))
            for rank in range(world)
        ]
        for process in started:
            process.start()
        end = time.monotonic() + 60
        try:
            for rank, process in enumerate(started):
                if rank not in mute:
                    process.join(max(0, end - time.monotonic()))
                    assert process.exitcode is not None, f"rank {rank} hangs in {scenario}"
        finally:
            for process in started:
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()
        said = [out / f"{rank}.json" for rank in range(world)]
        return [json.loads(path.read_text()) if path.exists() else None for path in said]

    return run


def all_refused(said: list[dict], error: str, *words: str) -> str:
    """All ranks raised this, in the same words, with these among them."""
    for one in said:
        assert error in one.get("kinds", ()), one
        assert one["message"] == said[0]["message"]
    for word in words:
        assert word in said[0]["message"], said[0]["message"]
    return said[0]["message"]


def all_agreed(said: list[dict]) -> dict:
    """All ranks returned the same."""
    for one in said:
        assert "value" in one, one
        assert one["value"] == said[0]["value"]
    return said[0]["value"]


@pytest.fixture
def signed(ranks, tmp_path) -> Path:
    """The model of the worker, signed by 4 ranks."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "toy"}\n')
    all_agreed(ranks("sign", folder))
    return folder


def test_four_ranks_sign_and_everybody_verifies(signed, ranks, keys, cli):
    from safetensors import safe_open

    index = json.loads((signed / "model.safetensors.index.json").read_text())
    found = {}
    for name, file in index["weight_map"].items():
        with safe_open(signed / file, "pt") as opened:
            assert name in opened.keys()
            found[name] = opened.get_tensor(name)
    import torch

    for name, tensor in ranks_worker.full_tensors().items():
        same = found[name].shape == tensor.shape and found[name].dtype == tensor.dtype
        assert same and found[name].view(-1).view(torch.uint8).equal(tensor.contiguous().view(-1).view(torch.uint8)), name
    assert len(set(index["weight_map"].values())) > 2

    verified = cli("verify", "key", signed, "--signature", signed / "model.sig", "--public-key", keys[1])
    assert verified.returncode == 0, verified.stderr
    require("model_signing")
    reference = [sys.executable, "-m", "model_signing", "verify", "key", signed, "--signature", signed / "model.sig"]
    done = subprocess.run([*map(str, reference), "--public-key", str(keys[1])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_four_ranks_sign_and_other_layouts_verify(signed, ranks):
    four = all_agreed(ranks("check", signed))
    two = all_agreed(ranks("check", signed, world=2))
    pairs = all_agreed(ranks("check_with_copies", signed))
    alone = all_agreed(ranks("check", signed, world=1))
    assert four["tensors"] == two["tensors"] == pairs["tensors"] == alone["tensors"] == 10
    assert four["tiles"] == two["tiles"] == pairs["tiles"] == alone["tiles"]
    size = sum(tensor.nbytes for tensor in ranks_worker.full_tensors().values())
    assert four["bytes"] == two["bytes"] == pairs["bytes"] == alone["bytes"] == size
    assert pairs["copies"] > four["copies"] > alone["copies"] == 0
