"""The files that a state dict over ranks becomes: names, headers, and which rank writes which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UsageError
from .layout import element_bytes
from .plan import Tensor

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class File:
    """A safetensors file, or the index of several, which is all header."""

    name: str
    header: bytes
    """All that comes before the data, the header's length included."""
    tensors: tuple[str, ...]
    """In the order of their data."""
    size: int
    writer: int
    """The rank of the group that writes it."""


def files_of(tensors: Mapping[str, Tensor], most: int, metadata: Mapping[str, str], ranks: int) -> list[File]:
    """Cuts tensors into files (and an index, if they are several) of at most `most` bytes of data, or one tensor, and spreads them over the ranks.

    The same on all ranks, because it depends on these arguments alone. In a file they lie as safetensors writes them: the
    widest types first, then by name.
    """
    groups: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.nbytes > most:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += tensor.nbytes
    load = [0] * ranks
    files = []
    for number, names in enumerate(groups, 1):
        names.sort(key=lambda name: (-element_bytes(tensors[name].dtype), name.encode()))
        header = _header(names, tensors, metadata)
        data = sum(tensors[name].nbytes for name in names)
        writer = load.index(min(load))
        load[writer] += max(data, 1)
        file = "model.safetensors" if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
        files.append(File(file, header, tuple(names), len(header) + data, writer))
    if len(files) > 1:
        index = _index(files, tensors)
        files.append(File(INDEX, index, (), len(index), 0))
    return files


def _header(names: list[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name in names:
        if name == "__metadata__":
            raise UsageError("a tensor cannot have the name '__metadata__'")
        tensor = tensors[name]
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _index(files: list[File], tensors: Mapping[str, Tensor]) -> bytes:
    """The index of a model in several files, as transformers reads it."""
    weights = {name: file.name for file in files for name in file.tensors}
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weights.items()))}
    return (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode()


def digest_of(files: list[File]) -> str:
    """A digest of the plan: names, headers, sizes, writers."""
    whole = hashlib.sha256()
    for file in files:
        for part in (file.name.encode(), file.header, str((file.size, file.writer)).encode()):
            whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()
