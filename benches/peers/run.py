#!/usr/bin/env python3
"""Times tensorseal beside the programs that people use today, on the same files, in the same minutes.

README.md beside this file says what is measured and how. Needs nothing but Python; installs the peers it lacks.
"""

import argparse
import contextlib
import datetime
import fcntl
import filecmp
import json
import math
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("TENSORSEAL_CACHE") or Path.home() / ".cache" / "tensorseal")
MIB = 1 << 20
PEAK_RSS_BUDGET = 64 * MIB
SEED = 20251122


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- the peers ---------------------------------------------------------------------------------------------------


def missing(what, command):
    sys.exit(f"missing: {what}\n   run: {command}")


@contextlib.contextmanager
def cache_lock():
    """The lock that ./test takes too, so that two installs wait for each other."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def b3sum():
    lines = (CHECKOUT / "tests/tools.txt").read_text().splitlines()
    pins = dict(line.split() for line in lines if line and not line.startswith("#"))
    crate = f"b3sum@{pins['b3sum']}"
    command = ["cargo", "install", "--quiet", "--locked", "--root", str(CACHE), crate]
    if not shutil.which("cargo"):
        missing("cargo", "the installer of rustup")
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    with cache_lock():
        if subprocess.run(command, env=environment, stdout=sys.stderr).returncode != 0:
            missing(crate, " ".join(command))
    return str(CACHE / "bin" / "b3sum")


def openssl():
    return shutil.which("openssl") or missing("openssl", "apt-get install openssl")


def model_signing():
    """Python's model-signing in the same environment as the interoperability tests; returns its Python."""
    venv, wanted = CACHE / "venv", CHECKOUT / "tests/python/requirements.txt"
    python, installed = venv / "bin" / "python", venv / "installed.txt"
    with cache_lock():
        if not (installed.exists() and filecmp.cmp(wanted, installed, shallow=False)):
            shutil.rmtree(venv, ignore_errors=True)
            if subprocess.run([sys.executable, "-m", "venv", str(venv)], stdout=sys.stderr).returncode != 0:
                missing("Python's venv", "apt-get install python3-venv")
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)]
            if subprocess.run(command, stdout=sys.stderr).returncode != 0:
                missing(f"the packages in {wanted}", " ".join(command))
            shutil.copyfile(wanted, installed)
    return str(python)


