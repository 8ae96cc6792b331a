"""Verifying what is spread over ranks, in whatever way: each rank its own part, all of them together the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from ..errors import VerifyError
from ..who import Path, Trusted
from .compare import Leaves
from .control import Control, difference_of, together
from .layout import Held, element_bytes, held_here
from .measure import Measured, cut_tiles
from .move import Mover
from .plan import Tensor, agree, dump, load


@dataclass(frozen=True)
class VerifiedAcross:
    """What was found to be as signed, at the time of the call; the same on all ranks."""

    identity: str
    """Who signed, as the policy found."""
    root: str
    """The digest of the signed manifest of files, in hex; of a refit, SHA-256 of the message."""
    tensors: int
    tiles: int
    copies: int
    """Tiles that were checked on more than one rank count here once for each further one."""
    bytes: int
    """Of tensors that were checked, each byte counted once."""
    absent: dict[str, str]
    """Signed tensors that no rank holds, and the reasons that were given for it."""


def verify(
    state_dict: Mapping[str, Any],
    *,
    model: Path,
    bundle: Path | Iterable[Path] | None = None,
    policy: Trusted | Path,
    group: Any = None,
    absent: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    patience: float = 600.0,
) -> VerifiedAcross:
    """Checks tensors that are spread over ranks against the signed tensor manifest of `model`. One verdict for all.

    All ranks of `group` call it, each with what it holds, in whatever layout: it need not be that of signing. Names, types and shapes
    are those of the signed tensors. Every rank checks the signature and its own slices where they lie. A tile that several
    ranks have parts of is put together by one of them. Together they have to have all signed tensors, but for those that
    `absent` names, with a reason for each.

    The files of the model are not read, but for the tensor manifest: `tensorseal.verify` is for files.

    A rank that is silent for half of `timeout` seconds is lost, and the others end with an error that names it within
    `timeout`. `patience` bounds one step of a rank that lives.

    Raises, the same on all ranks: `VerifyError` if the signature does not count, a tile differs, or a tensor is unsigned or
    missing, with rank and tensor; `RankError` for lost ranks and whatever else a rank failed of; `UsageError`.
    """

    def body(control: Control) -> VerifiedAcross:
        from .._signed import Slice, signed

        held = held_here(state_dict)
        vouched = signed(model, bundle=bundle, policy=policy)
        manifest = vouched.tensor_manifest()
        if manifest is None:
            raise VerifyError(
                "no tensor manifest is signed with this model, so it vouches for no tensor: have it signed with tensors=True",
                kind="tensors",
            )
        records = manifest.tensors
        expected = {name: list(record.tiles) for name, record in records.items()}
        shapes = {name: (record.dtype, tuple(record.shape)) for name, record in records.items()}
        who = {"identity": str(vouched.identity), "root": vouched.root, "absent": dict(absent or {})}
        tensors = agree(control, held, dict(who))
        known(control, tensors, shapes)

        def in_place(slices: list[tuple[str, Any, Any]]) -> None:
            manifest.verify_slices([Slice(name, box, part) for name, box, part in slices])

        return check(control, held, tensors, expected, shapes, who, in_place)

    return together("verify", group, timeout, patience, body)


def known(
    control: Control, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[str, tuple[int, ...]]]
) -> None:
    """Raises `VerifyError` for a tensor that is not signed, or signed with another type or shape."""
    faults = []
    for name, tensor in tensors.items():
        ranks = control.ranks(sorted({rank for rank, _ in tensor.holders})) if tensor.holders else "a rank"
        if name not in shapes:
            faults.append(f"{name!r} on {ranks} is not signed")
        elif shapes[name] != (tensor.dtype, tensor.shape):
            dtype, shape = shapes[name]
            faults.append(f"{name!r} is {tensor.dtype} {list(tensor.shape)} on {ranks}, and {dtype} {list(shape)} is signed")
    if faults:
        more = f"; and {len(faults) - 5} tensors more" if len(faults) > 5 else ""
        raise VerifyError("; ".join(faults[:5]) + more, kind="tensors")


def check(
    control: Control,
    held: dict[str, Held],
    tensors: dict[str, Tensor],
    expected: dict[str, list[str]],
    shapes: Mapping[str, tuple[str, tuple[int, ...]]],
    who: dict[str, Any],
    in_place: Any,
) -> VerifiedAcross:
    """Checks whole tiles by `in_place`, which raises `VerifyError`, brings cut ones together, and asks whether that was all."""
    slices: list[tuple[str, Any, Any]] = []
    tiles: dict[str, list[int]] = {}
    for name, one in held.items():
        for box, _ in one.pieces:
            full, numbers, _ = tensors[name].grid.split(box)
            if full is not None:
                slices.append((name, full, one.part(full)))
                tiles.setdefault(name, []).extend(numbers)
    refused: str | None = None
    differences: list[dict[str, Any]] = []
    try:
        if slices:
            in_place(slices)
    except VerifyError as error:
        # Not raised yet: what the other ranks find belongs into the same answer.
        refused, tiles = str(error), {}
        differences = [asdict(one) for one in error.differences]
    mover = Mover(control, held, {name: tensor.dtype for name, tensor in tensors.items()})
    cut = cut_tiles(control, mover, tensors)
    mine = {"refused": refused, "differences": differences, "tiles": tiles, "measured": Measured({}, cut).to_wire()}

    def decision(brought: list[bytes]) -> bytes:
        ranks = [load(one) for one in brought]
        faults = [f"{control.ranks([rank])}: {one['refused']}" for rank, one in enumerate(ranks) if one["refused"]]
        if faults:
            named = [difference_of(one) for rank in ranks for one in rank["differences"]]
            raise VerifyError("; ".join(faults), kind="tiles", differences=named)
        leaves = Leaves(control, [Measured.from_wire(one["measured"]) for one in ranks])
        leaves.against(expected, {name: "is signed" for name in expected}, "not what was signed")
        found = [set(leaves.tiles_of(name)) for name in expected]
        count = sum(map(len, found)) + leaves.copies()
        for one in ranks:
            for of, name in zip(found, expected):
                numbers = one["tiles"].get(name, ())
                count += len(numbers)
                of.update(numbers)
        covered = dict(zip(expected, found))
        _whole(tensors, expected, covered, who["absent"])
        size = sum(prod(shapes[name][1]) * element_bytes(shapes[name][0]) for name, of in covered.items() if of)
        if size == 0:
            raise VerifyError("no byte was checked: tensors that are empty show nothing", kind="coverage")
        total = sum(map(len, covered.values()))
        checked = sum(1 for of in covered.values() if of)
        answer = VerifiedAcross(who["identity"], who["root"], checked, total, count - total, size, who["absent"])
        return dump(asdict(answer))

    return VerifiedAcross(**load(control.decide(dump(mine), decision)))


def _whole(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, list[str]],
    covered: Mapping[str, set[int]],
    absent: Mapping[str, str],
) -> None:
    """Raises `VerifyError` for what is signed and was not checked, and for what was said to be absent and is not."""
    faults = [f"{name!r} is said to be absent, and is not signed" for name in absent if name not in expected]
    for name, tiles in expected.items():
        missing = sorted(set(range(len(tiles))) - covered[name])
        if name in absent:
            if name in tensors:
                faults.append(f"{name!r} is said to be absent ({absent[name]}), and a rank has it")
        elif name not in tensors:
            faults.append(f"no rank has {name!r}")
        elif missing:
            faults.append(f"no rank has tile {missing[0]} of {name!r}, and {len(missing)} of {len(tiles)} in all are missing")
    if faults:
        more = f"; and {len(faults) - 5} tensors more" if len(faults) > 5 else ""
        raise VerifyError(
            f"the check is not whole: {'; '.join(faults[:5])}{more}. Have all ranks call this, or name in `absent` what no rank holds",
            kind="coverage",
        )
