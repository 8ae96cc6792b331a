"""Loading: all tensors of a model in private memory of the process, with a check of all bytes and without."""

import atexit
import json
import os
import subprocess
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import data
import install
from cases import MIB, OURS, Case, Disagreement, Group, Here, Missing, Row

PEER = str(install.HERE / "load_peer.py")
FILE = "model.safetensors"


@dataclass(frozen=True)
class Peer:
    """One way to load, by others."""

    name: str
    label: str
    program: str
    case: str  # of load_peer.py
    check: str = ""  # of load_peer.py, before the load
    signed: str = ""  # with which digests: for the check by model_signing
    file: str = FILE
    modules: tuple[str, ...] = ("safetensors.torch",)


def after_blake3(peer: Peer) -> Peer:
    """With the check that whoever knows a file's digest can make: a pass over it by all threads, before it is loaded."""
    modules = (*peer.modules, "blake3")
    return replace(peer, name=f"{peer.name}-blake3", label=f"{peer.label}, after a BLAKE3 pass", check="blake3", modules=modules)


SAFETENSORS = Peer("safetensors", "safetensors load_file + clone", "safetensors", "safetensors")
SAFE_OPEN = Peer("safe-open", "safetensors safe_open + clone", "safetensors", "safe-open")
FAST = Peer("fastsafetensors", "fastsafetensors (nogds)", "fastsafetensors", "fastsafetensors", modules=("fastsafetensors",))
RUNAI = Peer("runai", "runai-model-streamer", "runai-model-streamer", "runai", modules=("runai_model_streamer",))
RUNAI_BUFFERED = replace(RUNAI, label="runai-model-streamer (sync_buffered)", case="runai-buffered")
TENSORIZER = Peer("tensorizer", "tensorizer", "tensorizer", "tensorizer", file="model.tensors", modules=("tensorizer",))
TENSORIZER_VERIFY = replace(TENSORIZER, name="tensorizer-verify", label="tensorizer, verify_hash", case="tensorizer-verify")
TORCH = Peer("torch", "torch.load(weights_only)", "torch", "torch", file="model.pt", modules=("torch",))
TORCH_MMAP = replace(TORCH, name="torch-mmap", label="torch.load(weights_only, mmap) + clone", case="torch-mmap")
XET = replace(SAFETENSORS, name="xet", label="safetensors load_file + clone, after hf_xet.hash_files", program="hf_xet", check="xet",
              modules=("safetensors.torch", "hf_xet"))  # fmt: skip
SIGNED, SIGNED_BLAKE3 = (
    replace(SAFETENSORS, name=f"model-signing-{algorithm}", label=f"safetensors load_file + clone, after model_signing verify ({says})",
            program="model_signing", check="model-signing", signed=algorithm, modules=("safetensors.torch", "model_signing.verifying"))
    for algorithm, says in (("sha256", "SHA-256"), ("blake3", "BLAKE3"))
)  # fmt: skip

# Ours, and of a signature without the BLAKE3 digests that ours have beside those of OMS.
MINE = Peer("tensorseal", "tensorseal.load_file", OURS, "tensorseal", signed="sha256", modules=("tensorseal.loading",))
MINE_SHA256 = replace(MINE, name="tensorseal-sha256", label="tensorseal.load_file, signed with SHA-256 alone", signed="sha256-alone")

CHECKED = (after_blake3(SAFETENSORS), SIGNED, SIGNED_BLAKE3, after_blake3(FAST), TENSORIZER_VERIFY, after_blake3(TORCH), XET)
# Warm, run:ai's streamer is told to read what is in the page cache: by itself it goes past it.
WARM = (*CHECKED, after_blake3(RUNAI_BUFFERED), after_blake3(TORCH_MMAP))
WARM_ALONE = (SAFETENSORS, SAFE_OPEN, FAST, RUNAI_BUFFERED, TENSORIZER, TORCH, TORCH_MMAP)
COLD = (*CHECKED, after_blake3(RUNAI))
COLD_ALONE = (SAFETENSORS, RUNAI)

PACKAGES = ("torch", "safetensors", "fastsafetensors", "tensorizer", "runai-model-streamer", "hf_xet", "model_signing", "blake3")
IMPORTS = ("torch", "safetensors.torch", "fastsafetensors", "tensorizer", "runai_model_streamer", "hf_xet", "model_signing.verifying",
           "tensorseal.loading")  # fmt: skip