def tensorseal():
    """The release build of this checkout."""
    say("building tensorseal in release mode")
    if subprocess.run(["cargo", "build", "--release", "--locked"], cwd=CHECKOUT, stdout=sys.stderr).returncode != 0:
        sys.exit("tensorseal does not build: --bin names a program that is already built")
    return str(Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target") / "release" / "tensorseal")


# ---- the data ----------------------------------------------------------------------------------------------------


def once(path, make):
    """Makes the file or folder under a temporary name first: what is there under its own name is whole."""
    if not path.exists():
        say(f"making {path.name}")
        part = path.with_name(path.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        make(part)
        part.rename(path)
    return path


def big_file(work, size):
    """Bytes that no compressing or deduplicating file system can shorten, always the same: an AES keystream."""

    def make(part):
        keystream = subprocess.Popen(
            [openssl(), "enc", "-aes-128-ctr", "-K", f"{SEED:032x}", "-iv", "0" * 32, "-in", "/dev/zero"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with part.open("wb") as file:
            left = size
            while left:
                piece = keystream.stdout.read(min(left, MIB))
                if not piece:
                    sys.exit("openssl ended before the file was full")
                left -= file.write(piece)
        keystream.stdout.close()
        keystream.wait()

    return once(work / f"big-{size}.bin", make)


def many_files(work, count):
    """`count` files in 100 folders, of 20 B to 20 kB: as many between 20 and 200 B as between 2 and 20 kB."""

    def make(part):
        generator = random.Random(SEED)
        for i in range(100):
            (part / f"{i:02}").mkdir(parents=True)
        for i in range(count):
            size = round(math.exp(generator.uniform(math.log(20), math.log(20_000))))
            (part / f"{i % 100:02}" / f"{i:05}.bin").write_bytes(generator.randbytes(size))

    return once(work / f"many-{count}", make)


def ten_files(work):
    def make(part):
        generator = random.Random(SEED)
        part.mkdir()
        for i in range(10):
            (part / f"{i}.bin").write_bytes(generator.randbytes(1000 * (i + 1)))

    return once(work / "ten", make)


def warm(path):
    """Reads everything once, so that every program finds it in the page cache."""
    folders = os.walk(path) if path.is_dir() else [(path.parent, [], [path.name])]
    for folder, _, names in folders:
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                while file.read(MIB):
                    pass


# ---- measuring ---------------------------------------------------------------------------------------------------


class Disagreement(Exception):
    pass


@dataclass
class Sample:
    wall: float
    user: float
    system: float
    peak_rss: int


def spawn(argv, scratch):
    """Runs a program from start to exit: what it took, as the kernel counted it, and what it printed."""
    out, err = str(scratch / "stdout"), str(scratch / "stderr")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    stdout, stderr = Path(out).read_text(errors="replace"), Path(err).read_text(errors="replace")
    if os.waitstatus_to_exitcode(status) != 0:
        raise Disagreement(f"{' '.join(argv)}\nended with {os.waitstatus_to_exitcode(status)}: {stdout}{stderr}")
    return Sample(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024), stdout


@dataclass
class Command:
    """One program with its arguments. `check` sees what it printed, after the clock has stopped."""

    name: str
    label: str
    argv: list[str]
    ours: bool
    check: Callable[[str], None]
    output: Path | None = None  # removed before each run, so that no earlier one can answer for this
    samples: list[Sample] = field(default_factory=list)

    def run(self, scratch):
        if self.output:
            self.output.unlink(missing_ok=True)
        sample, stdout = spawn(self.argv, scratch)
        self.check(stdout)
        return sample

    def median(self, what):
        return statistics.median(getattr(sample, what) for sample in self.samples)

    def peak_rss(self):
        return max(sample.peak_rss for sample in self.samples)


@dataclass
class Row:
    """A line of the table: one of our commands, what it is compared with, and what was promised."""

    case: str
    ours: Command
    reference: Command
    budget_ratio: float | None = None
    budget_seconds: float | None = None

    def ratio(self):
        return self.ours.median("wall") / self.reference.median("wall")

    def met(self):
        if self.budget_ratio is not None and self.ratio() > self.budget_ratio:
            return False
        return self.budget_seconds is None or self.ours.median("wall") <= self.budget_seconds


# ---- the cases ---------------------------------------------------------------------------------------------------

CASES = ["blake3-2g", "sha256-2g", "sign-2g", "many", "ten"]


class Cases:
    def __init__(self, options, work, binary):
        self.options, self.work, self.binary = options, work, binary
        self.commands, self.rows, self.versions = {}, [], {}
        self.digests = {}
        self.version("tensorseal", [binary, "--version"])
        self.version("openssl", [openssl(), "version"])
        self.version("python", [sys.executable, "--version"])
        # A key that neither side made.
        self.private, self.public = work / "key.pem", work / "key.pub"
        if not self.public.exists():
            curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(self.private)]
            subprocess.run([openssl(), "genpkey", *curve], check=True, stderr=subprocess.DEVNULL)
            subprocess.run([openssl(), "pkey", "-in", self.private, "-pubout", "-out", self.public], check=True)

    def version(self, name, argv):
        self.versions[name] = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def command(self, name, label, argv, check, ours=True, output=None):
        """The command of this name: one that several rows share is run once a round."""
        if name not in self.commands:
            self.commands[name] = Command(name, label, [str(a) for a in argv], ours, check, output)
        return self.commands[name]

    def same_digest(self, algorithm):
        def check(stdout):
            found = re.search(r"\b[0-9a-f]{64}\b", stdout)
            if not found:
                raise Disagreement(f"no {algorithm} digest in: {stdout!r}")
            if self.digests.setdefault(algorithm, found[0]) != found[0]:
                raise Disagreement(f"{algorithm}: {self.digests[algorithm]} and {found[0]} for the same file")

        return check

    def says(self, words):
        def check(stdout):
            if words not in stdout:
                raise Disagreement(f"expected {words!r}, got {stdout!r}")

        return check

    def accepted_by(self, verify):
        """A signature is right if the program that did not make it accepts it."""

        def check(stdout):
            self.says("Signing succeeded")(stdout)
            _, verdict = spawn([str(a) for a in verify], self.work)
            self.says("Verification succeeded")(verdict)

        return check

    def our_sign(self, model, signature, *more):
        return [self.binary, "sign", "key", model, "--private-key", self.private, "--signature", signature, *more]

    def our_verify(self, model, signature, *more):
        return [self.binary, "verify", "key", model, "--signature", signature, "--public-key", self.public, *more]

    def blake3_2g(self):
        big, threads = big_file(self.work, self.options.size), self.options.threads
        program = b3sum()
        self.version("b3sum", [program, "--version"])
        same = self.same_digest("BLAKE3")
        reference = self.command(
            "b3sum", f"b3sum --num-threads {threads}", [program, "--num-threads", threads, big], same, ours=False
        )
        digest = [self.binary, "digest", big, "--files", "--hash", "blake3", "--threads", threads]
        mapped = self.command("blake3", "digest --hash blake3", digest, same)
        read = self.command("blake3-read", "digest --hash blake3 --io read", [*digest, "--io", "read"], same)
        self.rows += [Row("blake3-2g", mapped, reference, 1.08), Row("blake3-2g", read, reference, 1.45)]

    def sha256_2g(self):
        big, same = big_file(self.work, self.options.size), self.same_digest("SHA-256")
        reference = self.command(
            "openssl", "openssl dgst -sha256", [openssl(), "dgst", "-sha256", "-r", big], same, ours=False
        )
        digest = [self.binary, "digest", big, "--files", "--hash", "sha256"]
        ours = self.command("sha256", "digest --hash sha256", digest, same)
        self.rows.append(Row("sha256-2g", ours, reference, 1.0))

    def sign_2g(self):
        big = big_file(self.work, self.options.size)
        both, one = self.work / "both.sig", self.work / "one.sig"
        ours = self.command(
            "sign", "sign key (SHA-256 and BLAKE3)", self.our_sign(big, both),
            self.accepted_by(self.our_verify(big, both, "--all-digests")), output=both,
        )  # fmt: skip
        reference = self.command(
            "sign-one", "sign key --no-annotations", self.our_sign(big, one, "--no-annotations"),
            self.accepted_by(self.our_verify(big, one)), output=one,
        )  # fmt: skip
        self.rows.append(Row("sign-2g", ours, reference, 1.10))

    def many(self):
        self.beside_python("many", many_files(self.work, self.options.many), budget_ratio=0.10)

    def ten(self):
        self.beside_python("ten", ten_files(self.work), budget_seconds=0.008)

    def beside_python(self, case, model, **budget):
        """Signing and verifying a folder. Each signature is accepted by the other side; both verify the same one."""
        module = [model_signing(), "-m", "model_signing"]
        self.version("model-signing", [*module, "--version"])
        by_us, by_python, given = (self.work / f"{case}-{by}.sig" for by in ("ours", "python", "given"))

        # model-signing 1.1.1 knows its flags with underscores only.
        def python_sign(signature):
            return [*module, "sign", "key", model, "--private_key", self.private, "--signature", signature]

        def python_verify(signature):
            return [*module, "verify", "key", model, "--public_key", self.public, "--signature", signature]

        subprocess.run([str(a) for a in python_sign(given)], check=True, stdout=subprocess.DEVNULL)
        sign = self.command(
            f"{case}-sign", f"sign key, {case} files", self.our_sign(model, by_us),
            self.accepted_by(python_verify(by_us)), output=by_us,
        )  # fmt: skip
        sign_python = self.command(
            f"{case}-sign-python", "python -m model_signing sign key", python_sign(by_python),
            self.accepted_by(self.our_verify(model, by_python)), ours=False, output=by_python,
        )  # fmt: skip
        accepted = self.says("Verification succeeded")
        verify = self.command(
            f"{case}-verify", f"verify key, {case} files", self.our_verify(model, given), accepted
        )
        verify_python = self.command(
            f"{case}-verify-python", "python -m model_signing verify key", python_verify(given), accepted, ours=False
        )
        self.rows += [Row(case, sign, sign_python, **budget), Row(case, verify, verify_python, **budget)]


# ---- the report --------------------------------------------------------------------------------------------------


def seconds(value):
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.3f} s"


def verdict(met):
    return "met" if met else "**missed**"


def wall(command):
    times = [sample.wall for sample in command.samples]
    return f"{seconds(statistics.median(times))} ({seconds(min(times))} .. {seconds(max(times))})"


def machine():
    cpu = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} logical",
        "kernel": f"{platform.system()} {platform.release()}",
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_at_start": os.getloadavg()[0],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def table(rows):
    columns = ["Case", "Program", "Wall, median (min .. max)", "CPU", "Ratio", "Budget", "", "Peak RSS",
               f"under {PEAK_RSS_BUDGET // MIB} MiB"]  # fmt: skip
    yield "| " + " | ".join(columns) + " |"
    yield "|" + " --- |" * len(columns)
    shown = set()
    for row in rows:
        for command in (row.reference, row.ours):
            if command.name in shown:
                continue
            shown.add(command.name)
            cells = [row.case, f"`{'tensorseal ' * command.ours}{command.label}`", wall(command),
                     seconds(command.median("user") + command.median("system"))]  # fmt: skip
            if command is row.ours:
                budget = []
                if row.budget_ratio is not None:
                    budget.append(f"ratio {row.budget_ratio:.2f}")
                if row.budget_seconds is not None:
                    budget.append(seconds(row.budget_seconds))
                cells += [f"{row.ratio():.3f}", ", ".join(budget), verdict(row.met())]
            else:
                cells += ["1", "", "reference"]
            cells.append(f"{command.peak_rss() / MIB:.1f} MiB")
            cells.append(verdict(command.peak_rss() < PEAK_RSS_BUDGET) if command.ours else "")
            yield "| " + " | ".join(cells) + " |"


def as_json(cases, about, options):
    commands = {
        name: {"argv": c.argv, "ours": c.ours, **{f: [getattr(s, f) for s in c.samples] for f in Sample.__annotations__}}
        for name, c in cases.commands.items()
    }
    rows = [
        {
            "case": row.case,
            "ours": row.ours.name,
            "reference": row.reference.name,
            "ratio": row.ratio(),
            "budget_ratio": row.budget_ratio,
            "budget_seconds": row.budget_seconds,
            "met": row.met(),
            "peak_rss": row.ours.peak_rss(),
            "peak_rss_met": row.ours.peak_rss() < PEAK_RSS_BUDGET,
        }
        for row in cases.rows
    ]
    settings = {"rounds": options.rounds, "size": options.size, "many": options.many, "threads": options.threads}
    return {"machine": about, "versions": cases.versions, "settings": settings, "commands": commands, "rows": rows}


def byte_count(text):
    """`2G`, `64M`, `4096`: binary multiples."""
    match = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (such as 2G or 64M)")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def measure(cases, rounds):
    """Round 0 warms up and is not counted. The order is drawn anew each round: drift hits all programs alike."""
    order = random.Random(SEED)
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}" + (" (warming up)" if number == 0 else ""))
        commands = list(cases.commands.values())
        order.shuffle(commands)
        for command in commands:
            sample = command.run(cases.work)
            if number > 0:
                command.samples.append(sample)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", help="the tensorseal to measure (default: builds this checkout's release binary)")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=CASES, metavar="CASE", help=f"of {', '.join(CASES)}; repeat")
    parser.add_argument("--size", type=byte_count, default="2G", help="of the big file (default: %(default)s)")
    parser.add_argument("--many", type=int, default=50_000, help="files of the case `many` (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of b3sum and of ours beside it (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder for the data (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="leave the data there for a later --work")
    parser.add_argument("--json", type=Path, help="write every sample to this file, too")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")

    binary = os.path.abspath(options.bin or tensorseal())
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary}: not a program")
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    work = (options.work or Path(tempfile.mkdtemp(prefix="tensorseal-peers-"))).resolve()
    if work.is_relative_to(CHECKOUT):
        sys.exit(f"{work} is inside the checkout: name another folder")
    # The folder itself may be the caller's: only what this program put there goes.
    before = set(work.iterdir())
    try:
        about = machine()
        cases = Cases(options, work, binary)
        for case in options.only or CASES:
            getattr(cases, case.replace("-", "_"))()
        for path in work.iterdir():
            warm(path)
        measure(cases, options.rounds)

        print("\n".join(table(cases.rows)))
        print(f"\nMedians of {options.rounds} rounds; big file {options.size / MIB:,.0f} MiB, `many` {options.many:,} files.")
        print(f"{about['cpu']}, {about['memory_bytes'] / (1 << 30):.0f} GiB, {about['kernel']}, {about['date']}; "
              f"load at start {about['load_at_start']:.1f}.")  # fmt: skip
        print("; ".join(f"{name}: {text}" for name, text in cases.versions.items()) + ".")
        floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"No peak RSS below {floor / MIB:.0f} MiB can be told: a process starts with its parent's.")
        if options.json:
            options.json.write_text(json.dumps(as_json(cases, about, options), indent=2) + "\n")
    except subprocess.CalledProcessError as why:
        sys.exit(f"{' '.join(map(str, why.cmd))}\nended with {why.returncode}: {why.stderr or ''}")
    except Disagreement as why:
        sys.exit(f"the programs disagree, so there is nothing to compare: {why}")
    finally:
        if options.keep:
            say(f"the data stays in {work}")
        else:
            for path in set(work.iterdir()) - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not options.work:
                work.rmdir()


if __name__ == "__main__":
    main()
