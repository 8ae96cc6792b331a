#!/usr/bin/env python3
"""Times verified loading beside the loaders that people use today, on the same file, in the same minutes.

README.md beside this file says what is measured and how. The peers need PyTorch: about 5 GB in the cache folder.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from run import CACHE, CHECKOUT, SEED, cache_lock, machine, missing, once, openssl, say, seconds, verdict

HERE = Path(__file__).resolve().parent
MIB = 1 << 20


def peers_python(requirements="load-requirements.txt", name="venv-load"):
    """An environment with the peers at the versions that a file of requirements pins."""
    venv, wanted = CACHE / name, HERE / requirements
    python, installed = venv / "bin" / "python", venv / "installed.txt"
    with cache_lock():
        if not (installed.exists() and installed.read_bytes() == wanted.read_bytes()):
            say("installing PyTorch and the peers: several gigabytes")
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)]
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, stdout=sys.stderr)
            if subprocess.run(command, stdout=sys.stderr).returncode != 0:
                missing(f"the packages in {wanted}", " ".join(command))
            installed.write_bytes(wanted.read_bytes())
    return str(python)


def built():
    """benches/load.rs, in release mode."""
    say("building benches/load.rs in release mode")
    command = ["cargo", "bench", "--locked", "--bench", "load", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    programs = [json.loads(line) for line in lines if line.startswith("{")]
    return next(p["executable"] for p in programs if p.get("executable") and p["target"]["name"] == "load")


def tensors_of(size):
    """Names and shapes of a small language model in BF16, with as many layers as `size` bytes hold."""
    hidden, wide, words = 1024, 2816, 32000
    yield "model.embed_tokens.weight", (words, hidden)
    left, layer = size - 2 * words * hidden * 2, 0
    while left > 0:
        at = f"model.layers.{layer}."
        for name, shape in [
            ("input_layernorm.weight", (hidden,)),
            ("mlp.down_proj.weight", (hidden, wide)),
            ("mlp.gate_proj.weight", (wide, hidden)),
            ("mlp.up_proj.weight", (wide, hidden)),
            ("post_attention_layernorm.weight", (hidden,)),
            ("self_attn.k_proj.weight", (hidden // 4, hidden)),
            ("self_attn.o_proj.weight", (hidden, hidden)),
            ("self_attn.q_proj.weight", (hidden, hidden)),
            ("self_attn.v_proj.weight", (hidden // 4, hidden)),
        ]:
            yield at + name, shape
            left -= 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        layer += 1
    yield "lm_head.weight", (words, hidden)


def model(work, size):
    """A safetensors file of random BF16 numbers of about this size, always the same."""

    def make(part):
        header, at = {}, 0
        for name, shape in tensors_of(size):
            end = at + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, end]}
            at = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        part.mkdir()
        key = f"{SEED:032x}"
        stream = subprocess.Popen(
            [openssl(), "enc", "-aes-128-ctr", "-K", key, "-iv", "0" * 32, "-in", "/dev/zero"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with (part / "model.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            while at:
                at -= file.write(stream.stdout.read(min(at, MIB)))
            # What is dirty cannot be dropped from the page cache.
            os.fsync(file.fileno())
        stream.stdout.close()
        stream.wait()

    return once(work / f"model-{size}", make)


@dataclass
class Case:
    name: str
    command: list
    cold: bool = False
    times: list = field(default_factory=list)
    answers: set = field(default_factory=set)
    # Resident bytes at the peak beyond the buffers.
    beyond: int = 0


@dataclass
class Row:
    ours: str
    beside: str
    budget: float


ROWS = [
    Row("unverified", "pread", 1.2),
    Row("verified", "unverified", 1.4),
    Row("verified, huge pages", "unverified, huge pages", 1.6),
    Row("verified, huge pages", "unverified", 1.05),
    Row("verified, cold", "unverified, cold", 1.10),
    Row("verified, cold, O_DIRECT", "unverified, cold, O_DIRECT", 1.10),
    Row("verified", "safetensors safe_open + copy", 0.65),
    Row("verified", "safetensors safe_open + copy + BLAKE3", 1.0),
    Row("verified", "fastsafetensors (nogds)", 1.0),
    Row("verified", "fastsafetensors (nogds) + BLAKE3", 1.0),
    Row("verified", "tensorizer", 1.0),
    Row("verified", "tensorizer, verify_hash", 1.0),
]


def warm(path):
    with path.open("rb", buffering=0) as file:
        while file.read(16 * MIB):
            pass


def cases(options, work):
    folder = model(work, options.size)
    file = folder / "model.safetensors"
    bench = options.bench or built()
    # It signs the model before, and compares the digest of what it has loaded after the time.
    ours = [bench, folder, "--rounds", "1", "--json"]
    made = [Case("pread", [*ours, "--pread"])]
    for what in ("unverified", "verified"):
        made.append(Case(what, [*ours, f"--{what}"]))
        made.append(Case(f"{what}, huge pages", [*ours, f"--{what}", "--huge"]))
        made.append(Case(f"{what}, cold", [*ours, f"--{what}", "--cold"], cold=True))
        made.append(Case(f"{what}, cold, O_DIRECT", [*ours, f"--{what}", "--cold", "--direct"], cold=True))
    python = options.python or peers_python()
    peer = [python, HERE / "load_peer.py"]
    converted = once(
        work / f"model-{options.size}.tensors",
        lambda part: subprocess.run([*peer, "convert", file, "--to", part], check=True, stdout=sys.stderr),
    )
    for label, case, path in [
        ("safetensors safe_open + copy", "safetensors-copy", file),
        ("safetensors safe_open + copy + BLAKE3", "safetensors-copy-blake3", file),
        ("fastsafetensors (nogds)", "fastsafetensors", file),
        ("fastsafetensors (nogds) + BLAKE3", "fastsafetensors-blake3", file),
        ("tensorizer", "tensorizer", converted),
        ("tensorizer, verify_hash", "tensorizer-verify", converted),
    ]:
        made.append(Case(label, [*peer, case, path]))
    if options.only:
        made = [case for case in made if any(word in case.name for word in options.only)]
    return [file, converted], made


def measure(options, read, made):
    generator = random.Random(SEED)
    for number in range(options.rounds + 1):
        say(f"round {number} of {options.rounds}")
        order = list(made)
        generator.shuffle(order)
        for case in order:
            if not case.cold:
                for path in read:
                    warm(path)
            more = ["--digest"] if number == 0 and any("load_peer.py" in str(part) for part in case.command) else []
            done = subprocess.run([str(a) for a in [*case.command, *more]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                sys.exit(f"{case.name} failed:\n{done.stderr}")
            answer = json.loads(done.stdout.splitlines()[-1])
            if number == 0:
                case.answers.add(answer.get("digest"))
            else:
                case.times.append(answer["median"] if "median" in answer else answer["seconds"])
                case.beyond = max(case.beyond, answer.get("beyond_buffers", 0))
    digests = {answer for case in made for answer in case.answers if answer}
    if len(digests) > 1:
        sys.exit(f"the programs did not load the same bytes: {digests}")


def table(made, rows=ROWS):
    times = {case.name: case.times for case in made}

    def wall(name):
        return f"{seconds(statistics.median(times[name]))} ({seconds(min(times[name]))} .. {seconds(max(times[name]))})"

    yield "| Load | Median (min .. max) | Beside | Median (min .. max) | Ratio | Budget | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        if row.ours in times and row.beside in times:
            ratio = statistics.median(times[row.ours]) / statistics.median(times[row.beside])
            cells = [row.ours, wall(row.ours), row.beside, wall(row.beside), f"{ratio:.3f}", f"{row.budget:.2f}",
                     verdict(ratio <= row.budget)]  # fmt: skip
            yield "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default: 7)")
    parser.add_argument("--size", type=int, default=1536 * MIB, help="bytes of the model (default: 1.5 GiB)")
    parser.add_argument("--only", action="append", help="only cases whose name contains this; repeat for more")
    parser.add_argument("--work", type=Path, help="where the data is made and kept (default: a temporary folder)")
    parser.add_argument("--bench", help="the program of benches/load.rs, already built")
    parser.add_argument("--python", help="a Python that has the packages of load-requirements.txt")
    parser.add_argument("--json", type=Path, help="also write all times there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        read, made = cases(options, work)
        about = machine()
        measure(options, read, made)
    print("\n".join(table(made)))
    print(f"\n{about['cpu']}; {about['kernel']}; load at start {about['load_at_start']:.1f}; {about['date']}; "
          f"{options.rounds} rounds; {options.size / 2**30:.2f} GiB, warm unless it says cold")  # fmt: skip
    beyond = max(case.beyond for case in made)
    print(f"Resident at the peak beyond the buffers, ours: {beyond / MIB:.1f} MiB at most")
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "seconds": {c.name: c.times for c in made}}, indent=1))


if __name__ == "__main__":
    main()
