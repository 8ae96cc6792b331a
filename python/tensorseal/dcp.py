"""`torch.distributed.checkpoint`: a checkpoint in safetensors is signed when it is complete, if it is what lies on the devices.

Each rank takes the digests of its tensors where they lie before it hands them to PyTorch, and sends them to the coordinator
with the results of its writing. The coordinator reads the files once: that gives their digests for the signature, and those
of their tensors, which must be the ranks'.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch.distributed.checkpoint import HuggingFaceStorageWriter
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from . import _log, _native
from ._blocks import dense
from ._lend import lend
from .errors import Difference, UsageError, VerifyError
from .report import Signed
from .training import check_hash, compare_files, meant, sign_written
from .verbs import Hash, bundle_of
from .who import Path, Signing, path_of, paths_of, signing


@dataclass
class _Measured(_StorageInfo):
    """Where a tensor was written, and what it was where it lay: type, shape of the whole, tiles."""

    meant: tuple[str, tuple[int, ...], dict[int, str]] | None = None


class SigningWriter(HuggingFaceStorageWriter):
    """`torch.distributed.checkpoint.save(state_dict, storage_writer=SigningWriter(folder, signer=signer))`.

    Writes what `HuggingFaceStorageWriter` writes with the same options (`fqn_to_index_mapping`, `thread_count`,
    `save_distributed`, `enable_consolidation`), and signs the folder in `finish`, which runs on the coordinator. An older
    signature is removed before anything is written. `bundle`, `tensors`, `hash` and `ignore` are those of `save_and_sign`. With
    `enable_consolidation`, the shards that PyTorch leaves in the folder `sharded` are not signed; a rank's part of a
    tensor must then be made of whole tiles (docs/tensor-manifest.md). `async_save` is refused: it would have a copy signed.

    What was signed is in `signed`, on the coordinator. What is raised in `finish` comes out of `save` as PyTorch's
    `CheckpointException`, on every rank, with the `VerifyError` of the kind `written-bytes-differ` in its `failures`.
    """

    def __init__(
        self,
        path: Path,
        *,
        signer: Signing,
        bundle: Path | None = None,
        tensors: bool = True,
        hash: Hash = "sha256",
        ignore: Path | Iterable[Path] = (),
        **options: Any,
    ) -> None:
        super().__init__(path_of(path), **options)
        check_hash(hash)
        self._who = signing(signer)
        self._bundle = bundle
        self._tensors = tensors
        self._hash: Hash = hash
        self._ignore = paths_of(ignore)
        self.signed: Signed | None = None

    @property
    def _folder(self) -> str:
        return str(self.consolidated_output_path or self.path)

    @property
    def _as_shards(self) -> bool:
        """Whether files hold what ranks have of tensors, and not the whole."""
        return self.save_distributed and not self.enable_consolidation

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Refuses `async_save`, which has a copy written: digests of that say nothing of what lay on the device."""
        raise UsageError(
            "async_save copies the tensors before they are measured, so that what is signed would be a copy: use "
            "torch.distributed.checkpoint.save"
        )

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """On the coordinator, before anything is written."""
        if os.path.isdir(self._folder):
            for old in {bundle_of(self._folder, self._bundle), bundle_of(self._folder)}:
                _native.withdraw(self._folder, old)
        return list(super().prepare_global_plan(plans))

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Takes the digests of this rank's tensors where they lie, then has them written."""
        measured = {item.index: self._measure(item, planner) for item in plan.items}
        results = super().write_data(plan, planner).wait()
        future: Future[list[WriteResult]] = Future()
        future.set_result([_with(result, measured[result.index]) for result in results])
        return future

    def _measure(self, item: WriteItem, planner: SavePlanner) -> tuple[str, tuple[int, ...], dict[int, str]]:
        name = item.index.fqn
        data = item.tensor_data
        if item.type == WriteItemType.BYTE_IO or data is None:
            raise UsageError(f"{name!r} is no tensor, and a checkpoint in safetensors holds nothing else")
        tensor = planner.resolve_data(item).detach()
        if tuple(tensor.shape) == tuple(data.size) or self._as_shards:
            return meant({name: tensor})[name]
        lent = lend(dense(tensor), name=name)
        ranges = [(at, at + size) for at, size in zip(data.chunk.offsets, data.chunk.sizes, strict=True)]
        tiles = _native.TensorManifest.tile_digests(lent.dtype or "", list(data.size), ranges, lent)
        return lent.dtype or "", tuple(data.size), tiles

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On the coordinator, when all ranks have written: compares, and signs."""
        super().finish(metadata, results)
        folder, target = self._folder, bundle_of(self._folder, self._bundle)
        written: list[_native.Written] = []
        if self.save_distributed and self.enable_consolidation:
            expected = _merged(result for ranks in results for result in ranks)
            names = sorted(name for name in os.listdir(folder) if name.endswith(".safetensors"))
            written = compare_files(folder, names, expected)
            self._ignore.append(str(self.path))
        else:
            files: dict[str, list[WriteResult]] = {}
            for result in (result for ranks in results for result in ranks):
                files.setdefault(result.storage_data.relative_path, []).append(result)
            others = {name for name in os.listdir(folder) if name.endswith(".safetensors")} - files.keys()
            if others:
                raise VerifyError(
                    f"written bytes differ: {min(others)!r} was not written by this save. Nothing was signed; remove it, or save elsewhere",
                    kind="written-bytes-differ",
                    differences=[Difference(name, "unsigned") for name in sorted(others)],
                )
            for name, own in sorted(files.items()):
                written += compare_files(folder, [name], _merged(own))
        if not written:
            raise UsageError("no tensor was written: a signature would cover nothing")
        _log.info("compared %d files of %r with the tensors of %d ranks", len(written), folder, len(results))
        # Parts of one tensor in several files have one name, which a tensor manifest does not allow.
        tensors = self._tensors and not self._as_shards
        self.signed = sign_written(
            folder, written, target=target, who=self._who, tensors=tensors, hash=self._hash, ignore=self._ignore
        )


def _with(result: WriteResult, meant: tuple[str, tuple[int, ...], dict[int, str]]) -> WriteResult:
    info = result.storage_data
    measured = _Measured(info.relative_path, info.offset, info.length, info.transform_descriptors, meant)
    return replace(result, storage_data=measured)


def _merged(results: Iterable[WriteResult]) -> dict[str, tuple[str, tuple[int, ...], dict[int, str]]]:
    """Whole tensors of the parts that ranks have."""
    whole: dict[str, tuple[str, tuple[int, ...], dict[int, str]]] = {}
    for result in results:
        name, part = result.index.fqn, getattr(result.storage_data, "meant", None)
        if part is None:
            raise UsageError(f"{name!r} was written by a rank that has another writer")
        dtype, shape, tiles = whole.setdefault(name, (part[0], part[1], {}))
        if (dtype, shape) != part[:2] or any(tiles.get(tile, digest) != digest for tile, digest in part[2].items()):
            raise VerifyError(
                f"written bytes differ: ranks have different tensors {name!r}. Nothing was signed",
                kind="written-bytes-differ",
                differences=[Difference(name, "miswritten")],
            )
        tiles.update(part[2])
    return whole
