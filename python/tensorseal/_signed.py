"""What a signature says of a model, and memory compared with it.

`signed(model, policy=..)` checks signatures and looks at no file. What it gives vouches for tensors wherever they
lie: `verify_resident` compares whole files' worth of tensors in memory with the signed digests of the files, and
`TensorManifest.verify_slices` slices of tensors, such as a rank of a parallel model holds, with those of tiles.

A yes says: when it was read, this memory held what was signed. Which parameter lies where is the caller's word, and so
is the stream behind which it is what it shall be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from . import _native
from ._lend import lend
from ._native import Measured
from ._native import TensorRecord as TensorRecord
from .errors import UsageError
from .verbs import bundle_of
from .who import Path, Trusted, path_of, paths_of, trusted

#: What `TensorManifest.verify_slices` has measured. Only it makes one.
MeasuredSlice: TypeAlias = Measured

#: Elements along one dimension: (first, one past the last), a `slice` with step 1, or a `range` with step 1.
Range: TypeAlias = "tuple[int, int] | slice | range"


def signed(model: Path, *, bundle: Path | Iterable[Path] | None = None, policy: Trusted | Path) -> SignedModel:
    """Checks the signature over the model at `model`, and looks at none of its files.

    `policy` says who may have signed, as for `verify`; `bundle` is the signature, by default `model.sig` in the model, or several
    where a policy asks for several.

    Raises `VerifyError` if the signature is not accepted, `NoAnswerError` if it cannot be read, `UsageError`.
    """
    bundles = [bundle_of(model)] if bundle is None else paths_of(bundle)
    return SignedModel(_native.Signed.read(path_of(model), bundles, trusted(policy)))


class SignedModel:
    """What the signatures over a model say, each of which was accepted. Made by `signed`, and by nothing else."""

    def __init__(self, native: _native.Signed) -> None:
        if not isinstance(native, _native.Signed):
            raise UsageError("a SignedModel is what signed() gives")
        self._native = native

    @property
    def identity(self) -> str:
        """Who signed, for people; of several signatures the first."""
        return self._native.identities[0]

    @property
    def identities(self) -> list[str]:
        """Who made each of the signatures."""
        return self._native.identities

    @property
    def root(self) -> str:
        """The signed digest of the whole model, `sha256:hex`."""
        return self._native.root

    @property
    def files(self) -> list[str]:
        """The names of the signed files, in order: of shards, those that they are of."""
        return sorted(self._native.files)

    @cached_property
    def resources(self) -> dict[str, dict[str, Any]]:
        """Of each signed file, or shard of one, its digests in hexadecimal by algorithm (`sha256`, `blake3`, ..), and under `size` its
        bytes, where they were signed."""
        return self._native.resources

    def tensor_manifest(self, path: Path | None = None) -> TensorManifest | None:
        """The model's tensor manifest, read from the model, or from `path` if it lies elsewhere, and checked against all
        signatures. `None` if none was signed.

        Raises `VerifyError` if it is not what was signed or leaves out a signed file of tensors, `UsageError` if it lies outside of the
        model and `path` is not given, `NoAnswerError` if it cannot be read.
        """
        found = self._native.tensor_manifest(None if path is None else path_of(path))
        return None if found is None else TensorManifest(found)


@dataclass(frozen=True)
class Slice:
    """Memory that holds a slice of a signed tensor."""

    name: str
    """The signed tensor's name, whatever the parameter is called where it lies."""
    ranges: Sequence[Range] | None
    """Which of its elements: a range for each dimension, ends where tiles end. `None` for all of it."""
    tensor: object
    """The memory: of the signed type, as long along each dimension as the range. It may be a view of a larger parameter, as
    long as elements of the last dimension follow each other."""


class TensorManifest:
    """The signed digests of a model's tensors, and of the tiles that each is cut into."""

    def __init__(self, native: _native.TensorManifest) -> None:
        if not isinstance(native, _native.TensorManifest):
            raise UsageError("a TensorManifest is what SignedModel.tensor_manifest() gives")
        self._native = native

    @cached_property
    def tensors(self) -> dict[str, TensorRecord]:
        """The tensors by name. Each has `name`, `dtype` (as safetensors spells it), `shape`, `file`, `range` (its bytes in that
        file), `parts` (into how many it is cut along each dimension), `tiles` (their digests in hexadecimal) and `root`."""
        return self._native.tensors

    @property
    def files(self) -> list[str]:
        """The files that hold them."""
        return self._native.files

    @property
    def identity(self) -> str:
        """Who signed, for people."""
        return self._native.identity

    @property
    def root(self) -> str:
        """One digest of all tensors, whichever files they lie in."""
        return self._native.root

    def to_bytes(self) -> bytes:
        """The manifest as it is written."""
        return self._native.to_bytes()

    def verify_slices(self, slices: Iterable[Slice], *, stream: Any = None) -> list[MeasuredSlice]:
        """Compares slices in memory with what was signed: one submit for each device. One result each, in order: `tensor`,
        `ranges`, `tiles`, `bytes`, `at` (seconds since 1970), `device`.

        Raises `VerifyError` if one is not as signed, of another type or shape, or of no signed tensor; its `differences` name up to a thousand
        tiles, `ranges` being where in the file each lies. Raises `UsageError` if a slice cuts tiles or cannot be read in place,
        or there is none, and `NoAnswerError` if a device fails.
        """
        asked = []
        for index, one in enumerate(slices):
            record = self.tensors.get(one.name)
            sizes = None if record is None else record.shape
            ranges = None if one.ranges is None else _ranges(one.name, one.ranges, sizes)
            asked.append((one.name, ranges, lend(one.tensor, name=one.name or f"#{index}", stream=stream)))
        return self._native.verify_slices(asked)

    @staticmethod
    def tile_digests(
        dtype: str, global_shape: Sequence[int], ranges: Sequence[Range] | None, tensor: object, *, stream: Any = None
    ) -> dict[int, str]:
        """The digests of the tiles of a slice in memory, by their numbers among the tiles of the whole tensor. No manifest is needed:
        tiles follow from type and shape. Nothing is compared.

        `dtype` and `global_shape` are those of the whole tensor, `ranges` the elements that `tensor` holds (`None`: all).

        Raises `UsageError` if the slice cuts tiles, or `tensor` is not of that type and those sizes; `NoAnswerError`.
        """
        shape = list(global_shape)
        given = [(0, size) for size in shape] if ranges is None else _ranges("", ranges, shape)
        return _native.TensorManifest.tile_digests(dtype, shape, given, lend(tensor, stream=stream))

    def coverage(self) -> Coverage:
        """Adds up what is checked, so that nothing is left out."""
        return Coverage(self)


