"""Files: digests of one large file, and of many small ones."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import install
from cases import GIB, MIB, OURS, Case, Disagreement, Group, Here, Missing, Row
from pages import files_in

PEER = str(install.HERE / "file_peer.py")
MEMORY = 64 * MIB
# One line of b3sum, sha256sum, openssl -r or ours.
LINE = re.compile(r"^([0-9a-f]{64}) [ *](.+)$", re.MULTILINE)


class Cases:
    """The cases of one group: a name is made with the group's, and what cannot be had is skipped, said once."""

    def __init__(self, here: Here, group: str) -> None:
        self.here, self.group = here, group
        self.made: list[Case] = []

    def add(self, name: str, label: str, program: str, argv: list[object], check: Callable[[str], None], **more: Any) -> str:
        case = Case(f"{self.group}/{name}", label, program, [str(word) for word in argv], check, **more)
        self.made.append(case)
        return case.name

    def peer(self, label: str, program: str, make: Callable[[], str]) -> tuple[str, ...]:
        """The name of a peer's case, or none."""
        try:
            return (make(),)
        except Missing as why:
            self.here.skip(program, label, why)
            return ()

    def version(self, program: str, argv: list[object]) -> None:
        if program not in self.here.versions:
            self.here.versions[program] = install.one_line([str(word) for word in argv])


def hasher(program: str) -> str:
    """A program that hashes files, with its version noted by the caller."""
    if program == "b3sum":
        return install.b3sum()
    return install.openssl() if program == "openssl" else install.on_path("sha256sum", "apt-get install coreutils")


def python_peer(cases: Cases, package: str) -> str:
    """A Python that has this package, whose version is noted."""
    if package == "hf_xet":
        python = install.environment("venv-files", install.HERE / "file-requirements.txt")
    else:
        python = install.model_signing()
    program = f"import importlib.metadata as m; print('{package}', m.version('{package}'))"
    cases.version(package, [python, "-c", program])
    return python


def digest_case(cases: Cases, algorithm: str, path: Path, program: str, *, threads: int | None = None) -> tuple[str, ...]:
    """A peer's digest of one file, or of each file of a folder."""
    by = by_library if program in ("model_signing", "hf_xet") else by_program
    return cases.peer(f"{algorithm} of {path.name}", program, lambda: by(cases, algorithm, path, program, threads))


def by_library(cases: Cases, algorithm: str, path: Path, program: str, _: int | None) -> str:
    python, here = python_peer(cases, program), cases.here
    if program == "hf_xet":
        name, label, words, question = program, "hf_xet.hash_files", ["hf-xet"], f"{program} of {path.name}"
    else:
        name, label, words = f"{program}-{algorithm}", f"model_signing.hashing, {algorithm}", ["digest", algorithm]
        question = f"{algorithm} of {path.name}"
    check = here.same_in_json(question, needed=True)
    return cases.add(name, label, program, [python, PEER, *words, path], check, inside=True, reads=(path,))


def by_program(cases: Cases, algorithm: str, path: Path, program: str, threads: int | None) -> str:
    found = hasher(program)
    cases.version(program, [found, "version" if program == "openssl" else "--version"])
    known: dict[str, list[object]] = {"openssl": ["dgst", "-sha256", "-r"], "b3sum": ["--num-threads", threads]}
    options = known.get(program, [])
    files, label = sorted(files_in(path)), " ".join([program, *map(str, options)])
    argv: list[object] = [found, *options, *files]
    # A list of names beyond what one process takes goes through xargs, in as few processes as it can.
    if len(files) > 15_000:
        argv = ["xargs", "-s", 1_000_000, "-a", names(cases.here, path, files), found, *options]
        label = f"xargs {label}"
    check = listing(cases.here, f"{algorithm} of {path.name}", path)
    name = program if threads in (None, cases.here.threads) else f"{program}-{threads}"
    return cases.add(name, label, program, argv, check, reads=(path,))


def in_parallel(cases: Cases, path: Path) -> tuple[str, ...]:
    """As many b3sum as processors, each with a part of the list: what takes most out of it for small files."""
    here = cases.here
    check = listing(here, f"blake3 of {path.name}", path)

    def make() -> str:
        files = sorted(files_in(path))
        part = -(-len(files) // (4 * here.threads))
        argv = ["xargs", "-P", here.threads, "-n", part, "-s", 1_000_000, "-a", names(here, path, files)]
        argv += [install.b3sum(), "--num-threads", 1]
        return cases.add("b3sum-xargs", f"xargs -P {here.threads} b3sum", "b3sum", argv, check, reads=(path,))

    return cases.peer(f"blake3 of {path.name}", "b3sum", make)


def names(here: Here, path: Path, files: list[Path]) -> Path:
    """A list for xargs, beside the folder."""
    written = here.work / f"{path.name}.names"
    written.write_text("".join(f"{file}\n" for file in files))
    return written


def listing(here: Here, question: str, path: Path) -> Callable[[str], None]:
    """A check: the lines of digests and paths, whatever their order, are those of the others."""

    def check(stdout: str) -> None:
        found = {name: digest for digest, name in LINE.findall(stdout)}
        wanted = {str(file) for file in files_in(path)}
        if set(found) != wanted:
            odd = sorted(set(found) ^ wanted)[:3]
            raise Disagreement(f"{question}: digests of {len(found)} files for {len(wanted)}: {odd}")
        if path.is_file():
            answer = found[str(path)]
        else:
            lines = sorted((str(Path(name).relative_to(path)), digest) for name, digest in found.items())
            answer = hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in lines).encode()).hexdigest()
        known = here.answers.setdefault(question, answer)
        if known != answer:
            raise Disagreement(f"{question}: {known} and {answer}")

    return check


