"""New weights while a model serves: the trainer publishes digests of a step, receivers check what they got, in their layout.

A message is a statement (run, step, and for each tensor its type, shape and tiles) with a signature over it, if there is a
signer: an ordinary signature of a model whose one file is the statement. Weights are not in it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError, VerifyError
from ..who import Path as AnyPath
from ..who import Signing, Trusted
from .checking import VerifiedAcross, check, known
from .compare import Leaves
from .control import Control, together
from .grid import Grid
from .layout import element_bytes, held_here
from .measure import Measured, cut_tiles, own_tiles
from .move import Mover
from .plan import Tensor, agree, dump, load, say_box, uncovered

_MAGIC = b"tsealrf1"
_FILE = "refit.json"
_TYPE = "tensorseal refit, version 1"
_MOST = 1 << 30

_accepted: dict[str, tuple[int, str]] = {}
"""The last step of each run that this process accepted, and SHA-256 of what was said of it: no older one is accepted any
more, and no other of that step."""


def publish(
    state_dict: Mapping[str, Any],
    *,
    step: int,
    run: str,
    signer: Signing | None = None,
    group: Any = None,
    timeout: float = 30.0,
    patience: float = 600.0,
) -> bytes:
    """Takes digests of all tensors of a step, in place, and gives the message for the receivers: the same bytes on all ranks.

    All ranks of `group` call it, as for `save_and_sign`; copies have to be equal. `run` names the training, `step` counts up in it.
    With a `signer`, which rank 0 uses, the message is signed. Without one it is worth what the channel is by which it
    comes.

    Raises what `save_and_sign` raises, the same on all ranks.
    """

    def body(control: Control) -> bytes:
        if isinstance(step, bool) or not isinstance(step, int) or step < 0 or not isinstance(run, str) or not run:
            raise UsageError(f"step is {step!r} and run {run!r}: give a number from 0 on, and a name")
        held = held_here(state_dict)
        tensors = agree(control, held, {"step": step, "run": run})
        for name, tensor in tensors.items():
            if (hole := uncovered(tensor)) is not None:
                raise UsageError(f"no rank holds the elements {say_box(hole)} of {name!r}: give all ranks of the model")
        mover = Mover(control, held, {name: tensor.dtype for name, tensor in tensors.items()})
        measured = Measured(own_tiles(control, held, tensors), cut_tiles(control, mover, tensors))

        def decision(brought: list[bytes]) -> bytes:
            found = [Measured.from_wire(load(one)) for one in brought]
            leaves = Leaves(control, found)
            leaves.against({}, {}, "copies of a tensor differ, and nothing was published")
            leaves.covered(tensors)
            return _message(_statement(found, tensors, run, step), signer)

        return control.decide(dump(measured.to_wire()), decision)

    return together("publish", group, timeout, patience, body)


def receive(
    message: bytes,
    state_dict: Mapping[str, Any],
    *,
    step: int,
    run: str,
    policy: Trusted | AnyPath | None,
    group: Any = None,
    absent: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    patience: float = 600.0,
) -> VerifiedAcross:
    """Checks received tensors against the message of a step, each receiver its slices, whatever the trainer's layout was.

    All ranks of the receivers' `group` call it, with the same message, for the `step` of the `run` that they wait for: the
    message of another is refused, and so is a step before one that this process accepted already, or other weights for that step.
    `policy` says who may have signed the message; `None` accepts one that nobody signed, from a channel that is trusted, and
    no signed one. `absent` is as for `verify`.

    Raises, the same on all ranks, `VerifyError` if the message does not count, is of another run or step, or a tile
    differs, is missing or unknown; `RankError` and `UsageError` as `verify`.
    """

    def body(control: Control) -> VerifiedAcross:
        held = held_here(state_dict)
        statement, identity = _opened(message, policy)
        if statement["run"] != run:
            raise VerifyError(f"the message is of the run {statement['run']!r}, and {run!r} is waited for", kind="refit")
        if statement["step"] != step:
            age = "stale" if statement["step"] < step else "of a later step"
            raise VerifyError(f"the message is {age}: step {statement['step']}, and {step} is waited for", kind="refit")
        last, before = _accepted.get(run, (-1, ""))
        if step < last:
            raise VerifyError(f"step {step} of {run!r} is stale: step {last} was accepted already", kind="refit")
        content = hashlib.sha256(_encoded(statement)).hexdigest()
        if step == last and content != before:
            raise VerifyError(f"step {step} of {run!r} was accepted already, with other weights: one of the two is a replay", kind="refit")
        expected = {name: one["tiles"] for name, one in statement["tensors"].items()}
        shapes = {name: (one["dtype"], tuple(one["shape"])) for name, one in statement["tensors"].items()}
        who = {"identity": identity, "root": hashlib.sha256(message).hexdigest(), "absent": dict(absent or {})}
        tensors = agree(control, held, {**who, "step": step, "run": run})
        known(control, tensors, shapes)

        def in_place(_: Any) -> None:
            mine = Measured(own_tiles(control, held, tensors))
            found = Leaves(control, [*[Measured()] * control.rank, mine])
            found.against(expected, {name: "was published" for name in expected}, "not what was published")

        verified = check(control, held, tensors, expected, shapes, who, in_place)
        _accepted[run] = (step, content)
        return verified

    return together("receive", group, timeout, patience, body)


def _statement(found: list[Measured], tensors: Mapping[str, Tensor], run: str, step: int) -> bytes:
    tiles: dict[str, dict[int, str]] = {name: {} for name in tensors}
    for one in found:
        for name, of in one.tiles.items():
            tiles[name] |= of
        for cut in one.cut:
            tiles[cut.name][cut.tile] = cut.digest
    listed = {
        name: {"dtype": tensor.dtype, "shape": tensor.shape, "tiles": [tiles[name][tile] for tile in range(tensor.grid.tiles)]}
        for name, tensor in tensors.items()
    }
    return _encoded({"type": _TYPE, "run": run, "step": step, "tensors": listed})


def _encoded(statement: dict[str, Any]) -> bytes:
    """The one way to write a statement: what is not written so is refused, double names among it."""
    return json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()


def _message(statement: bytes, signer: Signing | None) -> bytes:
    signature = b""
    if signer is not None:
        from ..verbs import sign

        with tempfile.TemporaryDirectory(prefix="tensorseal-") as folder:
            model, bundle = Path(folder, "statement"), Path(folder, "statement.sig")
            model.mkdir()
            (model / _FILE).write_bytes(statement)
            sign(model, signer=signer, bundle=bundle)
            signature = bundle.read_bytes()
    return _MAGIC + len(statement).to_bytes(8, "little") + statement + signature


def _opened(message: bytes, policy: Trusted | AnyPath | None) -> tuple[dict[str, Any], str]:
    """What a message says, its signature checked first, and who signed it."""
    length = int.from_bytes(message[8:16], "little")
    if not isinstance(message, bytes) or message[:8] != _MAGIC or not 16 + length <= len(message) <= _MOST:
        raise VerifyError("this is no message of a refit, or it was cut", kind="refit")
    statement, signature = message[16 : 16 + length], message[16 + length :]
    identity = "nobody: not signed"
    if policy is None and signature:
        raise VerifyError("the message is signed, and nobody is named who may sign: give a policy", kind="refit")
    if policy is not None:
        if not signature:
            raise VerifyError("the message is not signed, and the policy asks for a signature", kind="refit")
        identity = _signed_by(statement, signature, policy)
    try:
        said = json.loads(statement)
        if _encoded(said) != statement:
            raise ValueError("not in the one form that it has")
        if said["type"] != _TYPE or isinstance(said["step"], bool) or not isinstance(said["step"], int):
            raise ValueError("of another type")
        for name, one in said["tensors"].items():
            shape = tuple(one["shape"])
            element_bytes(one["dtype"])
            if not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError(f"a shape of {name!r}")
            if len(one["tiles"]) != Grid.of(one["dtype"], shape).tiles or not all(map(_is_digest, one["tiles"])):
                raise ValueError(f"tiles of {name!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerifyError(f"the message is malformed: {error}", kind="refit") from error
    return said, identity


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def _signed_by(statement: bytes, signature: bytes, policy: Trusted | AnyPath) -> str:
    from ..verbs import verify

    # Private to this user, and removed: what is verified are these bytes, which are parsed from memory after.
    with tempfile.TemporaryDirectory(prefix="tensorseal-") as folder:
        model, bundle = Path(folder, "statement"), Path(folder, "statement.sig")
        model.mkdir()
        (model / _FILE).write_bytes(statement)
        bundle.write_bytes(signature)
        report = verify(model, bundle=bundle, policy=policy)
    return str(report.identity)
