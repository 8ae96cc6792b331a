"""Signing and verifying across ranks, by real processes on gloo."""

import json
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import require  # noqa: E402

require("torch")
require("safetensors")
sys.path.insert(0, str(Path(__file__).resolve().parent))
import ranks_worker  # noqa: E402

SHORT = ranks_worker.SHORT


@pytest.fixture(scope="session")
def processes():
    """Makes processes that have torch already: importing it takes seconds each time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranks_worker", "tensorseal.distributed"])
    # The server of Python 3.11 imports what it shall before it takes over our path.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        multiprocessing.forkserver.ensure_running()
    return context


@pytest.fixture
def ranks(processes, tmp_path, keys):
    """Runs a scenario on all ranks: what each said, `None` for one that said nothing."""

    def run(scenario: str, folder: Path, world: int = 4, mute: tuple[int, ...] = (), **arguments: object) -> list[dict | None]:
        out = tmp_path / f"said-{time.monotonic_ns()}"
        out.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments |= {"folder": str(folder), "keys": [str(key) for key in keys]}
        started = [
            processes.Process(target=ranks_worker.main, args=(rank, world, port, scenario, arguments, str(out)))
            for rank in range(world)
        ]
        for process in started:
            process.start()
        end = time.monotonic() + 60
        try:
            for rank, process in enumerate(started):
                if rank not in mute:
                    process.join(max(0, end - time.monotonic()))
                    assert process.exitcode is not None, f"rank {rank} hangs in {scenario}"
        finally:
            for process in started:
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()
        said = [out / f"{rank}.json" for rank in range(world)]
        return [json.loads(path.read_text()) if path.exists() else None for path in said]

    return run


def all_refused(said: list[dict], error: str, *words: str) -> str:
    """All ranks raised this, in the same words, with these among them."""
    for one in said:
        assert error in one.get("kinds", ()), one
        assert one["message"] == said[0]["message"]
    for word in words:
        assert word in said[0]["message"], said[0]["message"]
    return said[0]["message"]


def all_agreed(said: list[dict]) -> dict:
    """All ranks returned the same."""
    for one in said:
        assert "value" in one, one
        assert one["value"] == said[0]["value"]
    return said[0]["value"]


@pytest.fixture
def signed(ranks, tmp_path) -> Path:
    """The model of the worker, signed by 4 ranks."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "toy"}\n')
    all_agreed(ranks("sign", folder))
    return folder


