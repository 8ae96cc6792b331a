"""Signing what is spread over ranks: written once, hashed by all who hold it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import _native, training
from .._lend import lend
from .._safetensors import INDEX, is_stale, size_of
from ..errors import Difference, UsageError, VerifyError
from ..who import Path as AnyPath
from ..who import Signing, path_of, signing
from .compare import Leaves
from .control import Control, together
from .files import File, digest_of, files_of
from .layout import held_here
from .measure import Measured, cut_tiles, own_tiles
from .move import Mover
from .plan import Tensor, agree, agreed_twins, dump, gather_tensor, load, same_plan, say_box, uncovered
from .tied import without_tied

_log = logging.getLogger("tensorseal.distributed")


@dataclass(frozen=True)
class SignedAcross:
    """What was signed; the same on all ranks."""

    bundle: str
    """The path of the signature."""
    root: str
    """The digest of all that is signed."""
    files: tuple[str, ...]
    """The files of tensors that were written."""
    tensors: int
    tiles: int
    copies: int
    """Tiles of which another rank holds a copy: each was hashed, too, and found to be the same."""
    bytes: int
    """Of all tensors."""


def save_and_sign(
    state_dict: Mapping[str, Any],
    dir: AnyPath,
    *,
    signer: Signing,
    group: Any = None,
    bundle: AnyPath | None = None,
    max_shard_size: int | str = "5GB",
    metadata: Mapping[str, str] | None = None,
    discard: Collection[str] = (),
    timeout: float = 30.0,
    patience: float = 600.0,
) -> SignedAcross:
    """Writes a state dict over ranks as safetensors files into the folder `dir`, and signs the folder.

    All ranks of `group` call it with the same arguments, each with what it holds: DTensors of any placement but partial ones,
    and plain tensors, of which a rank may have others than the next. `dir` is one folder that all ranks see. Other files in it
    (a configuration, a tokenizer) are signed with the tensors.

    Each file is written by one rank, which hashes what it writes. Every rank hashes the tiles of its own shards where they
    lie. Rank 0 signs if both are the same, down to the last tile, and so are all copies. `signer` is used by rank 0 alone.
    Files, `max_shard_size`, `metadata`, tied weights with `discard`, and `bundle` are as in `tensorseal.save_and_sign`.

    A rank that is silent for half of `timeout` seconds is lost, and the others end with an error that names it within
    `timeout`. `patience` bounds one step of a rank that lives: writing a file down, a person who logs in to sign.

    Raises, the same on all ranks, `VerifyError` if files or copies are not what the ranks hold, `RankError` for lost ranks and
    whatever else a rank failed of, `UsageError` for arguments that differ or tensors that nobody holds whole.
    """

    def body(control: Control) -> SignedAcross:
        held, removed = without_tied(held_here(state_dict), discard)
        folder = Path(os.path.abspath(path_of(dir)))
        target = Path(os.path.abspath(path_of(bundle))) if bundle is not None else folder / "model.sig"
        most = size_of(max_shard_size)
        said = {"format": "pt"} if metadata is None else dict(metadata)
        terms = {"dir": str(folder), "bundle": str(target), "max_shard_size": most, "metadata": said, "discard": sorted(discard)}
        tensors = agree(control, held, terms)
        twins = agreed_twins(control, removed, discard)
        for name, tensor in tensors.items():
            if (hole := uncovered(tensor)) is not None:
                raise UsageError(f"no rank holds the elements {say_box(hole)} of {name!r}: give all ranks of the model")
        if not any(tensor.nbytes for tensor in tensors.values()):
            raise UsageError("all tensors of the state dict are empty: a signature over them would cover nothing")
        files = files_of(tensors, most, said | twins, control.size)
        same_plan(control, "plan of files", digest_of(files))
        control.decide(b"", lambda _: _prepare(folder, signer))

        mover = Mover(control, held, {name: tensor.dtype for name, tensor in tensors.items()})
        measured = Measured(own_tiles(control, held, tensors), cut_tiles(control, mover, tensors))
        _write(control, mover, folder, files, tensors, finished)

        mine = {"measured": measured.to_wire(), "files": {file: _tensors_of(one) for file, one in finished.items()}}
        compared: dict[str, list[str]] = {}
        decided = control.decide(
            dump(mine), lambda all_of_them: _compare(control, all_of_them, files, tensors, folder, target, compared)
        )
        written = [one.publish().to_bytes() for one in finished.values()]
        try:
            signed = control.decide(
                _pack(written),
                lambda all_of_them: _sign(control, all_of_them, folder, target, signer, files, tensors, compared, load(decided)),
            )
        except BaseException:
            # Who waited for the signature may have given up meanwhile: what is an error on the others leaves none here.
            if control.rank == 0:
                _native.withdraw(folder, target)
            raise
        answer = load(signed)
        return SignedAcross(**{**answer, "files": tuple(answer["files"])})

    finished: dict[str, Any] = {}
    try:
        return together("save_and_sign", group, timeout, patience, body)
    finally:
        # What was published is not there any more; what was not goes.
        for file in finished.values():
            file.discard()


def _tensors_of(finished: Any) -> dict[str, tuple[str, list[int], list[str]]]:
    """Type, shape and the digests of the tiles of each tensor of a file, as it was written."""
    of = finished.tensors or {}
    return {name: (dtype, list(shape), [tiles[tile] for tile in sorted(tiles)]) for name, (dtype, shape, tiles) in of.items()}


def _prepare(folder: Path, signer: Signing) -> bytes:
    """Makes the folder fit to be written to."""
    # Who cannot sign should say so before hours of writing.
    signing(signer)
    folder.mkdir(parents=True, exist_ok=True)
    _native.sweep(folder)
    return b""


def _write(
    control: Control,
    mover: Mover,
    folder: Path,
    files: list[File],
    tensors: Mapping[str, Tensor],
    finished: dict[str, Any],
) -> None:
    """Writes the files that are this rank's, under temporary names; each goes to `finished`, with what was hashed meanwhile."""
    waiting = [file for file in files if file.writer == control.rank]
    home = {name: file for file in waiting for name in file.tensors}
    jobs = [job for file in files for name in file.tensors for job in gather_tensor(name, tensors[name], file.writer)]
    writer: Any = None

    def begin() -> None:
        nonlocal writer
        writer = _native.Writer(folder, waiting[0].name, waiting[0].size, tensors=waiting[0].name != INDEX)
        writer.write(lend(waiting[0].header, name="header"))

    def end() -> None:
        nonlocal writer
        if writer is None:
            begin()
        control.look()
        finished[waiting.pop(0).name] = writer.finish()
        writer = None

    try:
        # The files of a rank come one after the other, and their bytes in order, since rounds keep the order of jobs.
        for job, data in mover.run(jobs):
            while waiting[0] is not home[job.name]:
                end()
            if writer is None:
                begin()
            writer.write(lend(data, name=job.name))
        while waiting:
            end()
    finally:
        if writer is not None:
            writer.discard()


