"""The raw results: what the page is made of, and nothing that was not measured."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

FORMAT = 1


def digest(results: dict[str, Any]) -> str:
    """Of everything but itself: a figure that was changed by hand is found."""
    rest = {name: value for name, value in results.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write(path: Path, results: dict[str, Any]) -> None:
    whole = {**results, "format": FORMAT}
    text = json.dumps({**whole, "digest": digest(whole)}, indent=1)
    # The samples of a case on one line.
    text = re.sub(r"\[\s+([-0-9.e,\s]*?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)
    replace(path, text + "\n")


def read(path: Path) -> dict[str, Any]:
    results = json.loads(path.read_text())
    if results.get("format") != FORMAT:
        raise ValueError(f"{path}: format {results.get('format')}, not {FORMAT}")
    if results.get("digest") != digest(results):
        raise ValueError(f"{path}: changed since it was measured; measure again")
    return dict(results)


def replace(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)
