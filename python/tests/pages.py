"""Pages of the documentation, whose code runs: blocks marked `python`, in order and in one namespace, in an empty folder.

`python notest` marks what cannot run here. Blocks marked `sh run` are run by bash at their place: what a shell does better.
Other blocks are to be read. A page that needs more than numpy imports it, and is a heavy one.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# What ./test has. Modules of ours that want more are named.
_LIGHT = {"blake3", "model_signing", "numpy", "safetensors", "tensorseal"}
_HEAVY = {"safetensors.torch", *(f"tensorseal.{name}" for name in ("dcp", "distributed", "hf", "sglang", "tensorrt_llm", "vllm"))}


@dataclass(frozen=True)
class Block:
    """Code, and the line of the page on which it begins."""

    language: str
    line: int
    code: str


def pages() -> list[Path]:
    """All pages about Python."""
    return [ROOT / "README.md", ROOT / "python" / "README.md", *sorted((ROOT / "docs").glob("python*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """What of a page runs: `python`, and `sh` where it is marked `run`."""
    opened: tuple[str, int] | None = None
    code: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if opened is None:
            if line.startswith("```"):
                opened, code = (line[3:].strip(), number + 1), []
        elif line.startswith("```"):
            if opened[0] in ("python", "sh run"):
                yield Block(opened[0].split()[0], opened[1], "\n".join(code) + "\n")
            opened = None
        else:
            code.append(line)
    assert opened is None, f"{page}: a block is not closed"


def imports(page: Path) -> set[str]:
    """Modules that the code of a page imports."""
    found: set[str] = set()
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def heavy(page: Path) -> bool:
    """Whether a page needs more than numpy."""
    for module in imports(page):
        root = module.split(".")[0]
        if root not in _LIGHT and root not in sys.stdlib_module_names:
            return True
        if any(module == name or module.startswith(f"{name}.") for name in _HEAVY):
            return True
    return False


def run(page: Path, folder: Path) -> None:
    """Runs a page in a process of its own. Lines in tracebacks are those of the page."""
    found = list(blocks(page))
    assert any(block.language == "python" for block in found), f"{page.name} has no code that runs"
    program = ["import subprocess", "space = {'__name__': '__main__'}"]
    for block in found:
        if block.language == "sh":
            program.append(f"subprocess.run(['bash', '-euo', 'pipefail', '-c', {block.code!r}], check=True)")
        else:
            code = "\n" * (block.line - 1) + block.code
            program.append(f"exec(compile({code!r}, {page.name!r}, 'exec'), space)")
    # The command line program is there for pages that make keys with it.
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program_of = Path(os.environ.get("TENSORSEAL_BIN", target / "debug" / "tensorseal")).resolve()
    search = os.pathsep.join([str(program_of.parent), os.environ.get("PATH", "")])
    environment = os.environ | {"HOME": str(folder), "PATH": search}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{page.name} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def names(wanted: bool) -> list[str]:
    """Pages that are heavy, or those that are not, by their paths from the root."""
    chosen = [page for page in pages() if any(block.language == "python" for block in blocks(page)) and heavy(page) == wanted]
    return [str(page.relative_to(ROOT)) for page in chosen]


def marked(line: str) -> bool:
    """Whether a line opens a block with a mark that nobody knows: a misspelt one would not run."""
    match = re.fullmatch(r"```(python|sh)[ \t]+(.*)", line.rstrip())
    return match is not None and f"{match[1]} {match[2]}" not in ("python notest", "sh run")
