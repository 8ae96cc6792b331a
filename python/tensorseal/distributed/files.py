"""The files that a state dict over ranks becomes: names, headers, and which rank writes which."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from .. import _safetensors
from .._safetensors import INDEX, index_of
from .plan import Tensor


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
    """Cuts tensors into files of at most `most` bytes of data, or one tensor, and an index if they are several, as one process
    would (`tensorseal.save_and_sign`), and spreads them over the ranks by their sizes.

    The same on all ranks, because it depends on these arguments alone.
    """
    # Of what holds the memory of a tensor only type and shape are asked, and these are known without it.
    whole = [_safetensors.Tensor(name, None, cast(Any, tensor), tensor.nbytes) for name, tensor in tensors.items()]
    shards = _safetensors.files_of(whole, most, metadata)
    load = [0] * ranks
    files = []
    for shard in shards:
        writer = load.index(min(load))
        load[writer] += shard.size
        files.append(File(shard.name, shard.header, tuple(tensor.name for tensor in shard.tensors), shard.size, writer))
    if len(files) > 1:
        index = index_of(shards)
        files.append(File(INDEX, index, (), len(index), 0))
    return files


def digest_of(files: list[File]) -> str:
    """A digest of the plan: names, headers, sizes, writers."""
    whole = hashlib.sha256()
    for file in files:
        for part in (file.name.encode(), file.header, str((file.size, file.writer)).encode()):
            whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()
