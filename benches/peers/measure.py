"""Runs cases round by round, in an order drawn anew each time, and checks every answer after the clock has stopped."""

import json
import os
import random
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cases import OURS, Case, Disagreement, Failed, Group, Here, Missing
from install import say
from machine import Others
from pages import evict, warm

SEED = 20251122
LIMIT = 240  # seconds that one program may take: one that hangs must not hold up all others
LEAST = 3  # rounds that are counted however short the time is: with fewer there is no spread


@dataclass
class Sample:
    seconds: float  # the time that counts
    cpu: float
    peak: int


@dataclass
class Measured:
    group: Group
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    rounds: int = 0


def too_long(_signal: int, _frame: object) -> None:
    raise TimeoutError


def spawn(argv: list[str], scratch: Path, more: dict[str, str] | None = None) -> tuple[Sample, str]:
    """Runs a program from start to exit: what it took, as the kernel counted it for it and its children, and what it printed."""
    out, err = str(scratch / "stdout"), str(scratch / "stderr")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, flags, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, err, flags, 0o600),
    ]
    environment = {**os.environ, **(more or {})}
    start = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
    try:
        signal.signal(signal.SIGALRM, too_long)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - start
    except BaseException as why:
        # Interrupted, or out of time: nothing that was started here goes on.
        os.kill(pid, signal.SIGKILL)
        os.wait4(pid, 0)
        if isinstance(why, TimeoutError):
            raise Failed(f"{' '.join(argv[:12])}\ndid not end within {LIMIT} s") from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    stdout, stderr = Path(out).read_text(errors="replace"), Path(err).read_text(errors="replace")
    ended = os.waitstatus_to_exitcode(status)
    if ended != 0:
        # Ten thousand names would hide what it said.
        command = " ".join(argv[:12]) + (f" and {len(argv) - 12} more" if len(argv) > 12 else "")
        raise Failed(f"{command}\nended with {ended}: {stdout[-2000:]}{stderr[-4000:]}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024), stdout


def told(case: Case, stdout: str) -> dict[str, Any]:
    """The last line that a case prints, which says its time."""
    try:
        answer: dict[str, Any] = json.loads(stdout.strip().splitlines()[-1])
        float(answer["seconds"])
        return answer
    except (ValueError, KeyError, IndexError, TypeError):
        raise Disagreement(f"{case.name}: the last line has no seconds: {stdout[-500:]!r}") from None


def one(case: Case, here: Here, others: Others, first: bool) -> Sample:
    """One run of a case, checked."""
    if case.output is not None:
        case.output.unlink(missing_ok=True)
    for path in case.reads:
        if case.cold:
            evict(path)
        elif path.is_file() or first:
            # Folders of many small files are read once: nothing here drops them.
            warm(path)
    others.begin()
    sample, stdout = spawn(case.argv + (list(case.first) if first else []), here.work, case.environment)
    inside = told(case, stdout) if case.inside else {}
    others.end(sample.seconds, sample.cpu + float(inside.get("elsewhere", 0)))
    try:
        case.check(stdout)
    except Disagreement as why:
        # Also where the program that was to accept this answer has failed: that is a no.
        raise Disagreement(f"{case.name} ({case.label}): {why}") from None
    if case.inside:
        sample.seconds = float(inside["seconds"])
        sample.cpu = float(inside.get("cpu", sample.cpu))
        sample.peak = int(inside.get("peak", sample.peak))
    if not sample.seconds > 0:
        raise Disagreement(f"{case.name}: took {sample.seconds} s")
    return sample


def how_many(group: Group, first: float, asked: int | None) -> int:
    """Rounds by what round 0 took: as many as fit into the group's time, within its bounds."""
    if asked is not None:
        return asked
    least, most = group.rounds
    return max(least, min(most, int(group.seconds / first)))


def measure(group: Group, here: Here, others: Others, asked: int | None, seconds: float | None = None) -> Measured:
    """Round 0 warms up and is not counted: it says how long the others will take. A peer that cannot run here, or fails in any round,
    is left out with its reason, and none of its times counts; ours must run, and nobody may give another answer. `seconds`: what is
    left for this group, with round 0."""
    order = random.Random(f"{SEED} {group.name}")
    cases = list(group.cases)
    samples: dict[str, list[Sample]] = {case.name: [] for case in cases}

    def run(case: Case, number: int) -> None:
        try:
            sample = one(case, here, others, first=number == 0)
        except (Missing, Failed) as why:
            if case.program == OURS:
                raise
            missing = why if isinstance(why, Missing) else Missing(f"it failed: {str(why)[-500:]}", "run its command by hand")
            say(f"{case.name} is left out: {missing.why}")
            here.skip(case.program, f"{case.label} ({group.name})" if number else case.label, missing)
            cases.remove(case)
            del samples[case.name]
            return
        if number:
            samples[case.name].append(sample)

    begun = time.monotonic()
    for case in list(cases):
        run(case, 0)
    first = time.monotonic() - begun
    rounds = how_many(group, first, asked)
    if seconds is not None:
        rounds = max(min(LEAST, rounds), min(rounds, int((seconds - first) / first)))
    say(f"{group.name}: a round takes {first:.0f} s, {rounds} are counted: about {first * rounds:.0f} s")
    for number in range(1, rounds + 1):
        order.shuffle(cases)
        for case in list(cases):
            run(case, number)
        say(f"{group.name}: round {number} of {rounds}")
    return Measured(group, samples, rounds)


def as_data(measured: Measured, here: Here) -> dict[str, object]:
    """What the page is made of: texts, commands without the folders of this machine, and every sample."""
    cases = []
    for case in measured.group.cases:
        samples = measured.samples.get(case.name)
        if not samples:
            continue
        cases.append({
            "name": case.name,
            "label": case.label,
            "program": case.program,
            "inside": case.inside,
            "cold": case.cold,
            "command": command(case, here),
            "seconds": [round(s.seconds, 6) for s in samples],
            "cpu": [round(s.cpu, 6) for s in samples],
            "peak": [s.peak for s in samples],
        })  # fmt: skip
    group = measured.group
    rows = [asdict(row) for row in group.rows]
    return {"name": group.name, "title": group.title, "about": group.about, "rounds": measured.rounds, "rows": rows, "cases": cases}


def command(case: Case, here: Here) -> str:
    """As it could be typed elsewhere: names of programs, and the data under WORK."""
    words = [str(word).replace(str(here.work), "WORK").replace(here.binary, "tensorseal") for word in case.argv]
    words = [Path(word).name if word.startswith("/") else word for word in words]
    if len(words) > 40:
        words = [*words[:4], f"(and {len(words) - 4} more)"]
    return " ".join(words)
