"""The page: what it says of results whose answer is known, and that nothing from outside is markup."""

import re
from pathlib import Path
from typing import Any

import page
import pytest
import results
import why

FLOOR = 20 << 20


def case(name: str, seconds: list[float], program: str = "b3sum", label: str = "", peak: int = 30 << 20) -> dict[str, Any]:
    return {
        "name": name, "label": label or name, "program": program, "inside": False, "cold": False, "command": f"run {name}",
        "seconds": seconds, "cpu": [0.5] * len(seconds), "peak": [peak] * len(seconds),
    }  # fmt: skip


def row(**more: Any) -> dict[str, Any]:
    return {
        "name": "row", "what": "A digest", "ours": "ours", "beside": ["other"], "also": [], "unlike": [], "amount": 0,
        "promised": None, "within": None, "memory": None, **more,
    }  # fmt: skip


def measured(cases: list[dict[str, Any]], *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    group = {"name": "g", "title": "A group", "about": "About it.", "rounds": len(cases[0]["seconds"]), "rows": list(rows), "cases": cases}
    return {
        "made": {
            "begun": "2026-11-22T23:00:00+00:00", "ended": "2026-11-22T23:15:00+00:00", "command": "benches/peers/run.py",
            "quick": False, "commit": "c0ffee", "changed": False,
        },
        "machine": {
            "cpu": "A processor", "extensions": ["avx2"], "processors": 2, "virtual": True, "kernel": "Linux 6", "memory": 24 << 30,
            "file_system": "ext4", "load_at_start": 0.1, "others": 0.01,
        },
        "versions": {"b3sum": "b3sum 1.8.7"}, "skipped": [], "peak_floor": FLOOR, "groups": [group], **more,
    }  # fmt: skip


def ours(*seconds: float, **more: Any) -> dict[str, Any]:
    return case("ours", list(seconds), "tensorseal", **more)


def summary_of(text: str) -> list[str]:
    """The cells of the only line of the summary."""
    lines = text.split("## Summary")[1].split("## ")[0].strip().splitlines()
    assert len(lines) == 3
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", lines[2])[1:-1]]


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [
        ([2.0, 2.1, 2.2, 2.0, 2.1], "**first**"),
        ([0.5, 0.6, 0.5, 0.6, 0.5], "behind"),
        # Now one and now the other: nobody can say.
        ([0.8, 1.2, 0.9, 1.3, 1.1], "level"),
        ([1.3, 0.8, 0.9, 1.2, 0.7], "level"),
    ],
)
def test_who_is_first(theirs: list[float], verdict: str) -> None:
    text = page.render(measured([ours(1.0, 1.0, 1.0, 1.0, 1.0), case("other", theirs)], row()))
    assert summary_of(text)[-1] == verdict


def test_a_row_where_another_is_faster_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured([ours(1.0, 1.0, 1.0), case("other", [0.5, 0.5, 0.5]), case("slow", [2.0, 2.0, 2.0])], row(beside=["other", "slow"]))
    monkeypatch.setattr(why, "WHY", {})
    monkeypatch.setattr(page, "WHY", {"row": {"other": "It reads half of it.", "slow": "It is never shown."}})
    text = page.render(found)
    assert "It reads half of it." in text.split("## Where we are not first")[1].split("## ")[0]
    assert "It is never shown." not in text
    monkeypatch.setattr(page, "WHY", {})
    assert page.NOBODY_KNOWS in page.render(found)


def test_a_row_where_we_are_first_asks_for_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "WHY", {"row": {"other": "It is never shown."}})
    text = page.render(measured([ours(1.0, 1.0), case("other", [2.0, 2.0])], row()))
    assert "never shown" not in text
    assert "In no row was another faster." in text


def test_the_best_of_the_others_is_the_fastest_that_does_the_same() -> None:
    cases = [ours(1.0, 1.0), case("slow", [3.0, 3.0]), case("fast", [2.0, 2.0]), case("unlike", [0.1, 0.1])]
    text = page.render(measured(cases, row(beside=["slow", "fast"], unlike=["unlike"])))
    cells = summary_of(text)
    assert cells[2] == "2.000 s, `fast`"
    assert cells[3] == "2.00 [2.00, 2.00]"
    assert cells[4] == "**first**"
    (line,) = [line for line in text.splitlines() if line.startswith("| `unlike`")]
    assert line.endswith("| does not do the same |")
    assert "0.10 [0.10, 0.10]" in line


def test_figures_of_a_section() -> None:
    # 1 GB in a median of half a second; from 0.4 to 0.6 s.
    cases = [ours(0.4, 0.5, 0.6, peak=40 << 20), case("other", [1.0, 1.0, 1.0], peak=10 << 20)]
    text = page.render(measured(cases, row(amount=10**9)))
    assert "| **`tensorseal ours`** | 0.500 s (0.400 s .. 0.600 s) | 40% | 1 | 2.00 | 0.500 s | 40 MiB |  |" in text
    assert "| `other` | 1.000 s (1.000 s .. 1.000 s) | 0% | 2.00 [1.67, 2.50] | 1.00 | 0.500 s | at most 10 MiB |  |" in text


