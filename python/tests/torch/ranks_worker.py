"""What the processes of test_distributed.py do: each function is a scenario that every rank runs."""

import json
import os
import signal
import time
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch._dynamo  # imported by DTensor when it is first used: a second, in each process
import torch.distributed as dist
from tensorseal.errors import TensorsealError
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

ROOT = Path(__file__).resolve().parents[3]
SHORT = 6.0
"""A timeout for tests in which ranks die: half of it is what they wait for."""


BREAKING = {"sign_with_tiles_left_out", "sign_in_small_rounds", "sign_with_a_change_before_writing", "other_plan", "failing_disk", "lose", "check_rows", "sign_with_a_lie", "sign_slowly"}
"""Scenarios that change this package for a while."""


def full_tensors() -> dict[str, torch.Tensor]:
    """The model, whole: the same on every rank, whatever is done with it there."""
    random = torch.Generator().manual_seed(6)
    return {
        "embed.weight": torch.randn(64, 32, generator=random).to(torch.bfloat16),
        "lm_head.weight": torch.randn(64, 32, generator=random).to(torch.bfloat16),
        "q.weight": torch.randn(32, 64, generator=random),
        "o.weight": torch.randn(32, 64, generator=random),
        "norm.weight": torch.randn(33, generator=random).to(torch.float16),
        "uneven.weight": torch.randn(9, 6, generator=random),
        "experts.weight": torch.randn(16, 16, generator=random).to(torch.float8_e4m3fn),
        "scale": torch.tensor(0.5),
        "mask": torch.tensor([True, False, True]),
        "none": torch.empty(0, 4),
        "none.sharded": torch.empty(0, 4),
    }


PLACED = {
    "embed.weight": Shard(0),
    "lm_head.weight": Shard(0),
    "q.weight": Shard(0),
    "o.weight": Shard(1),
    "norm.weight": Replicate(),
    "uneven.weight": Shard(0),
    "experts.weight": Shard(1),
    "none.sharded": Shard(1),
}


