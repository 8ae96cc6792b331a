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


Said = list  # of what each rank said, `None` for one that said nothing


@pytest.fixture
def many(processes, tmp_path, keys):
    """Runs scenarios, one after the other, on the same ranks: for each what the ranks said."""

    def run(
        scenarios: list[tuple], folder: Path, world: int = 4, mute: tuple[int, ...] = (), hosted: bool = False
    ) -> list[Said]:
        out = tmp_path / f"said-{time.monotonic_ns()}"
        out.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        store = None
        if hosted:
            from torch.distributed import TCPStore

            store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
        common = {"folder": str(folder), "keys": [str(key) for key in keys]}
        asked = [(name, common | (more[0] if more else {})) for name, *more in scenarios]
        started = [
            processes.Process(target=ranks_worker.main, args=(rank, world, port, hosted, asked, str(out)))
            for rank in range(world)
        ]
        for process in started:
            process.start()
        end = time.monotonic() + 60 + 10 * len(scenarios)
        try:
            for rank, process in enumerate(started):
                if rank not in mute:
                    process.join(max(0, end - time.monotonic()))
                    assert process.exitcode is not None, f"rank {rank} hangs in one of {scenarios}"
        finally:
            for process in started:
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()
            del store

        def read(path: Path) -> dict | None:
            return json.loads(path.read_text()) if path.exists() else None

        return [[read(out / f"{number}-{rank}.json") for rank in range(world)] for number in range(len(scenarios))]

    return run


