#!/usr/bin/env python3
"""Times `tensorseal.load_file` beside what people do in Python today to load weights that they have checked.

README.md beside this file says what is measured and how. The peers need PyTorch: about 5 GB in the cache folder.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from load import HERE, MIB, Case, Row, measure, model, peers_python, table
from run import CHECKOUT, machine, once, say

OURS = "tensorseal.load_file"
ROWS = [
    Row(OURS, "safetensors.torch.load_file + BLAKE3 pass", 1.0),
    Row(OURS, "tensorizer, verify_hash", 1.0),
    Row(OURS, "model_signing verify + safetensors", 1.0),
    Row(OURS, "model_signing verify (BLAKE3) + safetensors", 1.0),
]


def package(work):
    """The Python package with its native part, in release mode."""
    say("building the Python module and the program in release mode")
    for member in ("tensorseal-python", "tensorseal"):
        subprocess.run(["cargo", "build", "--release", "--locked", "-p", member], cwd=CHECKOUT, check=True, stdout=sys.stderr)
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=CHECKOUT, check=True, stdout=subprocess.PIPE
    )
    target = Path(json.loads(metadata.stdout)["target_directory"]) / "release"
    folder = work / "package"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CHECKOUT / "python" / "tensorseal", folder / "tensorseal", ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(target / "lib_native.so", folder / "tensorseal" / "_native.abi3.so")
    return folder, target / "tensorseal"


def edges_of(file, python):
    """The digest over the first and the last tensor by their names, and that of the file: by others' code."""
    program = f"""
import blake3, json, struct
data = open({str(file)!r}, "rb")
(length,) = struct.unpack("<Q", data.read(8))
header = json.loads(data.read(length))
hasher = blake3.blake3()
for name in (min(header), max(header)):
    begin, end = header[name]["data_offsets"]
    data.seek(8 + length + begin)
    hasher.update(data.read(end - begin))
whole = blake3.blake3(max_threads=blake3.blake3.AUTO).update_mmap({str(file)!r})
print(hasher.hexdigest(), whole.hexdigest())
"""
    return subprocess.run([python, "-c", program], check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def signed(program, work, folder):
    """A public key, and signatures by the SHA-256 and the BLAKE3 of the same model; both have BLAKE3 digests of ours."""

    def run(*arguments):
        subprocess.run([str(part) for part in (program, *arguments)], check=True, stdout=subprocess.DEVNULL)

    key = work / "key.pem"
    if not key.exists():
        run("keygen", "--out", key)
    for name in ("sha256", "blake3"):
        run("sign", "key", folder, "--private-key", key, "--signature", work / f"{name}.sig", "--hash", name)
    return key.with_suffix(".pub"), work / "sha256.sig", work / "blake3.sig"


def cases(options, work):
    folder = model(work, options.size)
    file = folder / "model.safetensors"
    python = options.python or peers_python("python-load-requirements.txt", "venv-python-load")
    built, program = (options.package, options.bin) if options.package and options.bin else package(work)
    converted = once(
        work / f"model-{options.size}.tensors",
        lambda part: subprocess.run([python, HERE / "load_peer.py", "convert", file, "--to", part], check=True, stdout=sys.stderr),
    )
    public, sha256, blake3 = signed(program, work, folder)
    edges, whole = edges_of(file, python)
    made = []
    for label, case, more in [
        (OURS, "tensorseal", ["--signature", sha256]),
        ("safetensors.torch.load_file + BLAKE3 pass", "safetensors-blake3", ["--blake3", whole]),
        ("tensorizer, verify_hash", "tensorizer-verify", ["--tensors", converted]),
        ("model_signing verify + safetensors", "model-signing", ["--signature", sha256]),
        ("model_signing verify (BLAKE3) + safetensors", "model-signing", ["--signature", blake3]),
    ]:
        command = [python, HERE / "python_load_peer.py", case, folder, "--public-key", public, "--edges", edges, *more]
        made.append(Case(label, ["env", f"PYTHONPATH={built}", *command]))
    if options.only:
        made = [case for case in made if any(word in case.name for word in options.only)]
    return [file, converted], made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default: 7)")
    parser.add_argument("--size", type=int, default=1536 * MIB, help="bytes of the model (default: 1.5 GiB)")
    parser.add_argument("--quick", action="store_true", help="one round of 64 MiB, to see that it works: no figures")
    parser.add_argument("--only", action="append", help="only cases whose name contains this; repeat for more")
    parser.add_argument("--work", type=Path, help="where the data is made and kept (default: a temporary folder)")
    parser.add_argument("--package", type=Path, help="a folder with the package tensorseal and its native part, already built")
    parser.add_argument("--bin", type=Path, help="the program tensorseal, already built")
    parser.add_argument("--python", help="a Python that has the packages of python-load-requirements.txt")
    parser.add_argument("--json", type=Path, help="also write all times there")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.size = 1, 64 * MIB
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        read, made = cases(options, work)
        about = machine()
        measure(options, read, made)
    print("\n".join(table(made, ROWS)))
    print(f"\n{about['cpu']}; {about['kernel']}; load at start {about['load_at_start']:.1f}; {about['date']}; "
          f"{options.rounds} rounds; {options.size / 2**30:.2f} GiB, warm")  # fmt: skip
    fastest = min(made, key=lambda case: statistics.median(case.times))
    print(f"Fastest: {fastest.name}")
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "seconds": {c.name: c.times for c in made}}, indent=1))


if __name__ == "__main__":
    main()
