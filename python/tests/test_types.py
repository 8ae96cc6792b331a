"""Annotations: complete, and those of the native part are what it has."""

import os
import subprocess
import sys
from pathlib import Path

import tensorseal
from conftest import ROOT, require


def mypy(*arguments: object, folder: Path) -> str:
    """What mypy says; it has to be content."""
    require("mypy")
    package = Path(tensorseal.__file__).parent
    environment = os.environ | {"MYPYPATH": str(package.parent), "MYPY_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_is_typed(tmp_path: Path) -> None:
    said = mypy("mypy", "--config-file", ROOT / "python" / "pyproject.toml", "--python-version", "3.10", "-p", "tensorseal", folder=tmp_path)
    assert said.startswith("Success")


def test_the_stub_is_the_native_part(tmp_path: Path) -> None:
    assert mypy("mypy.stubtest", "tensorseal._native", folder=tmp_path).startswith("Success")
