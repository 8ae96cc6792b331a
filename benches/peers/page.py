"""The page, from what was measured and nothing else: the same results are always the same page."""

import re
import statistics
from collections.abc import Iterator
from typing import Any

from cases import MIB, OURS
from stats import ratio, spread
from why import WHY

NOBODY_KNOWS = "Nobody has written down why yet (`benches/peers/why.py`)."
BUSY = 0.05  # of the processors, for others than what is measured

Data = dict[str, Any]


def cell(text: object) -> str:
    """Text from outside in a table of Markdown: it ends no cell, and is no markup."""
    words = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|~#&])", r"\\\1", words)


def code(text: object) -> str:
    """Text from outside as code: nothing in it ends the code or the cell."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def seconds(value: float) -> str:
    if value < 0.1:
        return f"{value * 1000:.2f} ms"
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


def median(times: list[float]) -> str:
    return f"{seconds(statistics.median(times))} ({seconds(min(times))} .. {seconds(max(times))})"


def times_as_long(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]"


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])

MET = {True: "met", None: "cannot be told", False: "**missed**"}


class Of:
    """One row of one group, with the samples of its cases."""

    def __init__(self, group: Data, row: Data, floor: int) -> None:
        self.group, self.row, self.floor = group, row, floor
        self.cases: dict[str, Data] = {case["name"]: case for case in group["cases"]}
        self.ours: Data | None = self.cases.get(row["ours"])
        self.beside = [self.cases[name] for name in row["beside"] if name in self.cases]
        self.beside.sort(key=lambda case: statistics.median(case["seconds"]))

    def ratio(self, case: Data) -> tuple[float, float, float]:
        assert self.ours is not None
        return ratio(case["seconds"], self.ours["seconds"])

    def faster(self) -> list[Data]:
        """Those that do the same and have a lesser median."""
        return [case for case in self.beside if self.ratio(case)[0] < 1] if self.ours else []

    def verdict(self) -> str:
        if self.ours is None:
            return "not measured"
        if not self.beside:
            return "alone"
        least, low, high = self.ratio(self.beside[0])
        if low <= 1 <= high:
            return "level"
        return "**first**" if least > 1 else "behind"

    def why(self, case: Data) -> str:
        return WHY.get(self.row["name"], {}).get(case["name"], NOBODY_KNOWS)

    def rate(self, case: Data) -> str:
        return f"{self.row['amount'] / statistics.median(case['seconds']) / 1e9:.2f}" if self.row["amount"] else ""

    def peak(self, case: Data) -> str:
        peak = max(case["peak"])
        # A process starts with the peak of the one that started it.
        return f"{'at most ' if peak <= self.floor else ''}{peak / MIB:,.0f} MiB"

    def promises(self) -> Iterator[tuple[str, str, bool | None]]:
        """What was promised, what was measured, and whether that is enough."""
        if self.ours is None:
            return
        if self.row["promised"] and self.row["promised"][0] in self.cases:
            other, least = self.cases[self.row["promised"][0]], self.row["promised"][1]
            found = self.ratio(other)
            yield f"at least {least:.2f} times the rate of {code(other['label'])}", times_as_long(found), found[0] >= least
        if self.row["within"] is not None:
            took = statistics.median(self.ours["seconds"])
            yield f"the process within {seconds(self.row['within'])}", seconds(took), took <= self.row["within"]
        if self.row["memory"] is not None:
            peak = max(self.ours["peak"])
            yield f"peak memory at most {self.row['memory'] / MIB:.0f} MiB", self.peak(self.ours), self.within(peak, self.row["memory"])

    def within(self, peak: int, most: int) -> bool | None:
        """None where the peak may be that of the process that started it: then nobody can tell."""
        return True if peak <= most else None if peak <= self.floor else False

    def line(self, case: Data, note: str) -> list[str]:
        ours = case is self.ours
        name = code(f"{'tensorseal ' * (case['program'] == OURS and not case['inside'])}{case['label']}")
        times = case["seconds"]
        against = "1" if ours or self.ours is None else times_as_long(self.ratio(case))
        cells = [f"**{name}**" if ours else name, median(times), f"{spread(times):.0%}", against]
        if self.row["amount"]:
            cells.append(self.rate(case))
        return [*cells, seconds(statistics.median(case["cpu"])), self.peak(case), note]

    def section(self) -> str:
        if self.ours is None:
            return f"### {cell(self.row['what'])}\n\nNot measured."
        columns = ["Program", "Median (min .. max)", "Spread", "Times as long as ours [95%]"]
        columns += (["GB/s"] if self.row["amount"] else []) + ["CPU", "Peak memory", ""]
        lines = [self.line(self.ours, "")]
        lines += [self.line(self.cases[name], "ours, otherwise") for name in self.row["also"] if name in self.cases]
        lines += [self.line(case, "") for case in self.beside]
        lines += [self.line(self.cases[name], "does not do the same") for name in self.row["unlike"] if name in self.cases]
        return f"### {cell(self.row['what'])}\n\n{table(columns, lines)}"


def summary(rows: list[Of]) -> str:
    lines = []
    for row in rows:
        ours = seconds(statistics.median(row.ours["seconds"])) if row.ours else "not measured"
        best = row.beside[0] if row.beside and row.ours else None
        other = f"{seconds(statistics.median(best['seconds']))}, {code(best['label'])}" if best else "none"
        lines.append([cell(row.row["what"]), ours, other, times_as_long(row.ratio(best)) if best else "", row.verdict()])
    return table(["What", "tensorseal", "Best of the others", "Times as long as ours [95%]", "tensorseal is"], lines)


def not_first(rows: list[Of]) -> str:
    lines = []
    for row in rows:
        for case in row.faster():
            lines.append(f"- {cell(row.row['what'])}: {code(case['label'])} takes {times_as_long(row.ratio(case))} times as long. {row.why(case)}")
    if not lines:
        return "In no row was another faster."
    how = "The reasons are read off what the programs do, in their source and manuals: what each costs is not measured here."
    return "\n".join([how, "", *lines])


def promised(rows: list[Of]) -> str:
    lines = [
        [cell(row.row["what"]), what, found, MET[met]] for row in rows for what, found, met in row.promises()
    ]
    return table(["What", "Promised", "Measured", ""], lines) if lines else "Nothing was promised of these rows."


def warnings(results: Data) -> list[str]:
    made, machine, found = results["made"], results["machine"], []
    if made["quick"]:
        found.append("This was a quick run over tiny data, to see that everything works. None of its figures means anything.")
    if machine["others"] > BUSY:
        found.append(f"The machine was busy: others took {machine['others']:.0%} of its processors while the programs ran. "
                     "Ratios and CPU times are steadier than times.")  # fmt: skip
    if machine["load_at_start"] > machine["processors"] / 2:
        found.append(f"The load was {machine['load_at_start']} at the start, on {machine['processors']} processors.")
    if made["changed"]:
        found.append("The tree differed from its commit.")
    return ["> [!WARNING]\n" + "\n".join(f"> - {text}" for text in found)] if found else []


def about_machine(results: Data) -> str:
    machine, made = results["machine"], results["made"]
    kind = ", virtual" if machine["virtual"] else ""
    lines = [
        ["Date", f"{made['begun']} to {made['ended']}"],
        ["Commit", f"{code(made['commit'])}{' and changes' if made['changed'] else ''}"],
        ["Command", code(made["command"])],
        ["Processor", f"{cell(machine['cpu'])}, {machine['processors']} logical{kind}; {cell(', '.join(machine['extensions']))}"],
        ["Memory", f"{machine['memory'] / (1 << 30):.1f} GiB"],
        ["System", f"{cell(machine['kernel'])}, data on {cell(machine['file_system'])}"],
        ["Load at the start", str(machine["load_at_start"])],
        ["Processor time that others took meanwhile", f"{machine['others']:.1%}"],
    ]
    lines += [[cell(name), cell(version)] for name, version in sorted(results["versions"].items())]
    return table(["", ""], lines)


METHOD = """\
- In each group all programs have the same files. They run one at a time, each as a process of its own, in an order that is drawn anew each
  round, so that a slow minute hits all alike. Round 0 is not counted. How many rounds are counted depends on what they take, and is said
  below each heading.
