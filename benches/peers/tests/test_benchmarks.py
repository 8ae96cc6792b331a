"""docs/benchmarks.md: what the committed results render to, with every row and every program that it is to have."""

import re
import sys

import page
import pytest
import results
import run

ROWS = {
    "digest-4g-blake3-all", "digest-4g-blake3-1",
    "digest-2g-sha256", "digest-2g-blake3",
    "digest-10k-sha256", "digest-10k-blake3",
    "mixed-50k-digest-blake3", "mixed-50k-sign-sha256", "mixed-50k-verify-sha256",
    "ten-sign-sha256", "ten-verify-sha256", "ten-sign-blake3", "ten-verify-blake3", "ten-digest-blake3",
    "model-1g5-sign-sha256", "model-1g5-verify-sha256", "model-1g5-sign-blake3", "model-1g5-verify-blake3",
    "load-warm", "load-cold", "load-warm-rust", "load-cold-rust",
}  # fmt: skip
LOADERS = {"safetensors", "fastsafetensors", "runai-model-streamer", "tensorizer", "torch", "hf_xet", "model_signing"}
# Rows, and programs that each of them has: as they are named in its cases.
PROGRAMS = {
    "digest-4g-blake3-all": {"b3sum"},
    "digest-2g-sha256": {"openssl", "sha256sum", "model_signing"},
    "digest-2g-blake3": {"b3sum", "model_signing", "hf_xet"},
    "digest-10k-blake3": {"b3sum", "model_signing"},
    "digest-10k-sha256": {"openssl", "sha256sum", "model_signing"},
    "mixed-50k-sign-sha256": {"model_signing"},
    "mixed-50k-verify-sha256": {"model_signing"},
    "ten-sign-sha256": {"model_signing"},
    "ten-verify-sha256": {"model_signing"},
    "model-1g5-sign-sha256": {"model_signing", "openssl"},
    "model-1g5-verify-sha256": {"model_signing", "openssl"},
    "model-1g5-sign-blake3": {"model_signing"},
    "model-1g5-verify-blake3": {"model_signing"},
    "load-warm": LOADERS,
    "load-cold": LOADERS,
}
AGAIN = "run benches/peers/run.py --render (or without it, to measure again), and commit both files"


@pytest.fixture(scope="module")
def committed() -> dict:
    return results.read(run.RAW)


@pytest.fixture(scope="module")
def rows(committed: dict) -> dict:
    return {row["name"]: page.Of(group, row, committed["peak_floor"]) for group in committed["groups"] for row in group["rows"]}


def test_the_page_is_what_the_results_render_to(committed: dict) -> None:
    assert run.PAGE.read_text() == page.render(committed), f"docs/benchmarks.md was not written by this program: {AGAIN}"


def test_every_row_is_measured(rows: dict) -> None:
    assert ROWS <= rows.keys()
    assert [name for name, row in rows.items() if row.ours is None] == []


def test_every_program_is_beside(rows: dict) -> None:
    for name, programs in PROGRAMS.items():
        row = rows[name].row
        beside = {rows[name].cases[case]["program"] for case in (*row["beside"], *row["unlike"]) if case in rows[name].cases}
        assert programs <= beside, name


def test_the_data_were_as_large_as_the_page_says(committed: dict, rows: dict) -> None:
    assert not committed["made"]["quick"]
    sizes = {"digest-4g-blake3-all": 4 << 30, "digest-2g-sha256": 2 << 30, "digest-10k-blake3": 10_000 * 4096}
    for name, size in sizes.items():
        assert rows[name].row["amount"] == size
    assert abs(rows["model-1g5-sign-sha256"].row["amount"] - (1536 << 20)) < 32 << 20
    for group in committed["groups"]:
        assert group["rounds"] >= 3, f"{group['name']}: {group['rounds']} rounds have no spread"
        for case in group["cases"]:
            assert len(case["seconds"]) == len(case["cpu"]) == len(case["peak"]) == group["rounds"], case["name"]


def test_every_program_has_a_version(committed: dict) -> None:
    programs = {case["program"] for group in committed["groups"] for case in group["cases"]}
    assert programs <= committed["versions"].keys()
    for program in programs:
        assert re.search(r"\d", committed["versions"][program]), program


def test_rows_where_we_are_not_first_say_why(committed: dict) -> None:
    # Whoever measures a row anew in which another is faster writes down why, in benches/peers/why.py.
    assert page.NOBODY_KNOWS not in page.render(committed)


def test_the_manual_has_every_group() -> None:
    manual = (run.install.HERE / "README.md").read_text()
    assert [name for name in run.MAKERS if f"| `{name}` |" not in manual] == []


def test_quick_runs_and_parts_are_not_written_over_the_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    before = run.RAW.read_bytes(), run.PAGE.read_bytes()
    part = results.read(run.RAW)
    monkeypatch.setattr(run, "run", lambda options, work: part)
    for more in (["--quick"], ["--only", "ten"]):
        monkeypatch.setattr(sys, "argv", ["run.py", *more])
        run.main()
        assert capsys.readouterr().out == page.render(part)
    assert before == (run.RAW.read_bytes(), run.PAGE.read_bytes())


def test_a_package_is_pinned_once_or_equally() -> None:
    pins: dict[str, str] = {}
    lists = [*run.install.HERE.glob("*requirements.txt"), run.CHECKOUT / "tests/python/requirements.txt"]
    for line in "\n".join(path.read_text() for path in lists).splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert pins.setdefault(name.lower().replace("_", "-"), version) == version, name
    assert "hf-xet" in pins
