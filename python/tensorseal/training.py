"""At the end of training: weights go from their device to files, and are signed as they lay on the device.

Memory, bus and disk lie between a tensor and its file, and a signature would vouch for whatever they did to it. So each
file has two digests: of what it will be, computed from the tensors where they lie, and of the bytes that were written.
Only if both are one, it gets its name, and only then the model is signed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from . import _log, _native
from ._blocks import blocks, dense
from ._lend import lend
from ._safetensors import INDEX, File, files_of, index_of, is_stale, lend_all, metadata_of, size_of, without_tied
from .errors import Difference, NoAnswerError, UsageError, VerifyError
from .report import Signed
from .tensors import digest_parts
from .verbs import Hash, Progress, bundle_of
from .who import Path, Signing, flag_of, path_of, paths_of, signing

if TYPE_CHECKING:
    #: Name -> (type, shape, {number of a tile: its digest}): what is compared of tensors.
    Meant = dict[str, tuple[str, tuple[int, ...], dict[int, str]]]


def save_and_sign(
    state_dict: Mapping[str, Any],
    dir: Path,
    *,
    signer: Signing,
    bundle: Path | None = None,
    max_shard_size: int | str = "5GB",
    metadata: Mapping[str, str] | None = None,
    discard: Collection[str] = (),
    tensors: bool = True,
    hash: Hash = "sha256",
    ignore: Path | Iterable[Path] = (),
    progress: Progress | None = None,
) -> Signed:
    """Writes a state dict as safetensors files into the folder `dir`, and signs the folder.

    The tensors are torch's or NumPy's, of any shape and strides, on the host or a CUDA device; of other libraries, such as CuPy,
    those in C order. The files are named and cut as
    huggingface_hub does it: `model.safetensors`, or shards of at most `max_shard_size` bytes and an index. Each is, byte for
    byte, what `safetensors.torch.save_file` writes of the same tensors made contiguous. `metadata` goes into each header;
    torch's tensors have `{"format": "pt"}` there by default.

    Tensors that share memory are refused, as `save_file` refuses them. Those of them that are named in `discard` are left
    out; the header then says which other tensor each is, as `safetensors.torch.save_model` has it.

    `tensors` signs digests of tensors and of tiles of them, too, in a file of the model (docs/tensor-manifest.md); an error
    can then say which tensor it is about. `hash` is the OMS digest, `sha256` or `blake3`. Whatever else lies in the folder is
    hashed and signed as well: configuration, tokenizer; but for `ignore`. `bundle` is where the signature goes, `model.sig` in the
    folder by default. `progress` is told of the files that are only hashed.

    In this order: all files are written under temporary names and compared. The old signature, the old tensor manifest and
    shards that are no longer needed are removed. The new files get their names. The signature is written. Before the second
    step nothing changes; after it there is no signature until the last. So no signature ever lies beside weights that it is
    not of, whenever the process ends.

    Raises `VerifyError` of the kind `written-bytes-differ` if the bytes written are not those on the device: nothing is changed
    then. Raises `NoAnswerError`, such as for a full disk, with nothing changed. If it is the signer that fails, the new
    files are complete and stay, unsigned: `tensorseal.sign` signs them later. Raises `UsageError` for what cannot be written.
    """
    folder, who = path_of(dir), signing(signer)
    target = bundle_of(folder, bundle)
    check_hash(hash)
    tensors = flag_of("tensors", tensors)
    lent = lend_all(state_dict)
    kept, removed = without_tied(lent, discard)
    files = files_of(kept, size_of(max_shard_size), metadata_of(metadata, kept, removed))
    made = not os.path.isdir(folder)
    make_folder(folder)
    _log.info("writing %d tensors into %r", len(kept), folder)
    try:
        with ExitStack() as stack:
            _native.sweep(folder)
            finished = [_write(stack, folder, file, tensors) for file in files]
            names = [file.name for file in files]
            if len(files) > 1:
                finished.append(_write_bytes(stack, folder, INDEX, index_of(files)))
                names.append(INDEX)
            # From here to the end of the function there is no signature.
            for old in {target, bundle_of(folder)}:
                _native.withdraw(folder, old)
            _remove_stale(folder, names)
            written = [file.publish() for file in finished]
    except BaseException:
        if made and not os.listdir(folder):
            os.rmdir(folder)
        raise
    return sign_written(
        folder, written, target=target, who=who, tensors=tensors, hash=hash, ignore=ignore, progress=progress
    )


def make_folder(folder: str) -> None:
    """Makes a folder, and those above it. Raises `NoAnswerError`."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        why = f"the folder {folder!r} cannot be made: {error.strerror}; nothing was written"
        raise NoAnswerError(why, kind="io") from error