def _ranges(name: str, ranges: Sequence[Range], sizes: Sequence[int] | None) -> list[tuple[int, int]]:
    found = []
    for dimension, given in enumerate(ranges):
        if isinstance(given, slice):
            if given.step not in (None, 1):
                raise UsageError(f"the slice of {name!r} has a step along dimension {dimension}; there are none in tiles")
            end = given.stop
            if end is None:
                if sizes is None or dimension >= len(sizes):
                    raise UsageError(f"the slice of {name!r} is open along dimension {dimension}, whose size is not known")
                end = sizes[dimension]
            start = given.start or 0
        elif isinstance(given, range):
            if given.step != 1:
                raise UsageError(f"the slice of {name!r} has a step along dimension {dimension}; there are none in tiles")
            start, end = given.start, given.stop
        else:
            start, end = given
        if start < 0 or end < 0:
            raise UsageError(f"the slice of {name!r} counts from the end along dimension {dimension}: count from 0")
        found.append((int(start), int(end)))
    return found


@dataclass(frozen=True)
class Covered:
    """What was checked of a model, when nothing was left out."""

    whole: int
    """Tensors of which all was checked."""
    in_part: int
    """Tensors of which all was checked that is held here."""
    not_held: list[tuple[str, str]]
    """Tensors that are not held here, and why."""
    bytes: int
    """Bytes of the model that were checked, each counted once."""


class Coverage:
    """Was everything checked? Each tensor of the manifest has to be checked, whole or as much of it as is held here, or said
    not to be held, with the reason."""

    def __init__(self, manifest: TensorManifest) -> None:
        self._manifest = manifest
        self._checked: list[MeasuredSlice] = []
        self._holds: list[tuple[str, list[tuple[int, int]]]] = []
        self._not_held: list[tuple[str, str]] = []

    def add(self, slices: Iterable[MeasuredSlice]) -> None:
        """Counts slices that `verify_slices` has found as signed."""
        self._checked.extend(slices)

    def holds(self, name: str, ranges: Sequence[Range]) -> None:
        """Says that these elements of a tensor are held here, and others of it elsewhere. Said again: those, too."""
        record = self._manifest.tensors.get(name)
        self._holds.append((name, _ranges(name, ranges, None if record is None else record.shape)))

    def not_held(self, name: str, why: str) -> None:
        """Says that nothing of a tensor is held here, and why."""
        self._not_held.append((name, why))

    def finish(self) -> Covered:
        """What was checked, if that is all there is.

        Raises `VerifyError` that names what was not checked, or is no signed tensor; `UsageError` for slices of another
        manifest.
        """
        return Covered(**_native.cover(self._manifest._native, self._checked, self._holds, self._not_held))


@dataclass(frozen=True)
class MeasuredFile:
    """A signed file whose tensors were measured in memory."""

    name: str
    tensors: int
    bytes: int
    """Bytes in the file."""
    on_host: int
    """How many of these came from the file on disk: its header."""
    devices: list[str]
    """In whose memory the others lie."""


@dataclass(frozen=True)
class MeasuredAsSigned:
    """At that time this memory held what was signed. Printed, it says all of it."""

    at: float
    """Seconds since 1970."""
    identity: str
    root: str
    files: list[MeasuredFile]
    not_measured: list[str]
    """Signed, and not measured: nothing is said of these."""
    text: str

    def __str__(self) -> str:
        return self.text


def verify_resident(
    signed: SignedModel,
    files: str | Iterable[str],
    tensors: Mapping[str, object] | Mapping[tuple[str, str], object] | Mapping[str | tuple[str, str], object],
    *,
    stream: Any = None,
) -> MeasuredAsSigned:
    """Compares tensors, where they lie, with the signed BLAKE3 digests of the files that they are: their headers are read from
    the model, and no byte of a tensor is.

    `files` are names in the model (`.` for a model that is a single file), `tensors` all tensors of these by the names in the headers;
    where two files have a tensor of one name, by (file, name). Types and shapes are those of the headers.

    Raises `VerifyError` if they are not what was signed, one is missing, or one is in no header; `UsageError` for tensors that
    cannot be read in place, `NoAnswerError` if a header cannot be read or a device fails.
    """
    given: list[tuple[str | None, _native.Lent]] = []
    for key, tensor in tensors.items():
        file, name = (None, key) if isinstance(key, str) else key
        given.append((file, lend(tensor, name=name, stream=stream)))
    fields = signed._native.verify_resident([files] if isinstance(files, str) else list(files), given)
    return MeasuredAsSigned(**{**fields, "files": [MeasuredFile(*of) for of in fields["files"]]})
