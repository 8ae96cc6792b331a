#!/usr/bin/env python3
"""Times tensorseal beside the programs that people use today, on the same files, in the same minutes, and writes docs/benchmarks.md.

README.md beside this file says what is measured and how. Needs nothing but Python 3.10; installs the peers it lacks.
"""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import files
import install
import loads
import machine
import page
import results
import signing
from cases import Disagreement, Failed, Group, Here, Missing
from install import CHECKOUT, say
from measure import as_data, measure

RAW, PAGE = CHECKOUT / "docs/benchmarks.json", CHECKOUT / "docs/benchmarks.md"
MAKERS = {**files.MAKERS, **signing.MAKERS, "loads": loads.groups}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=MAKERS, metavar="GROUP",
                        help=f"of {', '.join(MAKERS)}; repeat. The page is printed, not written")  # fmt: skip
    parser.add_argument("--rounds", type=int, help="counted rounds (default: by what a round takes)")
    parser.add_argument("--minutes", type=float, help="what all may take: fewer rounds, but at least 3 (default: no limit)")
    parser.add_argument("--quick", action="store_true", help="one round of tiny data, to see that all works; the page is not written")
    parser.add_argument("--render", action="store_true", help="write the page again from docs/benchmarks.json; measures nothing")
    parser.add_argument("--threads", type=int, help="of ours and of the peers that can be told (default: all processors)")
    parser.add_argument("--work", type=Path, help="folder for the data, 12 GiB (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="leave the data there for a later --work")
    parser.add_argument("--out", type=Path, help="write raw results and page to OUT.json and OUT.md, not to docs/benchmarks")
    parser.add_argument("--bin", help="the program tensorseal, built for release (default: builds it)")
    parser.add_argument("--package", type=Path, help="a folder with the Python package, built for release (default: builds it)")
    parser.add_argument("--load-bench", help="the program of benches/load.rs, built for release (default: builds it, before anything is timed)")
    parser.add_argument("--python", help="a Python that has the loaders (default: makes an environment)")
    options = parser.parse_args()
    for name in ("rounds", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name}: at least 1")
    return options


# Roughly what each group takes with the making of its data: how --minutes is shared out.
SECONDS = {"digest-4g": 75, "digest-2g": 110, "digest-10k": 80, "mixed-50k": 200, "ten": 40, "model-1g5": 110, "loads": 285}


def progress(options: argparse.Namespace) -> Path | None:
    """Where what is measured so far is kept after each group, in case that the run ends early: outside of the checkout."""
    if options.quick:
        return None
    return options.out.with_suffix(".part.json") if options.out else install.CACHE / "peers.part.json"


def whole(program: str) -> str:
    path = os.path.abspath(program)
    if not os.access(path, os.X_OK):
        sys.exit(f"{path}: not a program")
    return path


def prepared(options: argparse.Namespace, work: Path) -> Here:
    """A key that neither side made, and what all groups share."""
    private, public = work / "key.pem", work / "key.pub"
    if not public.exists():
        curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(private)]
        subprocess.run([install.openssl(), "genpkey", *curve], check=True, stderr=subprocess.DEVNULL)
        subprocess.run([install.openssl(), "pkey", "-in", private, "-pubout", "-out", public], check=True)
    if options.package and not (options.package / "tensorseal" / "__init__.py").exists():
        sys.exit(f"{options.package}: not a folder with the package tensorseal")
    binary = whole(options.bin) if options.bin else install.tensorseal()
    here = Here(work, binary, private, public, options.quick, options.threads or machine.processors())
    here.package, here.python = options.package and options.package.resolve(), options.python
    if not options.quick and "loads" in (options.only or MAKERS):
        # Before the clocks start: a build takes minutes, and what does not build is told now.
        here.load_bench = whole(options.load_bench) if options.load_bench else install.cargo_bench("load")
    here.versions["tensorseal"] = install.one_line([binary, "--version"])
    here.versions["Python, of this program"] = sys.version.split()[0]
    # Asked for in November 2026: the proxy has none of its known paths.
    go = Missing("the port to Go is no module that the Go proxy serves", "build github.com/sampras343/model-transparency-go from source")
    here.skip("model-transparency-go", "signing and verifying", go)
    return here