def check_hash(hash: str) -> None:
    """Raises `UsageError` for a digest that is not taken of files while they are written."""
    if hash not in ("sha256", "blake3"):
        raise UsageError(f"hash is 'sha256' or 'blake3' where files are hashed as they are written, not {hash!r}")


def sign_written(
    folder: str,
    written: list[_native.Written],
    *,
    target: str,
    who: _native.Signer,
    tensors: bool,
    hash: Hash = "sha256",
    ignore: Path | Iterable[Path] = (),
    progress: Progress | None = None,
) -> Signed:
    """Signs a folder of which the files in `written` are not read again. For the other modules of this package."""
    check_hash(hash)
    fields = _native.sign_written(
        folder,
        target,
        who,
        written,
        hash=hash,
        tensors=tensors,
        ignore=paths_of(ignore),
        symlinks="refuse",
        device="cpu",
        progress=progress,
    )
    signed = Signed.of(fields)
    _log.warn(signed.notes)
    _log.info("signed %r: %r, %d bytes in %.3f s", folder, target, signed.bytes, signed.elapsed)
    return signed


def compare_files(
    folder: str, names: Iterable[str], expected: Meant, *, may_lack: Collection[str] = (), progress: Progress | None = None
) -> list[_native.Written]:
    """Hashes files of tensors that others wrote, and compares them with tensors in memory. For the other modules of this package.

    Every tensor of the files must be among the `expected`, and the same; of these, only those in `may_lack` need not be
    in a file.

    Raises `VerifyError` of the kind `written-bytes-differ`.
    """
    written: list[_native.Written] = []
    found: set[str] = set()
    for name in names:
        file = _native.Written.of_file(folder, name, tensors=True, progress=progress)
        held = set(file.tensors or ())
        unknown, double = sorted(held - expected.keys()), sorted(held & found)
        if unknown or double:
            what = f"holds {unknown[0]!r}, which is no tensor in memory" if unknown else f"holds {double[0]!r} once more"
            raise _refused(f"{name!r} {what}", name)
        file.compare({tensor: expected[tensor] for tensor in held})
        found |= held
        written.append(file)
    missing = sorted(expected.keys() - found - set(may_lack))
    if missing:
        raise _refused(f"{missing[0]!r} is in no file; {len(missing)} of {len(expected)} tensors are not", missing[0])
    return written


def _refused(why: str, name: str) -> VerifyError:
    return VerifyError(
        f"written bytes differ: {why}. Nothing was signed",
        kind="written-bytes-differ",
        differences=[Difference(name, "miswritten")],
    )


def meant(named: Mapping[str, Any]) -> Meant:
    """The digests of all tiles of tensors where they lie, one submit for each device. For the other modules of this package."""
    lent = [lend(dense(tensor), name=name) for name, tensor in named.items()]
    found = _native.tiles(lent)
    return {name: (dtype, tuple(shape), tiles) for name, (dtype, shape, tiles) in zip(named, found, strict=True)}


def _write(stack: ExitStack, folder: str, file: File, tensors: bool) -> _native.Finished:
    """Writes a file of tensors under a temporary name, and compares it with them."""
    # First, as the file will be: what is written then may pass through anything.
    blake3 = digest_parts([file.header, *(tensor.lent for tensor in file.tensors)])
    tiles = meant({tensor.name: tensor.tensor for tensor in file.tensors}) if tensors else {}
    writer = _native.Writer(folder, file.name, file.size, tensors=tensors)
    stack.callback(writer.discard)
    writer.write(lend(file.header, name=file.name))
    for tensor in file.tensors:
        for block in blocks(tensor):
            writer.write(lend(block, name=tensor.name))
    finished = writer.finish()
    stack.callback(finished.discard)
    finished.compare(blake3, tiles)
    return finished


def _write_bytes(stack: ExitStack, folder: str, name: str, data: bytes) -> _native.Finished:
    """The same for a file that is no tensors'."""
    blake3 = digest_parts([data])
    writer = _native.Writer(folder, name, len(data))
    stack.callback(writer.discard)
    writer.write(lend(data, name=name))
    finished = writer.finish()
    stack.callback(finished.discard)
    finished.compare(blake3, {})
    return finished


def _remove_stale(folder: str, new: Collection[str]) -> None:
    """Removes shards of an earlier save, as huggingface_hub does: nobody needs them, and they would be signed."""
    for name in sorted(os.listdir(folder)):
        if is_stale(name, new):
            os.remove(os.path.join(folder, name))
