"""Tensors as an iterator of the engine yields them, verified before anybody narrows or casts them.

The engine's own iterators read files in their own ways, each into memory of its own. What they yield is compared with what was
signed: each tensor alone if there is a signed tensor manifest, or else each file when all of its tensors are there.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tensorseal.errors import UsageError, VerifyError

if TYPE_CHECKING:
    import torch

    from tensorseal import SignedModel, TensorManifest


def private(tensor: "torch.Tensor") -> "torch.Tensor":
    """The tensor in memory that nobody else can write to.

    On the CPU iterators yield views of mapped files, or of shared memory: those are copied, and it is the copy that is
    hashed and handed on. Device memory belongs to this process.
    """
    import torch

    if tensor.device.type == "cpu":
        return tensor.detach().clone(memory_format=torch.contiguous_format)
    return tensor.detach()


def by_manifest(
    tensors: Iterable[tuple[str, "torch.Tensor"]],
    manifest: "TensorManifest",
    files: Iterable[str],
    wanted: Callable[[str], bool],
) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Compares each tensor with the signed manifest, whole. `files`: those that are loaded. `wanted`: what this rank keeps.

    Raises `VerifyError` for a tensor that is not signed, comes twice or is not as signed; and at the end, if a signed tensor of
    these files was wanted and did not come.
    """
    from tensorseal import Slice

    loaded = set(files)
    expected = {name for name, record in manifest.tensors.items() if record.file in loaded}
    seen: set[str] = set()
    for name, tensor in tensors:
        if name not in expected:
            raise VerifyError(f"the tensor {name} is not signed in any of the files that are loaded")
        if name in seen:
            raise VerifyError(f"the tensor {name} was yielded twice")
        kept = private(tensor)
        manifest.verify_slices([Slice(name, None, kept)])
        seen.add(name)
        yield name, kept
    complete(expected, seen, wanted)


def by_file(
    files: Iterable[str],
    folder: Path,
    signed: "SignedModel",
    open_one: Callable[[Path], Iterable[tuple[str, "torch.Tensor"]]],
    filtered: bool,
) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Holds the tensors of each file until all are there, and hands them on if the file is what was signed.

    `filtered`: this rank does not get all tensors. A file's digest is over all of it, so there is no answer then.
    """
    if filtered:
        raise UsageError(
            f"{folder}: this rank loads only its own experts, so that no file is ever complete, and the signature has digests of "
            "files alone. Sign the model with --tensors, or load it with inner = safetensors"
        )
    import tensorseal

    for name in files:
        held: dict[str, torch.Tensor] = {}
        for tensor, value in open_one(folder / name):
            if tensor in held:
                raise VerifyError(f"the tensor {tensor} of {name} was yielded twice")
            held[tensor] = private(value)
        tensorseal.verify_resident(signed, [name], held)
        yield from held.items()


def complete(expected: Iterable[str], seen: set[str], wanted: Callable[[str], bool]) -> None:
    """Every signed tensor came, or is one that this rank leaves out."""
    missing = sorted(name for name in set(expected) - seen if wanted(name))
    if missing:
        raise VerifyError(f"{len(missing)} signed tensors were not loaded, such as {missing[0]}: the weights are incomplete")
