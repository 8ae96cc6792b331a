"""Signing what lies on CUDA devices, on the project's driver for machines without one. As in test_cuda.py, each test is a
child: this file again, as a program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import require

require("numpy")
require("safetensors")

from test_cuda import DATA, Driver, Interface, Memory, driver  # noqa: F401


def given(memory: Memory):
    import numpy

    host = numpy.arange(7, dtype=numpy.int64)
    return {
        "w": Interface(memory, (100, 250), typestr="<f4"),
        "v": Interface(memory, (101,), at=100_000),
        "host": host,
    }


def as_arrays():
    import numpy

    return {
        "w": numpy.frombuffer(DATA[:100_000], numpy.float32).reshape(100, 250),
        "v": numpy.frombuffer(DATA[100_000:100_101], numpy.uint8),
        "host": numpy.arange(7, dtype=numpy.int64),
    }


def child_save(folder: str, key: str):
    from safetensors.numpy import save

    import tensorseal

    memory = Memory(Driver(), DATA)
    tensorseal.save_and_sign(given(memory), folder, signer=tensorseal.KeySigner(key))
    assert Path(folder, "model.safetensors").read_bytes() == save(as_arrays())
    tensorseal.verify(folder, policy=tensorseal.Key(key.replace(".pem", ".pub")), digests="all")


def child_changes(folder: str, key: str):
    """A byte on the device changes between the digest and the copy."""
    import tensorseal
    from tensorseal import training

    driver = Driver()
    memory = Memory(driver, DATA)
    real = training.blocks

    def blocks(tensor):
        if tensor.name == "v":
            driver.write(memory.address + 100_050, bytes([DATA[100_050] ^ 1]))
        yield from real(tensor)

    training.blocks = blocks
    try:
        tensorseal.save_and_sign(given(memory), folder, signer=tensorseal.KeySigner(key))
    except tensorseal.VerifyError as error:
        assert error.kind == "written-bytes-differ" and '"v" differs' in str(error), error
    else:
        raise AssertionError("it was signed")
    assert not os.path.exists(folder)


def child_strides(folder: str, key: str):
    import tensorseal

    memory = Memory(Driver(), DATA)
    rows = Interface(memory, (10, 100), strides=(1000, 1))
    try:
        tensorseal.save_and_sign({"rows": rows}, folder, signer=tensorseal.KeySigner(key))
    except tensorseal.UsageError as error:
        assert "contiguous" in str(error)
    else:
        raise AssertionError("it was signed")
    assert not os.path.exists(folder)


def child_fails(folder: str, key: str):
    """A call of the driver fails while the tensors are copied."""
    import tensorseal

    memory = Memory(Driver(), DATA)
    try:
        tensorseal.save_and_sign(given(memory), folder, signer=tensorseal.KeySigner(key))
    except tensorseal.NoAnswerError as error:
        assert error.kind == "device", error.kind
    else:
        raise AssertionError("it was signed")
    assert not os.path.exists(folder)


@pytest.mark.parametrize(
    ("child", "settings"),
    [("save", {}), ("changes", {}), ("strides", {}), ("fails", {"FAIL": "cuMemcpyDtoHAsync_v2:6:719"})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_lies_on_a_device(driver, tmp_path, keys, child, settings):  # noqa: F811
    env = {key: value for key, value in os.environ.items() if not key.startswith("FAKECUDA_")}
    env |= {"LD_LIBRARY_PATH": str(driver), "TENSORSEAL_CUDA_POLICY": "plain", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env |= {f"FAKECUDA_{key}": value for key, value in settings.items()}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, __file__, child, str(tmp_path / "m"), str(keys[0])]
    made = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


if __name__ == "__main__":
    globals()[f"child_{sys.argv[1]}"](*sys.argv[2:])