def our_digest(cases: Cases, algorithm: str, path: Path, *more: object, name: str = "", threads: int | None = None) -> str:
    threads = threads or cases.here.threads
    argv = [cases.here.binary, "digest", path, "--files", "--hash", algorithm, "--threads", threads, *more]
    label = " ".join(map(str, ["digest --files --hash", algorithm, *more]))
    if threads != cases.here.threads:
        label += f" --threads {threads}"
    check = listing(cases.here, f"{algorithm} of {path.name}", path)
    return cases.add(name or f"ours-{algorithm}", label, OURS, argv, check, reads=(path,))


def one_large(here: Here) -> Group:
    size, threads = here.size(4 * GIB), here.threads
    file, cases, rows = data.big_file(here.work, size), Cases(here, "digest-4g"), []
    for count in sorted({threads, 1}, reverse=True):
        many = "all" if count == threads else str(count)
        ours = our_digest(cases, "blake3", file, name=f"ours-{many}", threads=count)
        reading = our_digest(cases, "blake3", file, "--io", "read", name=f"ours-read-{many}", threads=count)
        peer = digest_case(cases, "blake3", file, "b3sum", threads=count)
        rows.append(Row(
            f"digest-4g-blake3-{many}",
            f"BLAKE3 of one file of 4 GiB, {count} thread{'s' * (count > 1)} each",
            ours, peer, also=(reading,), amount=size, promised=(peer[0], 0.95) if peer else None, memory=MEMORY,
        ))  # fmt: skip
    about = (
        "One file of 4 GiB in the page cache, hashed by as many threads on both sides. What is timed is the whole process. Peak memory "
        "counts the pages of a mapped file while they are resident: `b3sum` maps all of it, ours maps a window at a time, or reads "
        "(`--io read`)."
    )
    return Group("digest-4g", "One file of 4 GiB, BLAKE3", about, cases.made, rows, seconds=60, rounds=(5, 11))


def one_file(here: Here) -> Group:
    size = here.size(2 * GIB, 4 * MIB)
    file, cases = data.big_file(here.work, size), Cases(here, "digest-2g")
    ours = our_digest(cases, "sha256", file)
    beside = tuple(name for program in ("openssl", "sha256sum", "model_signing") for name in digest_case(cases, "sha256", file, program))
    sha256 = Row("digest-2g-sha256", "SHA-256 of one file of 2 GiB", ours, beside, amount=size, memory=MEMORY)
    ours = our_digest(cases, "blake3", file)
    beside = digest_case(cases, "blake3", file, "b3sum", threads=here.threads) + digest_case(cases, "blake3", file, "model_signing")
    unlike = digest_case(cases, "blake3", file, "hf_xet")
    blake3 = Row("digest-2g-blake3", "BLAKE3 of one file of 2 GiB", ours, beside, unlike=unlike, amount=size, memory=MEMORY)
    about = (
        "One file of 2 GiB in the page cache. What is timed is the whole process; of libraries of Python (`model_signing.hashing`, "
        "`hf_xet.hash_files`) only the call, without starting and importing. `hf_xet` gives another digest: it cuts the file into chunks by "
        "their content, as the Hub stores them, and hashes those with BLAKE3."
    )
    return Group("digest-2g", "One file of 2 GiB", about, cases.made, [sha256, blake3], seconds=60, rounds=(5, 11))


def small(here: Here) -> Group:
    count = 200 if here.quick else 10_000
    folder, cases = data.equal_files(here.work, count), Cases(here, "digest-10k")
    amount = count * 4096
    ours = our_digest(cases, "blake3", folder)
    alone = digest_case(cases, "blake3", folder, "b3sum", threads=here.threads)
    beside = alone + in_parallel(cases, folder) + digest_case(cases, "blake3", folder, "model_signing")
    blake3 = Row(
        "digest-10k-blake3", "BLAKE3 of 10,000 files of 4 KiB", ours, beside, amount=amount, promised=(alone[0], 1.5) if alone else None, memory=MEMORY,
    )  # fmt: skip
    ours = our_digest(cases, "sha256", folder)
    beside = tuple(name for program in ("openssl", "sha256sum", "model_signing") for name in digest_case(cases, "sha256", folder, program))
    sha256 = Row("digest-10k-sha256", "SHA-256 of 10,000 files of 4 KiB", ours, beside, amount=amount, memory=MEMORY)
    about = (
        "10,000 files of 4 KiB in 100 folders, in the page cache. Ours finds them itself; the other programs are given their names, so that "
        "no time goes into finding them. `xargs -P` starts as many `b3sum` as there are processors, each with a part of the list."
    )
    return Group("digest-10k", "10,000 files of 4 KiB", about, cases.made, [blake3, sha256], seconds=30, rounds=(7, 15))


MAKERS: dict[str, Callable[[Here], list[Group]]] = {
    "digest-4g": lambda here: [one_large(here)],
    "digest-2g": lambda here: [one_file(here)],
    "digest-10k": lambda here: [small(here)],
}
