"""What is measured: cases (one program with its arguments), rows (a case of ours beside others) and groups of rows.

A module that measures has a function `groups(here) -> list[Group]`: `files.py` and `loads.py` do. It makes its data in `here.work`,
installs its peers, and returns the cases; running, timing, checking and writing are done by others. Why another program may be
faster than ours in a row is written in `why.py`, so that the page can be rendered again without measuring.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

MIB, GIB = 1 << 20, 1 << 30
OURS = "tensorseal"


class Disagreement(Exception):
    """A program failed or gave another answer than the others: there is nothing to compare."""


class Failed(Disagreement):
    """A program ended with another status than 0, was killed, or took too long: it gave no answer. A peer is then left out, and the
    page says so; where it is asked whether another's answer is right, that is a no."""


class Missing(Exception):
    """A peer cannot be had on this machine: says why and what to do. Its cases are skipped, and the page says so."""

    def __init__(self, why: str, remedy: str):
        super().__init__(f"{why}; {remedy}")
        self.why, self.remedy = why, remedy


@dataclass
class Case:
    """One program with its arguments: a process of its own in each round."""

    name: str  # of all cases the only one with this name: "digest-2g/b3sum"
    label: str  # what the page calls it: "b3sum --num-threads 2"
    program: str  # whose version is shown, a key of `Here.versions`; OURS for ours
    argv: list[str]
    # Sees what it printed, after the clock has stopped, in every round; raises Disagreement if that is not the right answer.
    check: Callable[[str], None]
    # False: the time is that of the whole process. True: the last line that it prints is JSON, and its "seconds" are the time;
    # "cpu" (seconds) and "peak" (bytes) in it, if there, stand for those of the process. "elsewhere": seconds of the processors that
    # a process has used for it that is no child of it.
    inside: bool = False
    reads: tuple[Path, ...] = ()  # the files or folders that it reads: in the page cache before it starts, or with `cold` out of it
    cold: bool = False
    output: Path | None = None  # removed before each run, so that no earlier one can answer for this
    environment: dict[str, str] = field(default_factory=dict)  # beside what this process has
    first: tuple[str, ...] = ()  # more arguments in round 0, which is not counted: for a check that takes long


@dataclass
class Row:
    """A line of the summary: the case of ours that counts, beside all others."""

    name: str  # "digest-2g-blake3"; tests name the rows that must be there
    what: str  # "BLAKE3 of one file of 2 GiB"
    ours: str  # name of the case of ours that counts
    beside: tuple[str, ...]  # names of the cases of others
    also: tuple[str, ...] = ()  # names of other cases of ours, shown in the section
    # Names of cases of others that do not do what the row asks (they check nothing, or give another digest): shown with their
    # ratio, and not counted when the page says who is first.
    unlike: tuple[str, ...] = ()
    amount: int = 0  # bytes that are read: with it, the page also shows GB/s; 0: it does not
    # What was promised: another case, and the least ratio of its time to ours (0.95: at least 0.95 times its rate).
    promised: tuple[str, float] | None = None
    within: float | None = None  # what was promised of our time alone, in seconds
    memory: int | None = None  # what was promised of our peak of resident memory, in bytes


@dataclass
class Group:
    """Cases that run interleaved in each round, and a section of the page."""

    name: str  # for --only
    title: str
    about: str  # Markdown: what the data is, what is timed, what is not
    cases: list[Case]
    rows: list[Row]
    seconds: float = 60.0  # what its counted rounds may take in all: decides how many there are
    rounds: tuple[int, int] = (5, 15)  # at least, at most


@dataclass
class Here:
    """What all groups share: folder, programs, keys, answers so far."""

    work: Path
    binary: str  # tensorseal, built for release
    private: Path  # a P-256 key that neither side made
    public: Path
    quick: bool = False  # one round of tiny data: does everything work?
    threads: int = 2
    package: Path | None = None  # a folder with the Python package of ours, built for release; None: build it
    load_bench: str = ""  # the program of benches/load.rs; empty: the loader in Rust is left out
    python: str | None = None  # a Python that has the loaders; None: make an environment
    versions: dict[str, str] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)

    def size(self, full: int, quick: int = 8 * MIB) -> int:
        """This many bytes, or with --quick so few that it takes no time."""
        return quick if self.quick else full

    def skip(self, program: str, what: str, missing: Missing) -> None:
        self.skipped.append({"program": program, "what": what, "why": missing.why, "remedy": missing.remedy})

    def same(self, question: str, pattern: str = r"\b[0-9a-f]{64}\b") -> Callable[[str], None]:
        """A check: what the pattern finds is what all other cases with this question found."""

        def check(stdout: str) -> None:
            found = re.search(pattern, stdout)
            if not found:
                raise Disagreement(f"{question}: no answer in {stdout!r}")
            known = self.answers.setdefault(question, found[0])
            if known != found[0]:
                raise Disagreement(f"{question}: {known} and {found[0]}")

        return check

    def same_in_json(self, question: str, key: str = "digest", needed: bool = False) -> Callable[[str], None]:
        """A check: the last line is JSON whose value of this key is what all other cases with this question have. A line without
        the key passes (the digest may be there in round 0 only) unless it is `needed`."""

        def check(stdout: str) -> None:
            answer = json.loads(stdout.strip().splitlines()[-1])
            if key not in answer:
                if needed:
                    raise Disagreement(f"{question}: no {key} in {stdout!r}")
                return
            known = self.answers.setdefault(question, answer[key])
            if known != answer[key]:
                raise Disagreement(f"{question}: {known} and {answer[key]}")

        return check


def says(words: str) -> Callable[[str], None]:
    """A check: these words are in what it printed."""

    def check(stdout: str) -> None:
        if words not in stdout:
            raise Disagreement(f"expected {words!r}, got {stdout!r}")

    return check
