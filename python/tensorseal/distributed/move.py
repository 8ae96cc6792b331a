"""Parts of tensors from rank to rank, by the process group that the training has: gloo through host memory, NCCL on devices.

All ranks go through the same jobs in the same rounds. In a round each pair of ranks exchanges one message at most, of all
parts that the one has for the other. Who sends keeps no more than a round's parts, who gathers no more than a round's boxes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from ..errors import UsageError
from .control import Control, RankError
from .layout import Box, Held, element_bytes
from .plan import Job, rounds

_ALIGN = 16


class Mover:
    """Moves parts of what the ranks hold."""

    def __init__(self, control: Control, held: dict[str, Held], dtypes: dict[str, str]) -> None:
        self._control, self._held, self._dtypes = control, held, dtypes
        self._tag = 0
        self._device: Any = None

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
        """Does all jobs, which have to be the same on all ranks; gives those that are for this rank, with their bytes.

        The bytes are a contiguous tensor of `uint8` in host memory, in C order. To be gone through to the end by all ranks.
        """
        for now in rounds(jobs):
            self._control.look()
            got = self._exchange(now)
            for number, job in enumerate(now):
                if job.to == self._control.rank:
                    yield job, self._assemble(number, job, got)

    def _width(self, job: Job) -> int:
        return element_bytes(self._dtypes[job.name])

    def _bytes(self, name: str, box: Box) -> Any:
        """A part that is held here, as bytes: a row of the last dimension is `width` times as long."""
        import torch

        part = self._held[name].part(box)
        part = part.reshape(1) if part.dim() == 0 else part
        return part.contiguous().view(torch.uint8)

    def _assemble(self, number: int, job: Job, got: dict[tuple[int, int], Any]) -> Any:
        import torch

        width = self._width(job)
        box = job.box or ((0, 1),)
        sizes = [end - first for first, end in box]
        out = torch.empty([*sizes[:-1], sizes[-1] * width], dtype=torch.uint8)
        for index, (rank, part) in enumerate(job.parts):
            at = [slice(p[0] - b[0], p[1] - b[0]) for p, b in zip(part or ((0, 1),), box)]
            at[-1] = slice(at[-1].start * width, at[-1].stop * width)
            into = out[tuple(at)]
            if rank == self._control.rank:
                into.copy_(self._bytes(job.name, part))
            else:
                into.copy_(got[number, index].view(into.shape))
        return out.view(-1)

    def _exchange(self, jobs: list[Job]) -> dict[tuple[int, int], Any]:
        """The parts that others have for this rank in these jobs, by job and part."""
        import torch
        import torch.distributed as dist

        me = self._control.rank
        sends: dict[int, list[Any]] = {}
        wants: dict[int, list[tuple[tuple[int, int], int]]] = {}
        for number, job in enumerate(jobs):
            for index, (rank, part) in enumerate(job.parts):
                if rank == me and job.to != me:
                    sends.setdefault(job.to, []).append(self._bytes(job.name, part))
                elif rank != me and job.to == me:
                    size = self._width(job)
                    for first, end in part:
                        size *= end - first
                    wants.setdefault(rank, []).append(((number, index), size))
        self._tag += 1
        if not any(rank != job.to for job in jobs for rank, _ in job.parts):
            return {}
        device = self._transport()
        group, names = self._control.group, self._control.names
        operations, peers, arrived = [], [], {}
        for rank, parts in sorted(sends.items()):
            message = _packed(parts, device)
            operations.append(dist.P2POp(dist.isend, message, names[rank], group, self._tag))
            peers.append(rank)
        for rank, parts in sorted(wants.items()):
            arrived[rank] = torch.empty(sum(_aligned(size) for _, size in parts), dtype=torch.uint8, device=device)
            operations.append(dist.P2POp(dist.irecv, arrived[rank], names[rank], group, self._tag))
            peers.append(rank)
        if operations:
            self._wait(operations, peers)
        got = {}
        for rank, parts in wants.items():
            message, at = arrived[rank].cpu(), 0
            for key, size in parts:
                got[key] = message[at : at + size]
                at += _aligned(size)
        return got

    def _transport(self) -> Any:
        """The device that messages go by: the host's memory if the group has a backend for it."""
        import torch
        import torch.distributed as dist

        if self._device is None:
            backends = dist.get_backend_config(self._control.group)
            kinds = dict(one.split(":") for one in str(backends).split(",") if ":" in one)
            if kinds.get("cpu") == "gloo":
                self._device = torch.device("cpu")
            elif kinds.get("cuda") == "nccl":
                self._device = torch.device("cuda", torch.cuda.current_device())
                # NCCL makes its connections in the first call, in which all ranks have to take part.
                dist.all_reduce(torch.zeros(1, device=self._device), group=self._control.group)
            else:
                raise UsageError(f"parts of tensors cannot be sent by {backends}: give a group with gloo or NCCL")
        return self._device

    def _wait(self, operations: list[Any], peers: list[int]) -> None:
        """Starts operations and waits until all are done, or somebody is lost, or has ended the call."""
        import torch.distributed as dist

        failed: list[tuple[int, Exception]] = []
        patience = timedelta(seconds=self._control.patience)
        done = threading.Event()

        try:
            works = dist.batch_isend_irecv(operations)
        except RuntimeError as error:
            self._lost(peers, error)
        nccl = self._device.type == "cuda"

        def wait() -> None:
            # A work of gloo is only ever done if somebody waits for it, who can then do nothing else.
            for number, work in enumerate(works):
                try:
                    work.wait(patience)
                except RuntimeError as error:
                    failed.append((peers[number], error))
                    break
            done.set()

        if nccl:
            self._control.wait_for(lambda: all(work.is_completed() for work in works))
            return
        threading.Thread(target=wait, name="tensorseal-exchange", daemon=True).start()
        if not done.wait(0.002):
            self._control.wait_for(done.is_set)
        if failed:
            self._lost([failed[0][0]], failed[0][1])

    def _lost(self, peers: list[int], error: Exception) -> None:
        """Raises for an exchange that failed: what the others say of it, if they do, or else the error itself."""
        # Either the peer has ended the call, and says why; or its beats stop; or it is only the connection that broke.
        end = time.monotonic() + self._control.timeout * 0.7
        self._control.wait_for(lambda: time.monotonic() >= end)
        raise RankError(
            f"the exchange of parts with {self._control.ranks(sorted(set(peers)))} failed: {str(error).splitlines()[0]}",
            [self._control.names[rank] for rank in sorted(set(peers))],
        ) from error


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _packed(parts: list[Any], device: Any) -> Any:
    """Parts one after the other, each at a multiple of 16 bytes."""
    import torch

    message = torch.zeros(sum(_aligned(part.numel()) for part in parts), dtype=torch.uint8, device=device)
    at = 0
    for part in parts:
        message[at : at + part.numel()].copy_(part.reshape(-1))
        at += _aligned(part.numel())
    return message
