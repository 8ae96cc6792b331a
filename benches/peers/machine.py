"""The machine, how busy others keep it, and which tree is measured."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

from install import CHECKOUT

TICKS = os.sysconf("SC_CLK_TCK")


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def file_system(path: Path) -> str:
    done = subprocess.run(["stat", "--file-system", "--format=%T", str(path)], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def about(work: Path) -> dict[str, object]:
    text = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"^model name\s*: (.*)", text, re.MULTILINE)
    flags = set((re.search(r"^(?:flags|Features)\s*: (.*)", text, re.MULTILINE) or ["", ""])[1].split())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "extensions": sorted(flags & {"sha_ni", "sha2", "avx2", "avx512f", "avx512vl", "asimd"}),
        "processors": processors(),
        "virtual": "hypervisor" in flags,
        "kernel": f"{platform.system()} {platform.release()}",
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "file_system": file_system(work),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def tree() -> dict[str, object]:
    """The commit, and whether files that git knows differ from it (but for the page itself)."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks.*")
    return {"commit": git("rev-parse", "HEAD") or "unknown", "changed": bool(changed)}


class Others:
    """What share of the processors went to others than the measured programs, while those ran."""

    def __init__(self) -> None:
        self.capacity = self.taken = self.stolen = 0.0

    @staticmethod
    def _read() -> tuple[float, float]:
        """Seconds since the start of the machine that all its processors were busy, and that its host withheld."""
        user, nice, system, _, _, irq, softirq, steal = (int(n) for n in Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + irq + softirq) / TICKS, steal / TICKS

    def begin(self) -> None:
        self._busy, self._steal = self._read()

    def end(self, wall: float, cpu: float) -> None:
        busy, steal = self._read()
        self.capacity += wall * (os.cpu_count() or 1)
        # Ticks are coarse: single programs may come out below zero, their sum does not by much.
        self.taken += busy - self._busy - cpu
        self.stolen += steal - self._steal

    def share(self) -> float:
        return max(0.0, self.taken + self.stolen) / self.capacity if self.capacity else 0.0
