"""Running and checking: with small shell scripts in place of programs, some of which lie."""

import json
import os
import sys
from pathlib import Path

import measure
import pages
import pytest
from cases import OURS, Case, Disagreement, Group, Here, Missing, Row, says
from machine import Others, file_system


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path, "/opt/bin/tensorseal", tmp_path / "key.pem", tmp_path / "key.pub")


def shell(name: str, script: str, check, **more) -> Case:
    return Case(name, name, "sh", ["/bin/sh", "-c", script, name], check, **more)


def group(*cases: Case) -> Group:
    return Group("group", "Title", "About.", list(cases), [Row("row", "What", cases[0].name, (cases[-1].name,))])


DIGEST, OTHER = "ab" * 32, "cd" * 32


def test_all_cases_run_in_each_round_and_round_0_is_not_counted(here: Here, tmp_path: Path) -> None:
    log = tmp_path / "log"
    cases = [shell(name, f"echo {name} >> {log}; echo {DIGEST}", here.same("digest")) for name in ("a", "b", "c")]
    found = measure.measure(group(*cases), here, Others(), 8)
    assert {name: len(samples) for name, samples in found.samples.items()} == {"a": 8, "b": 8, "c": 8}
    ran = log.read_text().split()
    rounds = [ran[i : i + 3] for i in range(0, len(ran), 3)]
    assert len(rounds) == 9
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds), "interleaved: each once a round"
    assert len({tuple(one) for one in rounds}) > 1, "in an order drawn anew"


def test_programs_that_disagree_end_the_run(here: Here) -> None:
    honest, liar = (shell(name, f"echo {digest}", here.same("digest")) for name, digest in (("a", DIGEST), ("b", OTHER)))
    with pytest.raises(Disagreement, match=f"b .*{DIGEST} and {OTHER}"):
        measure.measure(group(honest, liar), here, Others(), 3)


def test_a_program_that_changes_its_mind_ends_the_run(here: Here, tmp_path: Path) -> None:
    # Right in round 0 and in the first, wrong in the second.
    count = tmp_path / "count"
    script = f"echo x >> {count}; if [ $(wc -l < {count}) -lt 3 ]; then echo {DIGEST}; else echo {OTHER}; fi"
    with pytest.raises(Disagreement):
        measure.measure(group(shell("a", script, here.same("digest"))), here, Others(), 3)


def ours(case: Case) -> Case:
    case.program = OURS
    return case


def test_ours_that_fails_ends_the_run_with_what_it_said(here: Here) -> None:
    with pytest.raises(Disagreement, match="ended with 3(.|\n)*out of paper"):
        measure.measure(group(ours(shell("a", "echo out of paper >&2; exit 3", says("")))), here, Others(), 1)


def test_ours_that_is_killed_ends_the_run(here: Here) -> None:
    with pytest.raises(Disagreement, match="ended with -9"):
        measure.measure(group(ours(shell("a", "kill -9 $$", says("")))), here, Others(), 1)


def test_what_an_earlier_run_wrote_answers_for_no_later_one(here: Here, tmp_path: Path) -> None:
    written = tmp_path / "signature"

    def check(stdout: str) -> None:
        if not written.exists():
            raise Disagreement("nothing was written")

    # Writes once, and then never again.
    once = f"[ -e {tmp_path}/done ] || echo x > {written}; touch {tmp_path}/done"
    with pytest.raises(Disagreement, match="nothing was written"):
        measure.measure(group(shell("a", once, check, output=written)), here, Others(), 1)


def test_a_time_from_inside_is_the_one_that_counts(here: Here) -> None:
    line = json.dumps({"seconds": 12.5, "cpu": 3.0, "peak": 4096, "digest": DIGEST})
    case = shell("a", f"echo loading; echo '{line}'", here.same_in_json("digest", needed=True), inside=True)
    (sample,) = measure.measure(group(case), here, Others(), 1).samples["a"]
    assert (sample.seconds, sample.cpu, sample.peak) == (12.5, 3.0, 4096)


@pytest.mark.parametrize("line", ["", "12.5", "{}", '{"seconds": "soon"}', '{"seconds": 0}', '{"seconds": -1}'])
def test_a_time_from_inside_that_is_none_ends_the_run(here: Here, line: str) -> None:
    with pytest.raises(Disagreement):
        measure.measure(group(shell("a", f"echo '{line}'", says(""), inside=True)), here, Others(), 1)


def test_the_time_of_a_process_is_that_of_the_process(here: Here) -> None:
    (sample,) = measure.measure(group(shell("a", "sleep 0.2", says(""))), here, Others(), 1).samples["a"]
    # No more than that it slept: how long it was then kept waiting is the machine's affair.
    assert sample.seconds >= 0.2
    assert sample.cpu < 0.2


