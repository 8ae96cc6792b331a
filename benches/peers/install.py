"""The programs: ours built for release, the peers installed at pinned versions into the cache folder of `./test`."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cases import Missing

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
CACHE = Path(os.environ.get("TENSORSEAL_CACHE") or Path.home() / ".cache" / "tensorseal")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def cache_lock() -> Iterator[None]:
    """The lock that ./test takes too, so that two installs wait for each other."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def one_line(argv: list[str]) -> str:
    """What a program prints of its version."""
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[0]


def on_path(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if not found:
        raise Missing(f"{name} is not installed", remedy)
    return found


def openssl() -> str:
    return on_path("openssl", "apt-get install openssl")


def b3sum() -> str:
    lines = (CHECKOUT / "tests/tools.txt").read_text().splitlines()
    pins = dict(line.split() for line in lines if line and not line.startswith("#"))
    crate = f"b3sum@{pins['b3sum']}"
    command = [on_path("cargo", "the installer of rustup"), "install", "--quiet", "--locked", "--root", str(CACHE), crate]
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    with cache_lock():
        if subprocess.run(command, env=environment, stdout=sys.stderr).returncode != 0:
            raise Missing(f"{crate} does not install", " ".join(command))
    return str(CACHE / "bin" / "b3sum")


def environment(name: str, *lists: Path, complete: bool = False, over: str | None = None) -> str:
    """A Python environment in the cache folder with just what these lists pin; returns its Python.

    `complete`: the lists name all that is needed, and nothing is to bring anything along. `over`: the Python of an environment whose
    packages are seen in this one, too.
    """
    venv, wanted = CACHE / name, b"".join(path.read_bytes() for path in lists)
    python, installed = venv / "bin" / "python", venv / "installed.txt"
    with cache_lock():
        if installed.exists() and installed.read_bytes() == wanted:
            return str(python)
        say(f"installing the packages of {' and '.join(path.name for path in lists)}")
        shutil.rmtree(venv, ignore_errors=True)
        if subprocess.run([sys.executable, "-m", "venv", str(venv)], stdout=sys.stderr).returncode != 0:
            raise Missing("Python makes no environments", "apt-get install python3-venv")
        if over is not None:
            (packages(str(python)) / "over.pth").write_text(f"{packages(over)}\n")
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *["--no-deps"] * complete]
        command += [word for path in lists for word in ("-r", str(path))]
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            raise Missing(f"the packages in {' and '.join(path.name for path in lists)} do not install", " ".join(command))
        installed.write_bytes(wanted)
    return str(python)


def packages(python: str) -> Path:
    """Where the packages of a Python lie."""
    program = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return Path(subprocess.run([python, "-c", program], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def loaders() -> str:
    """The programs that load, over the environment with torch that `./test --all` has, too: so torch is on the disk once."""
    lists = [CHECKOUT / "tests/python" / name for name in ("heavy-requirements.txt", "heavy-no-deps.txt")]
    heavy = environment("venv-heavy", *lists, complete=True)
    return environment("venv-load", HERE / "load-requirements.txt", complete=True, over=heavy)


def model_signing() -> str:
    """Python's model-signing, in the environment of the interoperability tests; returns its Python."""
    return environment("venv", CHECKOUT / "tests/python/requirements.txt")


def cargo_build(*what: str) -> Path:
    """Builds for release; returns the folder of what was built."""
    say(f"building {' '.join(what)} for release")
    subprocess.run(["cargo", "build", "--release", "--locked", *what], cwd=CHECKOUT, stdout=sys.stderr, check=True)
    return target() / "release"


def target() -> Path:
    command = ["cargo", "metadata", "--format-version=1", "--no-deps"]
    metadata = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE)
    return Path(json.loads(metadata.stdout)["target_directory"])


def tensorseal() -> str:
    """The release build of this checkout."""
    return str(cargo_build("-p", "tensorseal", "--bin", "tensorseal") / "tensorseal")


def cargo_bench(name: str) -> str:
    """The program of `benches/NAME.rs`."""
    say(f"building benches/{name}.rs for release")
    command = ["cargo", "bench", "--locked", "--bench", name, "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    programs = [json.loads(line) for line in lines if line.startswith("{")]
    return str(next(p["executable"] for p in programs if p.get("executable") and p["target"]["name"] == name))


def package(work: Path) -> Path:
    """A folder with the Python package and its native part, built for release."""
    built = cargo_build("-p", "tensorseal-python")
    folder = work / "package"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CHECKOUT / "python" / "tensorseal", folder / "tensorseal", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(built / "lib_native.so", folder / "tensorseal" / "_native.abi3.so")
    return folder