def _compare(
    control: Control,
    brought: list[bytes],
    files: list[File],
    tensors: dict[str, Tensor],
    folder: Path,
    target: Path,
    expected: dict[str, list[str]],
) -> bytes:
    """Rank 0, before anything gets its name: the tiles of the files are those of the ranks, and there is no other. They go
    to `expected`."""
    ranks = [load(one) for one in brought]
    leaves = Leaves(control, [Measured.from_wire(one["measured"]) for one in ranks])
    source: dict[str, str] = {}
    for rank, one in enumerate(ranks):
        own = {file.name: file.tensors for file in files if file.writer == rank}
        if {file: set(of) for file, of in one["files"].items()} != {file: set(of) for file, of in own.items()}:
            raise _otherwise(f"{control.ranks([rank])} wrote other files, or other tensors into them, than it was to", sorted(own))
        for file, of in one["files"].items():
            for name, (dtype, shape, tiles) in of.items():
                if (dtype, tuple(shape)) != (tensors[name].dtype, tensors[name].shape):
                    what = f"{tensors[name].dtype} {list(tensors[name].shape)} in memory, and {dtype} {shape}"
                    raise _otherwise(f"{name!r} is {what} in {file!r} as {control.ranks([rank])} wrote it", [name])
                expected[name] = tiles
                source[name] = f"in {file!r} as {control.ranks([rank])} wrote it"
    unwritten = [name for name, tensor in tensors.items() if len(expected.get(name, ())) != tensor.grid.tiles]
    if unwritten:
        raise UsageError(f"the files have no digests of the tiles of {unwritten[0]!r}: is the same version installed everywhere?")
    leaves.against(expected, source, "memory and files differ, or copies of a tensor do, and nothing was signed")
    leaves.covered(tensors)
    # An older signature is gone before the first file that it was about is replaced. Older shards would be signed, too.
    for old in {target, folder / "model.sig"}:
        _native.withdraw(folder, old)
    planned = {file.name for file in files}
    for path in sorted(folder.iterdir()):
        if is_stale(path.name, planned):
            path.unlink()
    return dump({"copies": leaves.copies(), "tiles": sum(map(len, expected.values()))})