def test_four_ranks_sign_and_everybody_verifies(signed, ranks, keys, cli):
    from safetensors import safe_open

    index = json.loads((signed / "model.safetensors.index.json").read_text())
    found = {}
    for name, file in index["weight_map"].items():
        with safe_open(signed / file, "pt") as opened:
            assert name in opened.keys()
            found[name] = opened.get_tensor(name)
    import torch

    for name, tensor in ranks_worker.full_tensors().items():
        same = found[name].shape == tensor.shape and found[name].dtype == tensor.dtype
        assert same and found[name].view(-1).view(torch.uint8).equal(tensor.contiguous().view(-1).view(torch.uint8)), name
    assert len(set(index["weight_map"].values())) > 2

    verified = cli("verify", "key", signed, "--signature", signed / "model.sig", "--public-key", keys[1])
    assert verified.returncode == 0, verified.stderr
    require("model_signing")
    reference = [sys.executable, "-m", "model_signing", "verify", "key", signed, "--signature", signed / "model.sig"]
    done = subprocess.run([*map(str, reference), "--public_key", str(keys[1])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_four_ranks_sign_and_other_layouts_verify(signed, ranks):
    four = all_agreed(ranks("check", signed))
    two = all_agreed(ranks("check", signed, world=2))
    pairs = all_agreed(ranks("check_with_copies", signed))
    alone = all_agreed(ranks("check", signed, world=1))
    assert four["tensors"] == two["tensors"] == pairs["tensors"] == alone["tensors"] == 10
    assert four["tiles"] == two["tiles"] == pairs["tiles"] == alone["tiles"]
    size = sum(tensor.nbytes for tensor in ranks_worker.full_tensors().values())
    assert four["bytes"] == two["bytes"] == pairs["bytes"] == alone["bytes"] == size
    assert pairs["copies"] > four["copies"] > alone["copies"] == 0


def test_sharded_as_torch_shards(signed, ranks, tmp_path):
    """FSDP2 alone, with copies, and over tensor parallelism: sizes that nothing divides, tiles that every shard cuts."""
    from safetensors.torch import load_file

    whole = {name: tensor for name, tensor in ranks_worker.Tiny().state_dict().items()}
    layouts = {"four": ("sign_fsdp", {"shape": [4]}), "pairs": ("sign_fsdp", {"shape": [2, 2]}), "tp": ("sign_fsdp_over_tp", {})}
    for layout, (scenario, arguments) in layouts.items():
        folder = tmp_path / layout
        made = all_agreed(ranks(scenario, folder, **arguments))
        assert (made["copies"] > 0) == (layout == "pairs")
        found = load_file(folder / "model.safetensors")
        assert set(found) == set(whole) and all(found[name].equal(whole[name]) for name in whole), layout
    for shape in ([4], [2, 2]):
        all_agreed(ranks("check_fsdp", tmp_path / "tp", shape=shape))


def test_a_changed_copy_stops_signing_on_all_ranks(ranks, tmp_path):
    folder = tmp_path / "model"
    said = ranks("sign_with_a_changed_copy", folder)
    all_refused(said, "VerifyError", "'norm.weight'", "on ranks 0, 1 and 3", "on rank 2")
    assert list(folder.iterdir()) == []
    # Nor does a copy escape of which no rank has a whole tile.
    said = ranks("sign_with_a_changed_part_of_a_copy", folder)
    all_refused(said, "VerifyError", "'uneven.weight'", "put together from rank")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["q.weight", "o.weight", "uneven.weight"])
def test_a_bit_that_flips_on_the_way_to_the_file_stops_signing(ranks, tmp_path, name):
    folder = tmp_path / "model"
    said = ranks("sign_with_a_change_before_writing", folder, name=name)
    all_refused(said, "VerifyError", f"of {name!r}", "safetensors' as rank", "1")
    assert list(folder.iterdir()) == []


def test_a_changed_shard_stops_verifying_on_all_ranks(signed, ranks):
    all_refused(ranks("check_with_a_change", signed, name="o.weight", ranks=[3]), "VerifyError", "rank 3", "o.weight", "tile 6")
    said = ranks("check_with_a_change", signed, name="embed.weight", ranks=[1, 2])
    all_refused(said, "VerifyError", "rank 1", "rank 2", "embed.weight")
    said = ranks("check_with_a_change", signed, name="uneven.weight", ranks=[2])
    all_refused(said, "VerifyError", "'uneven.weight'", "put together from ranks", "2")


def test_what_is_missing_or_unknown_stops_verifying(signed, ranks):
    all_refused(ranks("check_without", signed, name="mask"), "VerifyError", "no rank has 'mask'")
    told = all_agreed(ranks("check_without", signed, name="mask", absent={"mask": "not used here"}))
    assert told["absent"] == {"mask": "not used here"} and told["tensors"] == 9
    said = ranks("check_without", signed, name="mask", absent={"mask": "not used", "scale": "neither"})
    all_refused(said, "VerifyError", "'scale' is said to be absent", "a rank has it")
    all_refused(ranks("check_an_unknown", signed), "VerifyError", "'extra' on rank 2 is not signed")
    all_refused(ranks("check_a_part", signed), "VerifyError", "'q.weight' is F32 [24, 64]", "F32 [32, 64] is signed")


def test_tensors_that_stop_before_the_end_are_missing(signed, ranks):
    said = ranks("check_rows", signed, world=2)
    all_refused(said, "VerifyError", "no rank has tile", "'q.weight'")


def test_a_group_of_some_ranks(signed, ranks):
    said = ranks("check_by_a_part_of_the_ranks", signed)
    assert said[0]["value"] is None and said[2]["value"] is None
    all_refused([said[1], said[3]], "VerifyError", "rank 3", "q.weight")


def test_another_signer_is_refused_on_all_ranks(signed, ranks, keys, tmp_path, cli):
    made = cli("keygen", "--out", tmp_path / "other.pem")
    assert made.returncode == 0
    other = tmp_path / "other.pub"
    said = ranks("check_by_another_policy", signed, public=str(other))
    all_refused(said, "VerifyError", "rank")


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("other_arguments", ["rank 2", "max_shard_size is 7000"]),
        ("other_type", ["'scale' is F32", "F16", "rank 1"]),
        ("lacking_a_shard", ["rank 3 has no 'o.weight'"]),
        ("partial", ["'grad'", "redistribute"]),
        ("other_plan", ["rank 2 has another plan of files than rank 0"]),
    ],
)
def test_ranks_that_do_not_agree_are_named(ranks, tmp_path, scenario, words):
    all_refused(ranks(scenario, tmp_path / "model"), "UsageError", *words)