@pytest.fixture
def ranks(many):
    """Runs one scenario on all ranks."""

    def run(scenario: str, folder: Path, world: int = 4, mute: tuple[int, ...] = (), **arguments: object) -> Said:
        return many([(scenario, arguments)], folder, world, mute)[0]

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
def signed(request, ranks, tmp_path_factory) -> Path:
    """The model of the worker, signed by 4 ranks, once for all tests: none of them changes it."""
    folder = getattr(request.config, "_tensorseal_signed", None)
    if folder is None:
        folder = tmp_path_factory.mktemp("signed")
        (folder / "config.json").write_text('{"model_type": "toy"}\n')
        all_agreed(ranks("sign", folder))
        request.config._tensorseal_signed = folder
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
    # Byte for byte what safetensors writes.
    from safetensors.torch import save

    for file in sorted(set(index["weight_map"].values())):
        tensors = {name: full for name, full in ranks_worker.full_tensors().items() if index["weight_map"][name] == file}
        assert (signed / file).read_bytes() == save(tensors, metadata={"format": "pt"})

    verified = cli("verify", "key", signed, "--signature", signed / "model.sig", "--public-key", keys[1])
    assert verified.returncode == 0, verified.stderr
    require("model_signing")
    reference = [sys.executable, "-m", "model_signing", "verify", "key", signed, "--signature", signed / "model.sig"]
    done = subprocess.run([*map(str, reference), "--public_key", str(keys[1])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_path_may_be_of_bytes(tmp_path, keys):
    import torch
    import torch.distributed as dist

    import tensorseal
    from tensorseal.distributed import save_and_sign

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        signer, folder = tensorseal.KeySigner(keys[0]), tmp_path / "m"
        made = save_and_sign({"w": torch.ones(3)}, bytes(folder), signer=signer, bundle=bytes(tmp_path / "m.sig"))
        assert made.bundle == str(tmp_path / "m.sig")
        tensorseal.verify(folder, bundle=made.bundle, policy=tensorseal.Key(keys[1]))
        with pytest.raises(tensorseal.UsageError, match="a path is wanted"):
            save_and_sign({"w": torch.ones(3)}, 5, signer=signer)
    finally:
        dist.destroy_process_group()


def test_files_do_not_depend_on_how_they_were_gathered(signed, many, tmp_path):
    folders = {name: tmp_path / name for name in ("sign_in_small_rounds", "sign_with_copies")}
    for said in many([(name, {"folder": str(folder)}) for name, folder in folders.items()], tmp_path):
        all_agreed(said)
    files = {path.name: path.read_bytes() for path in signed.glob("model*.safetensors*")}
    assert len(files) > 3
    for folder in folders.values():
        assert {path.name: path.read_bytes() for path in folder.glob("model*.safetensors*")} == files


def test_four_ranks_sign_and_other_layouts_verify(signed, many):
    four, pairs = map(all_agreed, many([("check",), ("check_with_copies",)], signed))
    two = all_agreed(many([("check",)], signed, world=2)[0])
    alone = all_agreed(many([("check",)], signed, world=1)[0])
    assert four["tensors"] == two["tensors"] == pairs["tensors"] == alone["tensors"] == 11
    assert four["tiles"] == two["tiles"] == pairs["tiles"] == alone["tiles"]
    size = sum(tensor.nbytes for tensor in ranks_worker.full_tensors().values())
    assert four["bytes"] == two["bytes"] == pairs["bytes"] == alone["bytes"] == size
    assert pairs["copies"] > four["copies"] > alone["copies"] == 0


def test_sharded_as_torch_shards(many, tmp_path):
    """FSDP2 alone, with copies, and over tensor parallelism: sizes that nothing divides, tiles that every shard cuts."""
    from safetensors.torch import load_file

    whole = {name: tensor for name, tensor in ranks_worker.Tiny().state_dict().items()}
    layouts = {"four": ("sign_fsdp", {"shape": [4]}), "pairs": ("sign_fsdp", {"shape": [2, 2]}), "tp": ("sign_fsdp_over_tp", {})}
    folders = {layout: tmp_path / layout for layout in layouts}
    signing = [(name, arguments | {"folder": str(folders[layout])}) for layout, (name, arguments) in layouts.items()]
    checking = [("check_fsdp", {"folder": str(folders["tp"]), "shape": shape}) for shape in ([4], [2, 2])]
    *made, four, pairs = map(all_agreed, many([*signing, *checking], tmp_path))
    for layout, one in zip(layouts, made):
        assert (one["copies"] > 0) == (layout == "pairs")
        found = load_file(folders[layout] / "model.safetensors")
        assert set(found) == set(whole) and all(found[name].equal(whole[name]) for name in whole), layout
    assert four["tiles"] == pairs["tiles"] and four["copies"] == 0 < pairs["copies"]


def test_tied_weights_are_written_once(many, tmp_path):
    from safetensors import safe_open

    folder = tmp_path / "model"
    tied = ["lm_head.weight", "few.again"]
    refused, wrong, unknown, good = many(
        [("sign_tied", {"discard": names}) for names in ([], [*tied, "q.weight"], [*tied, "nothing"], tied)], folder
    )
    all_refused(refused, "UsageError", "share memory", "discard")
    all_refused(wrong, "UsageError", "'q.weight' is in discard, and no tensor that stays is the same memory")
    all_refused(unknown, "UsageError", "discard names what is no tensor", "'nothing'")
    assert all_agreed(good)["tensors"] == 11
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert not set(tied) & set(index)
    with safe_open(folder / index["embed.weight"], "pt") as opened:
        twins = {"format": "pt", "lm_head.weight": "embed.weight", "few.again": "few.weight"}
        assert opened.metadata() == twins


def test_changed_copies_stop_signing_on_all_ranks(many, tmp_path):
    folder = tmp_path / "model"
    copy, part, less = many(
        [("sign_with_a_changed_copy",), ("sign_with_a_changed_part_of_a_copy",), ("sign_with_tiles_left_out",)], folder
    )
    all_refused(less, "VerifyError", "no rank measured tile 32 of 'q.weight'")
    all_refused(copy, "VerifyError", "'norm.weight'", "on ranks 0, 1 and 3", "on rank 2")
    # Nor does a copy escape of which no rank has a whole tile.
    all_refused(part, "VerifyError", "'uneven.weight'", "put together from ranks 0 and 1", "put together from ranks 2 and 3")
    assert list(folder.iterdir()) == []


def test_a_bit_that_flips_on_the_way_to_the_file_stops_signing(many, tmp_path):
    folder = tmp_path / "model"
    names = ["q.weight", "o.weight", "uneven.weight"]
    for name, said in zip(names, many([("sign_with_a_change_before_writing", {"name": name}) for name in names], folder)):
        all_refused(said, "VerifyError", f"of {name!r}", "safetensors' as rank", "1")
    assert list(folder.iterdir()) == []


def test_what_a_rank_says_of_its_files_is_not_just_believed(many, tmp_path):
    words = {
        "metadata": ["the header of", "which rank 1 wrote, is another"],
        "type": ["F32", "in memory, and I32", "as rank 1 wrote it"],
        "shape": ["[32, 64] in memory, and F32 [64, 32]", "as rank 1 wrote it"],
        "files": ["is not what lay in memory"],
        "fewer": ["was not published"],
    }
    for lie, expected in words.items():
        folder = tmp_path / lie
        (said,) = many([("sign_with_a_lie", {"lie": lie})], folder)
        all_refused(said, "VerifyError", *expected)
        assert not (folder / "model.sig").exists()


def test_a_signature_that_comes_when_all_have_given_up_does_not_stay(many, tmp_path):
    folder = tmp_path / "model"
    slow, good = many([("sign_slowly",), ("sign",)], folder)
    all_refused(slow, "RankError", "rank 0 hangs")
    assert all_agreed(good)["bundle"] == str(folder / "model.sig")
    slow, nothing = many([("sign_slowly",), ("sign_nothing",)], folder)
    all_refused(slow, "RankError", "rank 0 hangs")
    all_refused(nothing, "UsageError", "would cover nothing")
    assert not (folder / "model.sig").exists()


def test_what_is_not_as_signed_stops_verifying_on_all_ranks(many, signed, tmp_path, cli):
    assert cli("keygen", "--out", tmp_path / "other.pem").returncode == 0
    one, two, cut, other, good = many(
        [
            ("check_with_a_change", {"name": "o.weight", "ranks": [3]}),
            ("check_with_a_change", {"name": "embed.weight", "ranks": [1, 2]}),
            ("check_with_a_change", {"name": "uneven.weight", "ranks": [2]}),
            ("check_by_another_policy", {"public": str(tmp_path / "other.pub")}),
            ("check",),
        ],
        signed,
    )
    all_refused(one, "VerifyError", "rank 3", "o.weight", "tile 6")
    assert one[0]["differing"] == ["o.weight"]
    all_refused(two, "VerifyError", "rank 1", "rank 2", "embed.weight")
    all_refused(cut, "VerifyError", "'uneven.weight'", "put together from ranks 0, 1 and 2")
    all_refused(other, "VerifyError", "rank")
    all_agreed(good)


def test_what_is_missing_or_unknown_stops_verifying(many, signed):
    without = {"name": "mask"}
    missing, told, contradicted, unknown, shape = many(
        [
            ("check_without", without),
            ("check_without", without | {"absent": {"mask": "not used here"}}),
            ("check_without", without | {"absent": {"mask": "not used", "scale": "neither"}}),
            ("check_an_unknown",),
            ("check_a_part",),
        ],
        signed,
    )
    all_refused(missing, "VerifyError", "no rank has 'mask'")
    value = all_agreed(told)
    assert value["absent"] == {"mask": "not used here"} and value["tensors"] == 10
    all_refused(contradicted, "VerifyError", "'scale' is said to be absent", "a rank has it")
    all_refused(unknown, "VerifyError", "'extra' on rank 2 is not signed")
    all_refused(shape, "VerifyError", "'q.weight' is F32 [24, 64]", "F32 [32, 64] is signed")


def test_tensors_that_stop_before_the_end_are_missing(ranks, signed):
    said = ranks("check_rows", signed, world=2)
    all_refused(said, "VerifyError", "no rank has tile", "'q.weight'")


def test_a_group_of_some_ranks(ranks, signed):
    said = ranks("check_by_a_part_of_the_ranks", signed)
    assert said[0]["value"] is None and said[2]["value"] is None
    all_refused([said[1], said[3]], "VerifyError", "rank 3", "q.weight")


def test_ranks_that_do_not_agree_are_named(many, tmp_path):
    scenarios = {
        "other_arguments": ["rank 2", "max_shard_size is 7000"],
        "other_type": ["'scale' is F32", "F16", "rank 1"],
        "lacking_a_shard": ["rank 3 has no 'o.weight'"],
        "partial": ["'grad'", "redistribute"],
        "other_plan": ["rank 2 has another plan of files than rank 0"],
    }
    for words, said in zip(scenarios.values(), many([(name,) for name in scenarios], tmp_path / "model")):
        all_refused(said, "UsageError", *words)


def test_an_error_on_one_rank_is_an_error_on_all_and_leaves_nothing_behind(many, tmp_path):
    folder = tmp_path / "model"
    wrong = ("check_with_a_change", {"name": "o.weight", "ranks": [1]})
    failed, *others, keys_left = many([("failing_disk",), ("sign",), ("check",), wrong, ("check",), ("keys_of_the_store",)], folder)
    all_refused(failed, "NoAnswerError", "rank 3", "No space left on device")
    assert failed[0]["ranks"] == [3]
    assert ["error" in said[0] for said in others] == [False, False, True, False]
    # Calls of some ten keys a step, each.
    assert keys_left[0]["value"] < 60


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
        (3, "verdict", "sleep"),
        (0, "writing", "kill, another has the store"),
    ],
)
def test_a_lost_rank_is_named_and_nobody_waits_for_it(many, tmp_path, rank, when, how):
    folder = tmp_path / "model"
    how, _, hosted = how.partition(", ")
    (said,) = many([("lose", {"rank": rank, "when": when, "how": how})], folder, mute=(rank,), hosted=bool(hosted))
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


