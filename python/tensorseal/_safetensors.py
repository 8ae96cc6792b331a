"""Files of tensors before they are written: which tensors go into which file, and each file's header.

The rules are those of safetensors' own writer and of huggingface_hub's shards, so that nobody can tell by the bytes who
wrote a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import _native
from ._lend import lend
from .errors import UsageError

#: The order of tensors in a file: by this, then by name. Each type's alignment is that of those before it, or less.
_ORDER = (
    "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 F6_E3M2 F6_E2M3 F4 BOOL"
).split()
_RANK = {dtype: rank for rank, dtype in enumerate(_ORDER)}

#: Where the name of a file says which shard of how many it is.
_PATTERN = "model{suffix}.safetensors"
INDEX = "model.safetensors.index.json"
_STALE = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")

_UNITS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3}


@dataclass(frozen=True)
class Tensor:
    """A tensor, its name in the file, and its memory as the native part has it."""

    name: str
    tensor: Any
    lent: _native.Lent
    nbytes: int


@dataclass(frozen=True)
class File:
    """A file of tensors: its name, the bytes before the first tensor, and the tensors in the order of their bytes."""

    name: str
    header: bytes
    tensors: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)


def lend_all(state_dict: Mapping[str, Any]) -> list[Tensor]:
    """The tensors of a state dict where they lie, in its order.

    Raises `UsageError` for an empty one, for what is no tensor, and for types that files of tensors do not have.
    """
    if not isinstance(state_dict, Mapping):
        raise UsageError(f"a state dict is a mapping from names to tensors, and this is a {type(state_dict).__name__}")
    if not state_dict:
        raise UsageError("the state dict is empty: a signature over it would cover nothing")
    tensors = []
    for name, tensor in state_dict.items():
        if not isinstance(name, str):
            raise UsageError(f"the names of tensors are strings, and {name!r} is a {type(name).__name__}")
        if name == "__metadata__":
            raise UsageError("no tensor can have the name '__metadata__': files of tensors use it themselves")
        _utf8(name)
        lent = lend(tensor, name=name)
        if lent.dtype not in _RANK:
            raise UsageError(f"tensor {name!r}: its type {lent.type_name} is none that files of tensors have")
        tensors.append(Tensor(name, tensor, lent, lent.nbytes))
    if not any(tensor.nbytes for tensor in tensors):
        raise UsageError("all tensors of the state dict are empty: a signature over them would cover nothing")
    return tensors


def without_tied(tensors: list[Tensor], discard: Collection[str]) -> tuple[list[Tensor], dict[str, str]]:
    """The tensors that are written, and for each in `discard` the one that has its bytes.

    As safetensors' `save_file`, this refuses tensors that share memory, since readers would get them apart. Those in `discard` are left
    out: each must be the very same memory as one that stays.
    """
    unknown = set(discard) - {tensor.name for tensor in tensors}
    if unknown:
        raise UsageError(f"discard names what is no tensor of the state dict: {', '.join(map(repr, sorted(unknown)))}")
    kept = [tensor for tensor in tensors if tensor.name not in discard]
    if not kept:
        raise UsageError("discard leaves no tensor: a signature over the rest would cover nothing")
    same = {_memory(tensor): tensor.name for tensor in reversed(kept)}
    removed = {}
    for tensor in tensors:
        if tensor.name in discard:
            twin = same.get(_memory(tensor))
            if twin is None:
                raise UsageError(f"tensor {tensor.name!r} is in discard, and no tensor that stays is the same memory")
            removed[tensor.name] = twin
    refuse_shared(_span(tensor) for tensor in kept if tensor.nbytes)
    return kept, removed


def refuse_shared(spans: Iterable[tuple[str, int, int, str]]) -> None:
    """Raises `UsageError` if tensors of two names share memory. A span is a device, a first address, the one behind the last, and a name.

    Pieces of one tensor may lie between each other.
    """
    last: tuple[str, int, int, str] | None = None
    for device, first, end, name in sorted(spans):
        if last is not None and device == last[0] and first < last[2] and name != last[3]:
            raise UsageError(
                f"tensors {last[3]!r} and {name!r} share memory: name in discard= the one to leave out, if they are tied (a model of "
                "transformers knows these: _tied_weights_keys), or give a copy of one"
            )
        if last is None or device != last[0] or end > last[2]:
            last = (device, first, end, name)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    lent = tensor.lent
    return lent.device, lent.address, lent.dtype, lent.shape, lent.strides


def _span(tensor: Tensor) -> tuple[str, int, int, str]:
    """The device of a tensor, its first address and the one behind its last."""
    lent = tensor.lent
    count = 1
    for size in lent.shape:
        count *= size
    # Bits, since elements can be less than a byte.
    item = tensor.nbytes * 8 // count
    places = [(size - 1) * stride * item for size, stride in zip(lent.shape, lent.strides, strict=True)]
    first = sum(place for place in places if place < 0)
    last = sum(place for place in places if place > 0) + item
    return lent.device, lent.address + first // 8, lent.address + (last + 7) // 8, tensor.name


def size_of(text: int | str) -> int:
    """A number of bytes, as such or like `"5GB"`, which is 5,000,000,000."""
    if isinstance(text, str):
        found = re.fullmatch(r"\s*(\d+)\s*([KMGT]B)\s*", text.upper())
        if found is None:
            raise UsageError(f"a size is a number of bytes, or like '5GB', not {text!r}")
        text = int(found[1]) * _UNITS[found[2]]
    if isinstance(text, bool) or not isinstance(text, int) or text <= 0:
        raise UsageError(f"a size is a number of bytes above 0, or like '5GB', not {text!r}")
    return text


def files_of(tensors: list[Tensor], max_shard_size: int, metadata: Mapping[str, str]) -> list[File]:
    """The files that the tensors go into: one, or shards of at most `max_shard_size` bytes of tensors each, filled in
    the order of the state dict. A tensor that is larger has a shard of its own."""
    shards: list[list[Tensor]] = []
    current: list[Tensor] = []
    filled = 0
    for tensor in tensors:
        if tensor.nbytes > max_shard_size:
            shards.append([tensor])
            continue
        if filled + tensor.nbytes > max_shard_size:
            shards.append(current)
            current, filled = [], 0
        current.append(tensor)
        filled += tensor.nbytes
    if current:
        shards.append(current)
    names = [_PATTERN.format(suffix="")]
    if len(shards) > 1:
        names = [_PATTERN.format(suffix=f"-{number:05d}-of-{len(shards):05d}") for number in range(1, len(shards) + 1)]
    return [_file(name, shard, metadata) for name, shard in zip(names, shards, strict=True)]


def _file(name: str, tensors: Iterable[Tensor], metadata: Mapping[str, str]) -> File:
    ordered = sorted(tensors, key=lambda tensor: (_RANK[tensor.lent.dtype or ""], _utf8(tensor.name)))
    fields: dict[str, Any] = {}
    if metadata:
        fields["__metadata__"] = dict(sorted(metadata.items()))
    at = 0
    for tensor in ordered:
        end = at + tensor.nbytes
        fields[tensor.name] = {"dtype": tensor.lent.dtype, "shape": list(tensor.lent.shape), "data_offsets": [at, end]}
        at = end
    text = _utf8(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))
    text += b" " * (-len(text) % 8)
    return File(name, len(text).to_bytes(8, "little") + text, tuple(ordered))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} cannot be written: it is not Unicode") from None


def index_of(files: list[File]) -> bytes:
    """The index of a model in several files."""
    weights = {tensor.name: file.name for file in files for tensor in file.tensors}
    total = sum(tensor.nbytes for file in files for tensor in file.tensors)
    index = {"metadata": {"total_size": total}, "weight_map": weights}
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


def is_stale(name: str, new: Collection[str]) -> bool:
    """Whether a file is of an earlier save, of which none of the `new` ones is a replacement."""
    return name not in new and (name == INDEX or _STALE.fullmatch(name) is not None)


def metadata_of(metadata: Mapping[str, str] | None, tensors: list[Tensor], removed: Mapping[str, str]) -> dict[str, str]:
    """What the header says beside the tensors: `metadata`, or what readers of such tensors expect, and, as safetensors'
    `save_model` has it, which names were left out."""
    if metadata is None:
        torch = any(type(tensor.tensor).__module__.partition(".")[0] == "torch" for tensor in tensors)
        metadata = {"format": "pt"} if torch else {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise UsageError(f"metadata is of strings, and {key!r}: {value!r} is not")
    return {**metadata, **removed}