def test_an_error_on_one_rank_is_an_error_on_all(ranks, tmp_path):
    said = ranks("failing_disk", tmp_path / "model")
    all_refused(said, "NoAnswerError", "rank 3", "No space left on device")
    assert said[0]["ranks"] == [3]
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize(
    ("rank", "when", "how"),
    [
        (2, "tiles", "kill"),
        (2, "moving", "kill"),
        (1, "writing", "stop"),
        (3, "verdict", "kill"),
        (0, "moving", "kill"),
        (0, "writing", "stop"),
        (1, "never", "kill"),
        (1, "never", "sleep"),
        (2, "stuck", "sleep"),
    ],
)
def test_a_lost_rank_is_named_and_nobody_waits_for_it(ranks, tmp_path, rank, when, how):
    folder = tmp_path / "model"
    said = ranks("lose", folder, mute=(rank,), rank=rank, when=when, how=how)
    assert said[rank] is None
    others = [one for number, one in enumerate(said) if number != rank]
    for one in others:
        assert "RankError" in one["kinds"], one
        assert one["ranks"] == [rank]
        assert f"rank {rank}" in one["message"]
        # Not how fast it is, but that it is no hang: `timeout` and what starting takes, with a second or ten of `patience`.
        assert one["seconds"] < 30
    assert not (folder / "model.sig").exists()
    # Whoever lives removes what it began.
    left = [path.name for path in folder.iterdir()] if folder.exists() else []
    assert not [name for name in left if name.endswith(".safetensors")]


def test_calls_follow_each_other(ranks, tmp_path):
    said = ranks("twice", tmp_path / "model")
    for one in said:
        *verdicts, keys_left = one["value"]
        assert verdicts == ["VerifyError", "yes", "yes", "VerifyError", "yes"]
        # Of five calls with some ten keys a step.
        assert keys_left < 40


def test_refit(ranks, tmp_path):
    folder = tmp_path / "messages"
    folder.mkdir()
    for step in (3, 4):
        all_agreed(ranks("publish", folder, step=step, signed=True))
    messages = [(folder / f"step-4-{rank}").read_bytes() for rank in range(4)]
    assert len(set(messages)) == 1

    got = all_agreed(ranks("receive", folder, steps=[3, 4, 4], world=2))
    assert [one["tensors"] for one in got] == [10, 10, 10]
    assert "key" in got[0]["identity"]

    def refused(*words: str, **arguments: object) -> None:
        all_refused(ranks("receive", folder, world=2, **arguments), "VerifyError", *words)

    refused("step 3 of 'grpo-1' is stale: step 4 was accepted", steps=[4, 3])
    refused("stale: step 3, and 4 is waited for", steps=[4], message=3)
    refused("of a later step: step 4, and 3 is waited for", steps=[3], message=4)
    refused("of the run 'grpo-1', and 'grpo-2' is waited for", steps=[3], run="grpo-2")
    refused("rank 1", "'o.weight'", steps=[3], change="o.weight")
    refused("'uneven.weight'", steps=[3], change="uneven.weight")
    refused("no rank has 'mask'", steps=[3], change="without mask")
    refused("signature", steps=[3], alter=True)
    refused("a policy", steps=[3], signed=False)
    refused("this is no message", steps=[3], cut=100_000)

    all_agreed(ranks("publish", folder, step=5, signed=False))
    refused("the message is not signed", steps=[5])
    got = all_agreed(ranks("receive", folder, steps=[5], signed=False, world=2))
    assert "not signed" in got[0]["identity"]

    all_refused(ranks("publish", folder, step=6, signed=True, plant=True), "VerifyError", "'norm.weight'", "on rank 1")
    assert not (folder / "step-6-0").exists()


# Without processes


def test_the_grid_is_that_of_the_library():
    from tensorseal.distributed.grid import Grid
    from tensorseal.distributed.layout import _BYTES

    cases = json.loads((ranks_worker.ROOT / "tests/data/tensors/cases.json").read_text())["grids"]
    compared = 0
    for case in cases:
        if case["dtype"] in _BYTES:
            assert list(Grid.of(case["dtype"], tuple(case["shape"])).parts) == case["parts"], case
            compared += 1
    assert compared > 20