def clear(work: Path, before: set[Path]) -> None:
    """What this program put there goes; the folder itself may be the caller's."""
    for path in set(work.iterdir()) - before:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def run(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    begun, start = machine.now(), time.monotonic()
    about, tree = machine.about(work), machine.tree()
    before = set(work.iterdir())
    here, others, groups = prepared(options, work), machine.Others(), []
    kept = set(work.iterdir())
    names, lost = [name for name in MAKERS if not options.only or name in options.only], []

    def found() -> dict[str, Any]:
        made = {"begun": begun, "ended": machine.now(), "command": " ".join(typed), "quick": options.quick, **tree}
        return {
            "made": made,
            "machine": {**about, "others": round(others.share(), 4)},
            "versions": here.versions,
            "skipped": here.skipped,
            "peak_floor": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "groups": groups,
        }

    typed = ["benches/peers/run.py", *(f"--{word}" for word in ("quick",) if getattr(options, word))]
    typed += [f"--only {name}" for name in options.only or []]
    typed += [f"--{word} {getattr(options, word):g}" for word in ("rounds", "threads", "minutes") if getattr(options, word)]
    try:
        for number, name in enumerate(names, 1):
            say(f"{name} ({number} of {len(names)}), {(time.monotonic() - start) / 60:.1f} minutes after the start")
            try:
                for group in MAKERS[name](here):
                    left = None
                    if options.minutes:
                        # Of the time that is left, as much as this group's share of what the groups after it take, too.
                        after = sum(SECONDS[later] for later in names[number:]) + (SECONDS[name] / 2 if group.name == "load-warm" else 0)
                        mine = SECONDS[name] / (2 if name == "loads" else 1)
                        left = (start + 60 * options.minutes - time.monotonic()) * mine / (mine + after)
                    groups.append(as_data(measure(group, here, others, 1 if options.quick else options.rounds, left), here))
                    if saved := progress(options):
                        results.write(saved, found())
            except (Missing, Failed, subprocess.CalledProcessError, OSError) as why:
                # No answer, which is no wrong one: the other groups are measured, and the page and the exit status say that this is not.
                say(f"{name} is not measured: {why}")
                failed = why if isinstance(why, Missing) else Missing(str(why)[-500:], f"benches/peers/run.py --only {name}")
                here.skip("tensorseal", f"the group {name}", failed)
                lost.append(name)
            if not options.keep:
                clear(work, kept)
    finally:
        if options.keep:
            say(f"the data stays in {work}")
        else:
            clear(work, before)
    if not groups:
        raise Missing("no group could be measured", "see above")
    return {**found(), "lost": lost}


def main() -> None:
    options = arguments()
    if options.render:
        results.replace(PAGE, page.render(results.read(RAW)))
        return
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    work = (options.work or Path(tempfile.mkdtemp(prefix="tensorseal-peers-"))).resolve()
    if work.is_relative_to(CHECKOUT):
        sys.exit(f"{work} is inside the checkout: name another folder")
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        found = run(options, work)
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing is written")
    except subprocess.CalledProcessError as why:
        sys.exit(f"{' '.join(map(str, why.cmd))}\nended with {why.returncode}: {why.stderr or ''}")
    except Missing as why:
        sys.exit(f"{why.why}\n   to do: {why.remedy}")
    except Disagreement as why:
        sys.exit(f"a program failed or the programs disagree, so there is nothing to compare:\n{why}")
    finally:
        if not options.work and not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    if options.out or not (options.quick or options.only):
        raw, written = (options.out.with_suffix(".json"), options.out.with_suffix(".md")) if options.out else (RAW, PAGE)
        results.write(raw, found)
        results.replace(written, page.render(results.read(raw)))
        say(f"written: {raw} and {written}")
    else:
        print(page.render(found), end="")
    if saved := progress(options):
        saved.unlink(missing_ok=True)
    if found.get("lost"):
        sys.exit(f"not measured: {', '.join(found['lost'])}; the page says why")


if __name__ == "__main__":
    main()