- The time is that of the whole process, from its start to its end, where a section does not say that only a call inside it is timed. CPU time
  and the peak of resident memory are the kernel's figures for the process and its children.
- Every answer is checked in every round, after the clock has stopped: digests equal those of the other programs, signatures are accepted by
  the other side, loaded tensors have the bytes of the file. One that differs ends the run, and there is no page.
- *Times as long as ours* is the quotient of the medians of the same rounds: above 1, ours is faster. In brackets, where 95% of 2,000
  resamplings of whole rounds have it (paired bootstrap). Where that includes 1, the row says *level*. *Spread* is max minus min, over the
  median.
- *Does not do the same*: the program checks less, or gives another answer. It is shown for comparison, and does not count for who is first.
- GB is 10^9 bytes, MiB and GiB are powers of two. *At most* before a peak: the kernel cannot tell one below that of the program that started it."""


def skipped(results: Data) -> str:
    lines = [f"- {code(s['program'])}, {cell(s['what'])}: {cell(s['why'])}. To have it: {cell(s['remedy'])}." for s in results["skipped"]]
    return "\n".join(lines) or "Nothing."


def commands(group: Data) -> str:
    lines = "\n".join(f"{case['name']}: {' '.join(case['command'].split())}".replace("```", "'''") for case in group["cases"])
    return f"<details><summary>Commands</summary>\n\n```text\n{lines}\n```\n\n</details>"


def render(results: Data) -> str:
    rows = [Of(group, row, results["peak_floor"]) for group in results["groups"] for row in group["rows"]]
    parts = [
        "<!-- Written by benches/peers/run.py from benchmarks.json: change nothing here by hand, a test compares. -->",
        "# Beside other programs",
        f"Measured on {results['made']['begun'][:10]} on {cell(results['machine']['cpu'])}, {results['machine']['processors']} logical "
        "processors; nothing here uses a GPU. For your own machine: `tensorseal bench` ([bench.md](bench.md)), or the command at the end.",
        *warnings(results),
        "## Summary",
        summary(rows),
        "## Where we are not first",
        not_first(rows),
        "## What was promised",
        promised(rows),
    ]
    for group in results["groups"]:
        parts += [f"## {cell(group['title'])}", f"{group['about']} Counted rounds: {group['rounds']}."]
        parts += [row.section() for row in rows if row.group is group]
        parts.append(commands(group))
    parts += [
        "## How it is measured", METHOD,
        "## The machine and the programs", about_machine(results),
        "## What could not be measured", skipped(results),
        "## Doing it again",
        "```text\nbenches/peers/run.py            # measures everything and writes this page: about 15 minutes, 12 GiB of disk\n"
        "benches/peers/run.py --render   # the page again, from the raw results in docs/benchmarks.json\n```",
        "[benches/peers](../benches/peers/README.md) says what is run and how to add a program.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"
