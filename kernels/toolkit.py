"""The pinned CUDA toolkit: where it is, and the two steps that make every image.

blake3.cu --nvcc--> PTX for compute_80 --ptxas--> cubin. There is no other way to a cubin, so what a driver compiles from
the PTX and what it is given as a cubin are one program, and what kernels/count counts is that program too.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path(__file__).resolve().parent
SOURCES = ("blake3.cu", "device.cuh")
REQUIREMENTS = KERNELS / "toolkit.txt"

ADD = {"plain": 0, "mad": 7, "mad_all": 2}  # the value of the macro ADD
# What a device may select: where an image of the other policy would never win, none is made. See docs/gpu.md.
POLICIES = {80: ("plain", "mad"), 86: ("plain", "mad"), 89: ("plain", "mad"), 90: ("plain", "mad"),
            100: ("plain", "mad"), 120: ("plain", "mad_all")}
# Drivers from R470 on know this version of PTX, and the kernels use nothing newer. nvcc would write its own version.
PTX_VERSION = "7.4"


class Failed(Exception):
    """A message for a person."""


def home():
    cache = os.environ.get("TENSORSEAL_CACHE") or Path.home() / ".cache" / "tensorseal"
    return Path(cache) / "cuda"


def is_installed():
    """Is the pinned toolkit there? Another version would give other bytes: then it is not."""
    marker = home() / "installed.txt"
    return marker.is_file() and marker.read_bytes() == REQUIREMENTS.read_bytes()


def install():
    """Unpacks the wheels. They need no driver, no GPU and no rights."""
    if is_installed():
        return
    home().parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: an interrupted install must not look like a toolkit.
    with tempfile.TemporaryDirectory(dir=home().parent) as fresh:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--root-user-action", "ignore", "--target", f"{fresh}/cuda", "-r", str(REQUIREMENTS)]
        if subprocess.run(pip, check=False).returncode != 0:
            raise Failed(f"pip could not install what {REQUIREMENTS} names")
        Path(fresh, "cuda", "installed.txt").write_bytes(REQUIREMENTS.read_bytes())
        if home().exists():
            home().rename(Path(fresh, "old"))
        Path(fresh, "cuda").rename(home())


def run(tool, *arguments, cwd=None):
    """Runs a tool of the toolkit, in `cwd`; returns what it printed, both streams."""
    program = home() / "nvidia" / "cu13" / "bin" / tool
    if not program.is_file():
        raise Failed(f"no {program}: kernels/build --install puts the toolkit there")
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "LC_ALL": "C"}
    done = subprocess.run([program, *map(str, arguments)], cwd=cwd, env=environment, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"{tool} {' '.join(map(str, arguments))}:\n{done.stdout}")
    return done.stdout


def make_ptx(policy, to, defines=()):
    """PTX of the sources for one add policy. The same bytes on every machine."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "blake3.ptx")
        # Run in the folder of the sources with a name relative to it: then no path of this machine gets into the output.
        run("nvcc", "-ptx", "-arch=compute_80", "-std=c++17", "-O3", "-Werror", "all-warnings", f"-DADD={ADD[policy]}",
            *(f"-D{define}" for define in defines), SOURCES[0], "-o", raw, cwd=KERNELS)
        text = raw.read_text()
    text, versions = re.subn(r"(?m)^\.version .*$", f".version {PTX_VERSION}", text)
    if versions != 1:
        raise Failed(f"{versions} .version lines in the PTX, not one")
    # nvcc's comments name the build of the compiler and, inside, lines of CUDA's headers.
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("//")]
    about = f"// Made by kernels/build from kernels/blake3.cu, add policy \"{policy}\". Do not edit."
    Path(to).write_text("\n".join([about, *lines]) + "\n")


def make_cubin(ptx, architecture, to):
    """The cubin of a PTX file. Returns what ptxas says about registers and spills."""
    ptx, to = Path(ptx).resolve(), Path(to).resolve()
    return run("ptxas", "-v", f"-arch=sm_{architecture}", ptx.name, "-o", to, cwd=ptx.parent)