def state(*leading: Replicate) -> dict[str, torch.Tensor]:
    """The model over all ranks, or over the last dimension of a mesh with copies in the first ones."""
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (2, world // 2) if leading else (world,))
    placed = {}
    for name, tensor in full_tensors().items():
        if name in PLACED:
            placed[name] = distribute_tensor(tensor.clone(), mesh, [*leading, PLACED[name]], src_data_rank=None)
        else:
            placed[name] = tensor.clone()
    return placed


def flip(tensor: torch.Tensor) -> None:
    """One bit of the first byte of what this rank has of it."""
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    local.view(torch.uint8).view(-1)[0] ^= 1


def signer(keys: list[str]):
    from tensorseal import KeySigner

    return KeySigner(keys[0])


def policy(keys: list[str]):
    from tensorseal import Key

    return Key(keys[1])


def _plain(value: object) -> object:
    from dataclasses import asdict

    return asdict(value)


def save(folder: str, keys: list[str], **options: object) -> object:
    from tensorseal.distributed import save_and_sign

    weights = options.pop("weights", None) or state()
    return _plain(save_and_sign(weights, folder, signer=signer(keys), max_shard_size=6000, **options))


def sign(folder: str, keys: list[str]) -> object:
    return save(folder, keys)


def sign_with_tiles_left_out(folder: str, keys: list[str], patch: pytest.MonkeyPatch) -> object:
    """A rank that does not hash what it holds."""
    from tensorseal.distributed import saving

    hashed = saving.own_tiles
    if dist.get_rank() == 2:
        patch.setattr(saving, "own_tiles", lambda *all_of_it: {**hashed(*all_of_it), "q.weight": {}})
    return save(folder, keys)


def sign_in_small_rounds(folder: str, keys: list[str], patch: pytest.MonkeyPatch) -> object:
    """As if each of these tensors were larger than what is gathered at a time."""
    from tensorseal.distributed import plan

    patch.setattr(plan, "ROUND_BYTES", 500)
    return save(folder, keys)


def sign_with_copies(folder: str, keys: list[str]) -> object:
    return save(folder, keys, weights=state(Replicate()))


def check(folder: str, keys: list[str], weights: dict[str, torch.Tensor] | None = None, **options: object) -> object:
    from tensorseal.distributed import verify

    return _plain(verify(weights or state(), model=folder, policy=policy(keys), **options))


def check_with_copies(folder: str, keys: list[str]) -> object:
    return check(folder, keys, state(Replicate()))


def check_by_a_part_of_the_ranks(folder: str, keys: list[str]) -> object:
    """Two of four ranks have the model; the others go on with something else."""
    group = dist.new_group([1, 3])
    store = dist.distributed_c10d._get_default_store()
    if dist.get_rank() not in (1, 3):
        # Rank 0 holds the store, so it has to stay.
        store.wait(["over1", "over3"])
        return None
    whole = full_tensors()
    if dist.get_rank() == 3:
        flip(whole["q.weight"])
    try:
        return check(folder, keys, whole, group=group)
    finally:
        store.set(f"over{dist.get_rank()}", "")


class Tiny(torch.nn.Module):
    """Sizes that no number of ranks divides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a = torch.nn.Linear(10, 18)
        self.b = torch.nn.Linear(18, 7, bias=False)


def fsdp_model(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    model = Tiny()
    names = ("replicate", "shard")[-len(shape) :]
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    fully_shard(model.a, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model.state_dict()


def sign_fsdp(folder: str, keys: list[str], shape: list[int]) -> object:
    return save(folder, keys, weights=fsdp_model(tuple(shape)))


def check_fsdp(folder: str, keys: list[str], shape: list[int]) -> object:
    return check(folder, keys, fsdp_model(tuple(shape)))


def sign_fsdp_over_tp(folder: str, keys: list[str]) -> object:
    """What FSDP2 makes of weights that tensor parallelism cut along the same dimension: strided shards."""
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    model = Tiny()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    parallelize_module(model, mesh["tp"], {"a": ColwiseParallel(), "b": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    return save(folder, keys, weights=model.state_dict())


def sign_tied(folder: str, keys: list[str], discard: list[str]) -> object:
    """The head is the embedding; rank 2 and 3 have no row of another tensor, tied to a third."""
    weights = state()
    weights["lm_head.weight"] = weights["embed.weight"]
    mesh = weights["embed.weight"].device_mesh
    weights["few.weight"] = distribute_tensor(torch.arange(6.0).view(2, 3), mesh, [Shard(0)], src_data_rank=None)
    weights["few.again"] = weights["few.weight"]
    return save(folder, keys, weights=weights, discard=discard)


def sign_with_a_changed_copy(folder: str, keys: list[str]) -> object:
    weights = state()
    if dist.get_rank() == 2:
        flip(weights["norm.weight"])
    return save(folder, keys, weights=weights)


def sign_with_a_changed_part_of_a_copy(folder: str, keys: list[str]) -> object:
    """Rows of a cut tile, of which two ranks have copies."""
    weights = state(Replicate())
    if dist.get_rank() == 3:
        flip(weights["uneven.weight"])
    return save(folder, keys, weights=weights)


def sign_with_a_change_before_writing(folder: str, keys: list[str], name: str, patch: pytest.MonkeyPatch) -> object:
    """A bit flips after the tiles were taken where they lie, and before the file is written."""
    from tensorseal.distributed import saving

    weights, write = state(), saving._write

    def late(*arguments: object) -> object:
        if dist.get_rank() == 1:
            flip(weights[name])
        return write(*arguments)

    patch.setattr(saving, "_write", late)
    return save(folder, keys, weights=weights)


def sign_with_a_lie(folder: str, keys: list[str], lie: str, patch: pytest.MonkeyPatch) -> object:
    """Rank 1 writes another header than was planned, or other files than it had compared."""
    from dataclasses import replace

    from tensorseal import _native
    from tensorseal.distributed import saving

    write = saving._write
    headers = {"metadata": (b'"format":"pt"', b'"format":"np"'), "type": (b'"F32"', b'"I32"'), "shape": (b"[32,64]", b"[64,32]")}

    def other_headers(control: object, mover: object, folder: Path, files: list, *more: object) -> None:
        files = [replace(file, header=file.header.replace(*headers[lie])) if file.writer == 1 else file for file in files]
        write(control, mover, folder, files, *more)

    def other_files(parts: list[bytes]) -> bytes:
        lies = []
        for part in parts:
            name = _native.Written.from_bytes(part).name
            data = bytearray(Path(folder, name).read_bytes())
            data[-1] ^= 1
            Path(folder, name).write_bytes(data)
            lies.append(_native.Written.of_file(folder, name, tensors=True).to_bytes())
        return pack(lies)

    pack = saving._pack
    if dist.get_rank() == 1:
        if lie in headers:
            patch.setattr(saving, "_write", other_headers)
        elif lie == "files":
            patch.setattr(saving, "_pack", other_files)
        elif lie == "fewer":
            patch.setattr(saving, "_pack", lambda parts: pack(parts[1:]))
    return save(folder, keys)


def sign_slowly(folder: str, keys: list[str], patch: pytest.MonkeyPatch) -> object:
    """Rank 0 lives, and signs when the others have lost patience."""
    from tensorseal import training

    sign_written = training.sign_written

    def slow(*arguments: object, **named: object) -> object:
        signed = sign_written(*arguments, **named)
        time.sleep(5)
        return signed

    patch.setattr(training, "sign_written", slow)
    return save(folder, keys, timeout=3.0, patience=3.0)


def sign_nothing(folder: str, keys: list[str]) -> object:
    return save(folder, keys, weights={"none": torch.empty(0, 4)})


def check_with_a_change(folder: str, keys: list[str], name: str, ranks: list[int]) -> object:
    weights = state()
    if dist.get_rank() in ranks:
        flip(weights[name])
    return check(folder, keys, weights)


def check_without(folder: str, keys: list[str], name: str, absent: dict[str, str] | None = None) -> object:
    weights = state()
    del weights[name]
    return check(folder, keys, weights, absent=absent)


def check_a_part(folder: str, keys: list[str]) -> object:
    """24 of 32 rows, as if these were all: a tensor of another shape than was signed."""
    rows = full_tensors()["q.weight"][:24]
    mesh = init_device_mesh("cpu", (4,))
    return check(folder, keys, state() | {"q.weight": distribute_tensor(rows, mesh, [Shard(0)], src_data_rank=None)})


def check_rows(folder: str, keys: list[str], patch: pytest.MonkeyPatch) -> object:
    """Of a tensor over two ranks one half is not shown."""
    from tensorseal.distributed import checking
    from tensorseal.distributed.layout import Held

    real = checking.held_here

    def half(weights: dict[str, torch.Tensor]) -> dict[str, Held]:
        held = real(weights)
        if dist.get_rank() == 0:
            held["q.weight"] = Held("F32", (32, 64), held["q.weight"].mesh, ())
        return held

    patch.setattr(checking, "held_here", half)
    return check(folder, keys)


def check_by_another_policy(folder: str, keys: list[str], public: str) -> object:
    return check(folder, [keys[0], public])


def check_an_unknown(folder: str, keys: list[str]) -> object:
    weights = state()
    if dist.get_rank() == 2:
        weights["extra"] = torch.zeros(3)
    return check(folder, keys, weights)


def other_arguments(folder: str, keys: list[str]) -> object:
    from tensorseal.distributed import save_and_sign

    size = 7000 if dist.get_rank() == 2 else 6000
    return _plain(save_and_sign(state(), folder, signer=signer(keys), max_shard_size=size))


def other_type(folder: str, keys: list[str]) -> object:
    weights = state()
    if dist.get_rank() == 1:
        weights["scale"] = weights["scale"].to(torch.float16)
    return save(folder, keys, weights=weights)


def lacking_a_shard(folder: str, keys: list[str]) -> object:
    weights = state()
    if dist.get_rank() == 3:
        del weights["o.weight"]
    return save(folder, keys, weights=weights)


def partial(folder: str, keys: list[str]) -> object:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return save(folder, keys, weights={"grad": DTensor.from_local(torch.ones(4), mesh, [Partial()])})


def other_plan(folder: str, keys: list[str], patch: pytest.MonkeyPatch) -> object:
    """A rank with another version, say, of this package."""
    from tensorseal.distributed import saving

    if dist.get_rank() == 2:
        patch.setattr(saving, "digest_of", lambda files: "0" * 64)
    return save(folder, keys)


def failing_disk(folder: str, keys: list[str], patch: pytest.MonkeyPatch) -> object:
    from tensorseal.distributed import saving

    if dist.get_rank() == 3:

        def full(*arguments: object) -> object:
            # The others are waiting by now for what this rank has.
            time.sleep(0.5)
            raise OSError(28, "No space left on device")

        patch.setattr(saving, "_write", full)
    return save(folder, keys)


def lose(folder: str, keys: list[str], rank: int, when: str, how: str, patch: pytest.MonkeyPatch) -> object:
    """A rank is killed, or stopped, while it hashes tiles, writes, or waits for the verdict."""
    from tensorseal.distributed import measure, saving
    from tensorseal.distributed.control import Control

    def end(*_: object, **__: object) -> object:
        if how == "sleep":
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        raise AssertionError("still alive")

    if dist.get_rank() == rank:
        if when == "tiles":
            patch.setattr(measure, "gather_tiles", end)
        elif when == "moving":
            patch.setattr(saving.Mover, "_wait", end)
        elif when == "writing":
            patch.setattr(saving._native, "Writer", end)
        elif when == "verdict":
            decide = Control.decide

            def last_but_one(self: Control, *arguments: object) -> bytes:
                # Behind listings, tied weights, plan and folder: tiles and files are compared.
                return end() if self._step == 4 else decide(self, *arguments)

            patch.setattr(Control, "decide", last_but_one)
        elif when == "never":
            end()
        elif when == "stuck":
            patch.setattr(saving, "_write", end)
    patience = SHORT if how == "sleep" else 60.0
    return save(folder, keys, timeout=SHORT, patience=patience)


def publish(folder: str, keys: list[str], step: int, signed: bool, plant: bool = False, other: str = "") -> object:
    from tensorseal.distributed import publish

    weights = state()
    if other:
        weights["scale"] = torch.tensor(0.25)
    if plant and dist.get_rank() == 1:
        flip(weights["norm.weight"])
    message = publish(weights, step=step, run="grpo-1", signer=signer(keys) if signed else None)
    Path(folder, f"step-{step}{other}-{dist.get_rank()}").write_bytes(message)
    return len(message)


def receive(folder: str, keys: list[str], steps: list[int], signed: bool = True, change: str = "", **options: object) -> object:
    from tensorseal.distributed import receive

    got = []
    for step in steps:
        weights = state()
        if str(step).endswith("b"):
            weights["scale"] = torch.tensor(0.25)
        if change.startswith("without "):
            del weights[change.removeprefix("without ")]
        elif change and dist.get_rank() == 1:
            flip(weights[change])
        message = Path(folder, f"step-{options.get('message', step)}-0").read_bytes()
        if options.get("cut"):
            message = message[: -options["cut"]]
        if options.get("alter"):
            message = message.replace(b'"step":', b'"step": ')
        run = options.get("run", "grpo-1")
        number = int(str(step).rstrip("b"))
        got.append(_plain(receive(message, weights, step=number, run=run, policy=policy(keys) if signed else None)))
    return got


def keys_of_the_store(folder: str, keys: list[str]) -> object:
    return dist.distributed_c10d._get_default_store().num_keys()


def main(rank: int, world: int, port: int, hosted: bool, scenarios: list[tuple[str, dict]], out: str) -> None:
    """One process: what came of each scenario is written to a file."""
    torch.set_num_threads(1)
    minute = timedelta(seconds=60)
    # Rank 0 holds the store, or somebody else does, as torchrun's agent.
    store = dist.TCPStore("127.0.0.1", port, is_master=not hosted and rank == 0, timeout=minute)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=minute)
    for number, (scenario, arguments) in enumerate(scenarios):
        said = _said(scenario, arguments)
        path = Path(out, f"{number}-{rank}.json")
        path.with_suffix(".new").write_text(json.dumps(said))
        path.with_suffix(".new").rename(path)
    if "error" in said:
        # Threads of torch that wait for the dead would hold up the end.
        os._exit(1)
    dist.destroy_process_group()


def _said(scenario: str, arguments: dict) -> dict:
    began = time.monotonic()
    said: dict = {}
    # Some scenarios break this process in one place; the next one finds it whole.
    with pytest.MonkeyPatch.context() as patch:
        try:
            said["value"] = globals()[scenario](**arguments, **({"patch": patch} if scenario in BREAKING else {}))
        except Exception as error:
            said["error"] = type(error).__name__
            said["kinds"] = [kind.__name__ for kind in type(error).__mro__]
            said["message"] = str(error) if isinstance(error, TensorsealError) else traceback.format_exc()
            said["ranks"] = getattr(error, "ranks", None)
            said["differing"] = sorted({one.name for one in getattr(error, "differences", ())})
    said["seconds"] = time.monotonic() - began
    return said