def test_a_peak_that_may_be_the_parents_keeps_no_promise_and_breaks_none() -> None:
    for peak, verdict in ((20 << 20, "met"), (25 << 20, "**missed**"), (15 << 20, "met")):
        text = page.render(measured([ours(1.0, peak=peak), case("other", [2.0])], row(memory=20 << 20)))
        assert f"| {verdict} |" in text
    # The floor of `measured` is 20 MiB.
    text = page.render(measured([ours(1.0, peak=18 << 20), case("other", [2.0])], row(memory=16 << 20)))
    assert "| at most 18 MiB | cannot be told |" in text


@pytest.mark.parametrize(
    ("promise", "met"),
    [
        ({"promised": ["other", 0.95]}, True),
        ({"promised": ["other", 1.05]}, False),
        ({"within": 1.0}, True),
        ({"within": 0.9}, False),
        ({"memory": 30 << 20}, True),
        ({"memory": 29 << 20}, False),
    ],
)
def test_promises_met_and_missed(promise: dict[str, Any], met: bool) -> None:
    text = page.render(measured([ours(1.0, 1.0), case("other", [1.0, 1.0])], row(**promise)))
    promises = text.split("## What was promised")[1].split("\n## ")[0]
    assert promises.strip().splitlines()[-1].endswith("| met |" if met else "| **missed** |")


def test_what_was_not_measured_is_said() -> None:
    found = measured([case("other", [1.0])], row(), skipped=[{"program": "hf_xet", "what": "a digest", "why": "no wheel", "remedy": "wait"}])
    text = page.render(found)
    assert summary_of(text)[1] == "not measured"
    assert summary_of(text)[-1] == "not measured"
    assert "- `hf_xet`, a digest: no wheel. To have it: wait." in text


@pytest.mark.parametrize(
    ("where", "name", "value", "words"),
    [
        ("made", "quick", True, "None of its figures means anything"),
        ("made", "changed", True, "The tree differed from its commit"),
        ("machine", "others", 0.2, "The machine was busy: others took 20%"),
        ("machine", "load_at_start", 1.5, "The load was 1.5 at the start"),
    ],
)
def test_what_speaks_against_the_figures_stands_above_them(where: str, name: str, value: Any, words: str) -> None:
    found = measured([ours(1.0), case("other", [1.0])], row())
    assert "[!WARNING]" not in page.render(found)
    found[where][name] = value
    above = page.render(found).split("## Summary")[0]
    assert "[!WARNING]" in above
    assert words in above


def test_text_from_outside_is_no_markup() -> None:
    nasty = "a|b`c<script>alert(1)</script>[x](http://e)\n# head"
    found = measured([ours(1.0), case("other", [2.0], label=nasty)], row(), versions={nasty: nasty})
    found["machine"]["cpu"] = found["machine"]["kernel"] = found["made"]["commit"] = found["made"]["command"] = nasty
    found["skipped"] = [{"program": nasty, "what": nasty, "why": nasty, "remedy": nasty}]
    text = page.render(found)
    outside_code = re.sub(r"`[^`\n]*`", "", re.sub(r"\\.", "", re.sub(r"```.*?```", "", text, flags=re.S)))
    assert "<script" not in outside_code
    assert "](http://e" not in outside_code
    assert "\n# head" not in text
    plain = re.sub(r"\\\|", "", text).splitlines()
    for at, line in enumerate(plain):
        if line.startswith("| ---") or line.startswith("|") and at + 1 < len(plain) and plain[at + 1].startswith("| ---"):
            columns = line.count("|")
        elif line.startswith("|"):
            assert line.count("|") == columns, f"a cell was ended: {line}"


def test_the_same_results_are_the_same_page(tmp_path: Path) -> None:
    found = measured([ours(1.0, 1.2, 0.9), case("other", [1.1, 1.0, 1.3])], row(amount=4096))
    results.write(tmp_path / "r.json", found)
    assert page.render(results.read(tmp_path / "r.json")) == page.render(found)


def test_results_that_were_changed_by_hand_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    results.write(path, measured([ours(1.25, 1.5), case("other", [1.0, 1.0])], row()))
    text = path.read_text()
    assert "[1.25, 1.5]" in text, "the samples of a case are on one line"
    path.write_text(text.replace("[1.25, 1.5]", "[0.25, 0.5]"))
    with pytest.raises(ValueError, match="changed since it was measured"):
        results.read(path)
    path.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="format 2"):
        results.read(path)