def test_children_count(here: Here) -> None:
    program = "x = b'x' * (200 << 20); import time; t = time.process_time()\nwhile time.process_time() < t + 0.1: pass"
    case = Case("a", "a", "python", ["/bin/sh", "-c", f'{sys.executable} -c "$1"; true', "sh", program], says(""))
    (sample,) = measure.measure(group(case), here, Others(), 1).samples["a"]
    assert sample.cpu >= 0.1
    assert sample.peak >= 200 << 20


def test_more_arguments_in_round_0_alone(here: Here, tmp_path: Path) -> None:
    log = tmp_path / "log"
    case = Case("a", "a", "sh", ["/bin/sh", "-c", f'echo "$#" >> {log}', "sh"], says(""), first=("--digest",))
    measure.measure(group(case), here, Others(), 2)
    assert log.read_text().split() == ["1", "0", "0"]


def test_a_peer_that_cannot_run_here_is_skipped_with_its_reason(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    def stays(path: Path) -> None:
        raise Missing("all of it stays in the page cache", "name a disk")

    monkeypatch.setattr(measure, "evict", stays)
    cold = shell("cold", "true", says(""), cold=True, reads=(tmp_path / "file",))
    found = measure.measure(group(shell("a", "true", says("")), cold), here, Others(), 1)
    assert set(found.samples) == {"a"}
    assert here.skipped == [
        {"program": "sh", "what": "cold", "why": "all of it stays in the page cache", "remedy": "name a disk"}
    ]


def test_rounds_fit_into_the_time_within_bounds() -> None:
    wanted = Group("g", "", "", [], [], seconds=60, rounds=(5, 15))
    assert measure.how_many(wanted, 10, None) == 6
    assert measure.how_many(wanted, 100, None) == 5
    assert measure.how_many(wanted, 0.1, None) == 15
    assert measure.how_many(wanted, 10, 3) == 3


def test_commands_do_not_tell_where_things_are_here(here: Here) -> None:
    argv = [here.binary, "digest", f"{here.work}/big", "/home/someone/secret/key"]
    assert measure.command(Case("a", "a", "tensorseal", argv, says("")), here) == "tensorseal digest WORK/big key"


def test_questions_are_apart(here: Here) -> None:
    here.same("sha256")(DIGEST)
    here.same("blake3")(OTHER)
    with pytest.raises(Disagreement):
        here.same("blake3")(DIGEST)
    with pytest.raises(Disagreement, match="no answer"):
        here.same("sha256")("no digest at all")


def test_answers_in_json_are_compared(here: Here) -> None:
    here.same_in_json("digest")(json.dumps({"digest": DIGEST}))
    here.same_in_json("digest")(json.dumps({"seconds": 1}))
    with pytest.raises(Disagreement, match=f"{DIGEST} and {OTHER}"):
        here.same_in_json("digest")("loading\n" + json.dumps({"digest": OTHER}))
    with pytest.raises(Disagreement, match="no digest"):
        here.same_in_json("digest", needed=True)(json.dumps({"seconds": 1}))


def test_what_stays_in_the_page_cache_is_not_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setattr(pages, "resident", lambda path: 0.02)
    with pytest.raises(Missing, match="2% of file stays"):
        pages.evict(tmp_path / "file")


def test_warm_and_cold(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(20 << 20))
    pages.warm(file)
    assert pages.resident(file) > 0.9
    try:
        pages.evict(file)
    except Missing:
        if file_system(tmp_path) in ("ext2/ext3", "xfs", "btrfs"):
            raise
        pytest.skip("this file system keeps what it is told to drop")
    assert pages.resident(file) <= 0.01
    pages.warm(file)
    assert pages.resident(file) > 0.9


def test_a_peer_that_fails_in_a_later_round_is_left_out_with_all_of_its_times(here: Here, tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"echo x >> {count}; [ $(wc -l < {count}) -lt 3 ] || {{ echo out of paper >&2; exit 3; }}"
    ours = shell("ours", "true", says(""))
    ours.program = OURS
    found = measure.measure(group(ours, shell("peer", script, says(""))), here, Others(), 4)
    assert {name: len(samples) for name, samples in found.samples.items()} == {"ours": 4}
    assert "out of paper" in here.skipped[0]["why"]


def test_a_program_that_hangs_is_killed_and_left_out(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LIMIT", 0.2)
    found = measure.measure(group(shell("peer", "exec sleep 60", says(""))), here, Others(), 1)
    assert found.samples == {}
    assert "did not end within 0.2 s" in here.skipped[0]["why"]


def test_short_of_time_there_are_fewer_rounds(here: Here) -> None:
    case = shell("a", "sleep 0.05", says(""))
    assert measure.measure(group(case), here, Others(), None, seconds=0.01).rounds == measure.LEAST