def test_runs_are_those_of_torch():
    import torch
    from tensorseal.distributed.layout import _runs
    from torch.distributed.tensor.placement_types import Replicate, Shard, _StridedShard

    layouts = [
        ((4,), [Shard(0)]),
        ((3, 2), [Shard(0), Shard(0)]),
        ((2, 3), [Replicate(), Shard(1)]),
        ((2, 2), [_StridedShard(0, split_factor=2), Shard(0)]),
        ((3, 2), [_StridedShard(1, split_factor=2), Shard(1)]),
        ((2, 3, 2), [_StridedShard(0, split_factor=3), Shard(0), Shard(1)]),
    ]
    for mesh, placements in layouts:
        for shape in [(8, 12), (7, 5), (13, 3), (1, 2)]:
            numbers = torch.arange(shape[0] * shape[1]).view(shape)
            for coordinate in torch.cartesian_prod(*map(torch.arange, (*mesh, 1))).tolist():
                expected = numbers
                for size, at, placement in zip(mesh, coordinate, placements):
                    if not isinstance(placement, Replicate):
                        expected = placement._split_tensor(expected, size, with_padding=False, contiguous=False)[0][at]
                runs = _runs("a", shape, mesh, coordinate, placements)
                rows, columns = ([n for first, end in of for n in range(first, end)] for of in runs)
                assert numbers[rows][:, columns].tolist() == expected.tolist(), (mesh, placements, shape, coordinate)


def test_parts_cover_what_they_are_said_to():
    import random

    from tensorseal.distributed.layout import volume
    from tensorseal.distributed.plan import Tensor, cover, gather_tensor, gather_tiles, uncovered

    dice = random.Random(6)

    def some_box(shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        return tuple(tuple(sorted(dice.sample(range(size + 1), 2))) for size in shape)

    def elements(box: tuple[tuple[int, int], ...]) -> set[tuple[int, int]]:
        return {(row, column) for row in range(*box[0]) for column in range(*box[1])}

    gathered = 0
    for _ in range(300):
        shape = (dice.choice([6, 8, 10]), dice.choice([5, 8]))
        holders = tuple((rank, some_box(shape)) for rank in range(dice.randint(1, 6)))
        box = some_box(shape)
        parts, left = cover(box, holders)
        pieces = [elements(part) for _, part in parts]
        assert sum(map(len, pieces)) + sum(map(volume, left)) == volume(box)
        assert set().union(*pieces, *map(elements, left)) == elements(box)
        assert all(part <= elements(holders[rank][1]) for (rank, _), part in zip(parts, pieces))

        tensor = Tensor("F32", shape, (*holders, (7, ((0, shape[0]), (0, shape[1])))))
        assert uncovered(tensor) is None
        (job,) = gather_tensor("a", tensor, 3)
        assert set().union(*(elements(part) for _, part in job.parts)) == elements(job.box)
        used: dict[int, set[tuple[int, int]]] = {}
        for tile, job in gather_tiles("a", tensor):
            assert elements(job.box) == elements(tensor.grid.box(tile))
            assert set().union(*(elements(part) for _, part in job.parts)) == elements(job.box)
            assert job.to in {rank for rank, _ in job.parts}
            for rank, part in job.parts:
                used.setdefault(rank, set()).update(elements(part))
            gathered += 1
        # Nothing that a rank holds goes unseen: what is in no whole tile of its own is in one that was put together.
        for rank, held in holders:
            full = tensor.grid.split(held)[0]
            alone = elements(held) - (elements(full) if full else set())
            assert alone <= used.get(rank, set())
    assert gathered > 300


def test_rounds_bound_memory_and_keep_order():
    from tensorseal.distributed import plan

    tensors = {f"t{number}": plan.Tensor("F32", (1 << 12, 1 << 10), ((number % 3, ((0, 1 << 12), (0, 1 << 10))),)) for number in range(9)}
    jobs = [job for name, tensor in tensors.items() for job in plan.gather_tensor(name, tensor, int(name[1]) % 2)]
    done = []
    for now in plan.rounds(jobs):
        for to in (0, 1):
            assert sum(job.nbytes for job in now if job.to == to) <= plan.ROUND_BYTES
        done += now
    assert sorted(map(repr, done)) == sorted(map(repr, jobs))
    for to in (0, 1):
        assert [job for job in done if job.to == to] == [job for job in jobs if job.to == to]


def test_outside_of_a_process_group():
    import torch
    from tensorseal.distributed import save_and_sign
    from tensorseal.errors import UsageError

    with pytest.raises(UsageError, match="init_process_group"):
        save_and_sign({"a": torch.zeros(1)}, "nowhere", signer=None)