class Loads:
    """The model in all formats, its signatures, and the process that has imported all that loads."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self.python = here.python or install.loaders()
        self.environment = {
            **os.environ, "PYTHONPATH": str(here.package or install.package(here.work)), "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(here.work / "huggingface"),
            "RUNAI_STREAMER_LOG_LEVEL": "ERROR",
            "OMP_NUM_THREADS": str(here.threads),
            # NumPy would start threads that no load uses.
            "OPENBLAS_NUM_THREADS": "1",
        }  # fmt: skip
        self.folder = data.model(here.work, here.size(1536 * MIB))
        self.converted = data.once(here.work / f"{self.folder.name}-converted", self.convert)
        self.known: dict[str, Any] = json.loads((self.converted / "expected.json").read_text())
        # Both sides verify these: they have the digests of OMS by the algorithm, and BLAKE3 ones of ours.
        self.signatures = {name: self.sign(name, "--hash", name) for name in ("sha256", "blake3")}
        self.signatures["sha256-alone"] = self.sign("sha256-alone", "--no-annotations")
        self.socket = here.work / "loads.sock"
        self.missing = self.serve()
        for package in PACKAGES:
            program = f"import importlib.metadata as m; print(m.version({package!r}))"
            here.versions["blake3, of Python" if package == "blake3" else package] = self.peer("-c", program)

    def peer(self, *words: object) -> str:
        """Runs Python with the loaders, and gives what it printed."""
        argv = [self.python, *(str(word) for word in words)]
        return subprocess.run(argv, env=self.environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def convert(self, part: Path) -> None:
        part.mkdir()
        self.peer(PEER, "convert", self.folder / FILE, part)
        for path in part.iterdir():
            with path.open("rb") as written:
                # What is dirty cannot be dropped from the page cache.
                os.fsync(written.fileno())

    def sign(self, name: str, *more: str) -> Path:
        signature = self.here.work / f"load-{name}.sig"
        argv = [self.here.binary, "sign", "key", self.folder, "--private-key", self.here.private, "--signature", signature, *more]
        subprocess.run([str(word) for word in argv], check=True, capture_output=True)
        return signature

    def serve(self) -> dict[str, str]:
        """Starts what makes a process for each load; it ends with this one. Returns what cannot be imported, and why."""
        self.socket.unlink(missing_ok=True)
        argv = [self.python, PEER, "serve", str(self.socket)]
        server = subprocess.Popen(argv, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(server.communicate)
        told = server.stdout.readline() if server.stdout else ""
        if not told:
            raise Disagreement("the process that imports the loaders has ended")
        missing: dict[str, str] = json.loads(told)["missing"]
        return missing

    def is_right(self, stdout: str) -> None:
        """The tensors are those of the file: the first and the last in every round, all of them in round 0."""
        told = json.loads(stdout.strip().splitlines()[-1])
        if "edges" not in told:
            raise Disagreement(f"no look at the tensors in {stdout!r}")
        for what in ("tensors", "bytes", "edges", "digest"):
            if what in told and told[what] != self.known[what]:
                raise Disagreement(f"{what}: {told[what]}, and the file has {self.known[what]}")

    def is_right_in_rust(self, digests: dict[str, str], stdout: str) -> None:
        told, size = json.loads(stdout.strip().splitlines()[-1]), (self.folder / FILE).stat().st_size
        if (told["bytes"], told["digests"]) != (size, digests):
            raise Disagreement(f"{told['bytes']} bytes with digests {told['digests']}; the file has {size} and {digests}")

    def by(self, group: str, peer: Peer) -> Case:
        file = (self.folder if peer.file == FILE else self.converted) / peer.file
        cold = group == "load-cold"
        words: list[object] = [PEER, "ask", self.socket, peer.case, file, "--threads", self.here.threads, "--cached", 0 if cold else 1]
        if peer.check:
            words += ["--check", peer.check]
        if peer.check in ("blake3", "xet"):
            known = self.known[peer.check]
            words += ["--digest-of-file", known[peer.file] if peer.check == "blake3" else known]
        if peer.signed:
            words += ["--public-key", self.here.public, "--signature", self.signatures[peer.signed]]
        argv = [self.python, *(str(word) for word in words)]
        return Case(f"{group}/{peer.name}", peer.label, peer.program, argv, self.is_right, inside=True, reads=(file,), cold=cold,
                    first=("--digest",))  # fmt: skip

    def all_by(self, group: str, peers: tuple[Peer, ...]) -> list[Case]:
        cases = []
        for peer in peers:
            lacks = [f"{module}: {self.missing[module]}" for module in peer.modules if module in self.missing]
            if not lacks:
                cases.append(self.by(group, peer))
            elif peer.program == OURS:
                raise Disagreement(f"our package cannot be imported: {lacks[0]}")
            else:
                self.here.skip(peer.program, peer.label, Missing(lacks[0], f"install it for {self.python}"))
        return cases

    def in_rust(self, group: str, bench: str) -> list[Case]:
        """The loader without Python: `benches/load.rs`."""
        cold, cases, file = group == "load-cold", [], self.folder / FILE
        kinds = [("verified", "loader in Rust, verified", ""), ("unverified", "loader in Rust, unverified", "")]
        if cold:
            kinds.append(("verified", "loader in Rust, verified, O_DIRECT", "direct"))
        else:
            kinds.append(("pread", "plain parallel pread", ""))
            kinds.append(("verified", "loader in Rust, verified, huge pages", "huge"))
        for kind, label, more in kinds:
            argv: list[object] = [bench, self.folder, "--rounds", "1", "--json", "--threads", self.here.threads, f"--{kind}"]
            argv += [f"--{more}"] if more else []
            digests: dict[str, str] = {}
            if kind == "verified":
                argv += ["--signature", self.signatures["sha256"], "--public-key", self.here.public]
                digests = {FILE: self.known["blake3"][FILE]}
            name = "-".join(word for word in ("rust", kind, more) if word)
            check = partial(self.is_right_in_rust, digests)
            words = [str(word) for word in argv]
            cases.append(Case(f"{group}/{name}", label, OURS, words, check, inside=True, reads=(file,), cold=cold))
        return cases

    def imports(self) -> str:
        """How long importing takes, in processes that have imported nothing else: no part of any time."""
        modules = [module for module in IMPORTS if module not in self.missing]
        return ", ".join(f"`{module}` {float(self.peer(PEER, 'import', module)):.2f} s" for module in modules)


def groups(here: Here) -> list[Group]:
    loads = Loads(here)
    # It loads to CUDA devices alone, and there is none.
    why = Missing("it loads to CUDA devices alone", "a machine with a GPU of NVIDIA")
    here.skip("InstantTensor", "loading", why)
    bench = here.load_bench
    imports = "In a quick run importing is not timed." if here.quick else f"Importing, once and in a process of its own: {loads.imports()}."
    amount = (loads.folder / FILE).stat().st_size
    made = []
    for name, title, checked, alone, text, seconds in (
        ("load-warm", "Check and load a model of 1.5 GiB, warm", WARM, WARM_ALONE, ABOUT_WARM.format(imports=imports), 120),
        ("load-cold", "Check and load a model of 1.5 GiB, cold", COLD, COLD_ALONE, ABOUT_COLD, 190),
    ):
        mine, others, unlike = (loads.all_by(name, peers) for peers in ((MINE, MINE_SHA256), checked, alone))
        rust = loads.in_rust(name, bench) if bench else []
        what = title[0].upper() + title[1:]
        row = Row(name, what, mine[0].name, names(others), also=names(mine[1:]), unlike=names(unlike), amount=amount,
                  promised=(f"{name}/safetensors-blake3", 1.0))  # fmt: skip
        rows = [row]
        if rust:
            # What the check may add: the loader's own budgets.
            promised = (f"{name}/rust-unverified", 1 / 1.4 if name == "load-warm" else 1 / 1.1)
            rows.append(Row(f"{name}-rust", f"{what}: the loader in Rust", rust[0].name, (), also=names(rust[1:]), amount=amount, promised=promised))
        made.append(Group(name, title, text, [*mine, *others, *unlike, *rust], rows, seconds=seconds, rounds=(4, 7)))
    return made


def names(cases: list[Case]) -> tuple[str, ...]:
    return tuple(case.name for case in cases)


ABOUT_WARM = """\
One safetensors file of 1.5 GiB in the page cache (for `torch.load` and tensorizer the same tensors in their formats). Only the call is timed:
from imported modules to all tensors, checked, in private memory that the process has just allocated. Each load is a process of its own, made
by one that has imported everything, and told so many threads as the others where it can be told (`model_signing`, `hf_xet` and `torch.load` cannot).
Where its tensors lie is looked at each time: of what maps the file (safetensors, `torch.load` with `mmap`) they are cloned.

Peers are checked as their users can today. tensorizer compares digests that lie in the same file, so that whoever changes one changes the
other. For the others there is a pass before the load: BLAKE3 by the Python package `blake3` (all threads, the file mapped), the signature and
the file's digest by `model_signing`, or the hash that Hugging Face's storage knows the file by; `hf_xet` itself loads nothing, and its
downloads need a network. Whatever changes between the pass and the load, none of them sees. `tensorseal.load_file` checks the
signature and hashes the memory that it hands out. Peak memory is what a load adds to the process, its tensors included; pages of a file count
while they are mapped. {imports}"""

ABOUT_COLD = """\
The same, of files that have left the page cache before each load: the kernel was asked (`mincore`), also by the process that loads, just before
the clock. A pass brings the file into the page cache for the load after it. The streamer of run:ai reads past the page cache by itself
(`O_DIRECT`), so that with a pass before it the file is read from the disk twice. What the host of a virtual machine caches nobody can drop here."""
