"""Runs cases round by round, in an order drawn anew each time, and checks every answer after the clock has stopped."""

import json
import os
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cases import OURS, Case, Disagreement, Group, Here, Missing
from install import say
from machine import Others
from pages import evict, warm

SEED = 20251122


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
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    stdout, stderr = Path(out).read_text(errors="replace"), Path(err).read_text(errors="replace")
    ended = os.waitstatus_to_exitcode(status)
    if ended != 0:
        # Ten thousand names would hide what it said.
        command = " ".join(argv[:12]) + (f" and {len(argv) - 12} more" if len(argv) > 12 else "")
        raise Disagreement(f"{command}\nended with {ended}: {stdout[-2000:]}{stderr[-4000:]}")
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


def measure(group: Group, here: Here, others: Others, asked: int | None) -> Measured:
    """Round 0 warms up and is not counted: it says how long the others will take. What cannot run here is skipped, all else must."""
    order = random.Random(f"{SEED} {group.name}")
    cases = list(group.cases)
    begun = time.monotonic()
    for case in list(cases):
        try:
            one(case, here, others, first=True)
        except Missing as why:
            if case.program == OURS:
                raise
            here.skip(case.program, case.label, why)
            cases.remove(case)
    first = time.monotonic() - begun
    result = Measured(group, {case.name: [] for case in cases}, how_many(group, first, asked))
    say(f"{group.name}: a round takes {first:.0f} s, {result.rounds} are counted: about {first * result.rounds:.0f} s")
    for number in range(1, result.rounds + 1):
        order.shuffle(cases)
        for case in cases:
            result.samples[case.name].append(one(case, here, others, first=False))
        say(f"{group.name}: round {number} of {result.rounds}")
    return result


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