def _otherwise(why: str, names: list[str]) -> VerifyError:
    return VerifyError(
        f"written bytes differ: {why}. Nothing was signed",
        kind="written-bytes-differ",
        differences=[Difference(name, "miswritten") for name in names],
    )


def _pack(parts: list[bytes]) -> bytes:
    return json.dumps([part.hex() for part in parts]).encode()


def _published(
    control: Control,
    brought: list[bytes],
    folder: Path,
    files: list[File],
    tensors: Mapping[str, Tensor],
    compared: Mapping[str, list[str]],
) -> list[_native.Written]:
    """What the ranks published: all planned files, each by its writer, with the tensors that were compared, behind the header
    that all ranks made. Tiles are of the tensors alone, so the headers are looked at where they lie."""
    planned = {file.name: file for file in files}
    found = []
    for rank, one in enumerate(brought):
        for part in json.loads(one):
            written = _native.Written.from_bytes(bytes.fromhex(part))
            file = planned.pop(written.name, None)
            if file is None or (file.writer, file.size) != (rank, written.size) or set(written.tensors or ()) != set(file.tensors):
                raise _otherwise(f"{written.name!r} as {control.ranks([rank])} published it was not to be written", [written.name])
            tiles = {name: dict(enumerate(compared[name])) for name in file.tensors}
            written.compare({name: (tensors[name].dtype, tensors[name].shape, of) for name, of in tiles.items()})
            with (folder / file.name).open("rb") as opened:
                if opened.read(len(file.header)) != file.header:
                    raise _otherwise(f"the header of {file.name!r}, which {control.ranks([rank])} wrote, is another", [file.name])
            found.append(written)
    if planned:
        raise _otherwise(f"{min(planned)!r} was not published", sorted(planned))
    return found


def _sign(
    control: Control,
    brought: list[bytes],
    folder: Path,
    target: Path,
    signer: Signing,
    files: list[File],
    tensors: Mapping[str, Tensor],
    compared: Mapping[str, list[str]],
    counts: dict[str, int],
) -> bytes:
    """Rank 0, when all files have their names."""
    written = _published(control, brought, folder, files, tensors, compared)
    signed = training.sign_written(str(folder), written, target=str(target), who=signing(signer), tensors=True)
    _log.info("%d tensors over %d ranks are in it", len(tensors), len(brought))
    answer = SignedAcross(
        bundle=str(target),
        root=signed.root,
        files=tuple(file.name for file in files if file.name != INDEX),
        tensors=len(tensors),
        tiles=counts["tiles"],
        copies=counts["copies"],
        bytes=sum(tensor.nbytes for tensor in tensors.values()),
    )
    return dump(asdict(answer))
