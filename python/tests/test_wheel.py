"""The wheel, as its users meet it: in an empty environment, with nothing but Python.

`TENSORSEAL_WHEEL` names it; `python/build` makes one. Sizes and times are printed (`pytest -s`), not asserted.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, require


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel to test."""
    named = os.environ.get("TENSORSEAL_WHEEL")
    if named is None:
        message = "no wheel: build one with python/build and name it in TENSORSEAL_WHEEL"
        if os.environ.get("TENSORSEAL_REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return Path(named).resolve()


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an empty environment, into which the wheel was installed from itself alone."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    found = folder / "venv" / "bin" / "python"
    run(found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", wheel)
    return found


def run(python: Path, *arguments: object, folder: Path | None = None) -> str:
    """What it says, with nothing of this process's environment that leads to other packages."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder or python.parent, env=clean)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python_block(page: Path) -> str:
    """The first block of Python in a page."""
    found = re.search(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no block of Python"
    return found.group(1)


def test_it_runs_on_every_python_and_depends_on_nothing(wheel):
    print(f"\n{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB")
    assert re.fullmatch(r"tensorseal-[0-9.]+-cp310-abi3-(manylinux_\d+_\d+|linux)_\w+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert "Requires-Dist:" not in text and "Requires-Python: >=3.10" in text
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {"tensorseal/py.typed", "tensorseal/_native.pyi", "tensorseal/_native.abi3.so"} <= set(names)
    outside = [name for name in names if not name.startswith(("tensorseal/", "tensorseal-"))]
    assert outside == [] and not any("test" in name for name in names)
    sources = {path.relative_to(ROOT / "python").as_posix() for path in (ROOT / "python/tensorseal").rglob("*.py*")}
    sources = {name for name in sources if name.endswith((".py", ".pyi"))}
    assert sources <= set(names), "modules that were left out"


def test_the_ten_lines_of_the_readme_run(python, model, keys, tmp_path):
    lines = python_block(ROOT / "README.md")
    assert lines == python_block(ROOT / "python/README.md"), "one and the same example"
    assert len([line for line in lines.splitlines() if line]) == 10
    shutil.copytree(model, tmp_path / "here" / "model")
    for key in keys:
        shutil.copy(key, tmp_path / "here")
    said = run(python, "-I", "-c", lines, folder=tmp_path / "here").splitlines()
    assert said[0].startswith("key ") and " bytes with root sha256:" in said[0]
    assert said[1].startswith("differs [('config.json', 'resized'")


def test_importing_it_brings_nothing_heavy(python):
    names = "import sys; print(*sorted(sys.modules))"
    bare = set(run(python, "-I", "-c", f"import importlib, typing; {names}").split())
    ours = set(run(python, "-I", "-c", f"import tensorseal; {names}").split())
    assert ours - bare == {"tensorseal", "tensorseal._native"}

    def best(code: str) -> float:
        def once() -> float:
            begun = time.perf_counter()
            run(python, "-I", "-c", code)
            return time.perf_counter() - begun

        return min(once() for _ in range(5))

    start, with_it = best("pass"), best("import tensorseal")
    print(f"\nimport tensorseal: {(with_it - start) * 1e3:.1f} ms over a bare start of {start * 1e3:.1f} ms (best of 5)")


PROGRAM = """\
from pathlib import Path

import tensorseal
from tensorseal import Difference, Key, KeySigner, Report, VerifyError


def progress(done: int, total: int | None) -> None: ...


def check(model: Path) -> list[Difference]:
    try:
        report: Report = tensorseal.verify(model, policy=Key("key.pub"), digests="all", progress=progress)
    except VerifyError as no:
        return no.differences
    signed: str = tensorseal.sign(model, signer=KeySigner("key.pem"), hash="blake3").bundle
    files: dict[str, str] = tensorseal.digest(signed).files
    return [Difference(name=name, kind=report.identity.method) for name in files]
"""


def test_a_type_checker_knows_it(python, tmp_path):
    require("mypy")
    program = tmp_path / "program.py"
    check = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", tmp_path / "cache"]

    def judged(text: str) -> str:
        program.write_text(text)
        command = [*map(str, check), str(program)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout

    assert judged(PROGRAM).startswith("Success"), judged(PROGRAM)
    for good, bad in (('Key("key.pub")', "5"), ('digests="all"', 'digests="md5"'), (".bundle", ".bundel")):
        assert "error:" in judged(PROGRAM.replace(good, bad)), bad