def test_refit(many, tmp_path):
    folder = tmp_path / "messages"
    folder.mkdir()
    published = [("publish", {"step": step, "signed": step != 5}) for step in (3, 4, 5)]
    published.append(("publish", {"step": 4, "signed": True, "other": "b"}))
    *_, planted = many([*published, ("publish", {"step": 6, "signed": True, "plant": True})], folder)
    all_refused(planted, "VerifyError", "'norm.weight'", "on rank 1")
    assert not (folder / "step-6-0").exists()
    assert len({(folder / f"step-4-{rank}").read_bytes() for rank in range(4)}) == 1

    refused = [
        ({"steps": [4], "message": 3}, ["stale: step 3, and 4 is waited for"]),
        ({"steps": [3], "message": 4}, ["of a later step: step 4, and 3 is waited for"]),
        ({"steps": [3], "run": "grpo-2"}, ["of the run 'grpo-1', and 'grpo-2' is waited for"]),
        ({"steps": [3], "change": "o.weight"}, ["rank 1", "'o.weight'"]),
        ({"steps": [3], "change": "uneven.weight"}, ["'uneven.weight'"]),
        ({"steps": [3], "change": "without mask"}, ["no rank has 'mask'"]),
        ({"steps": [3], "alter": True}, ["rank"]),
        ({"steps": [3], "signed": False}, ["a policy"]),
        ({"steps": [3], "cut": 100_000}, ["this is no message"]),
        ({"steps": [5]}, ["the message is not signed"]),
        # Step 4 was accepted meanwhile, of these weights.
        ({"steps": [4, 3]}, ["step 3 of 'grpo-1' is stale: step 4 was accepted"]),
    ]
    refused.append(({"steps": [4, "4b"]}, ["step 4 of 'grpo-1' was accepted already, with other weights"]))
    accepted = [{"steps": [3, 4, 4]}, {"steps": [5], "signed": False}]
    asked = [{"steps": [3, 3]}, *[arguments for arguments, _ in refused], *accepted]
    first, *said = many([("receive", arguments) for arguments in asked], folder, world=2)
    got = all_agreed(first)
    assert [one["tensors"] for one in got] == [11, 11] and "key" in got[0]["identity"]
    for (_, words), one in zip(refused, said):
        all_refused(one, "VerifyError", *words)
    # What was accepted stays: step 3 is stale now.
    all_refused(said[-2], "VerifyError", "stale")
    assert "not signed" in all_agreed(said[-1])[0]["identity"]


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


def test_importing_it_does_not_import_torch():
    code = "import sys, tensorseal.distributed as d; d.save_and_sign; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_errors_of_ranks_travel_between_processes():
    import pickle

    from tensorseal.distributed import RankError

    error = pickle.loads(pickle.dumps(RankError("rank 3 went silent", [3])))
    assert (str(error), error.ranks, error.kind) == ("rank 3 went silent", [3], "rank")
