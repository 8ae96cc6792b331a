"""`verify`, `sign` and `digest`: models as files on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from . import _log, _native
from .errors import TensorsealError, UsageError
from .report import ModelDigest, Report, Signed
from .who import Path, Signing, Trusted, flag_of, path_of, paths_of, signing, text_of, trusted

#: Called with the bytes that are done and those that there are, if that is known, some ten times a second, on the thread
#: that called the verb. What it raises ends the work and is raised.
Progress: TypeAlias = Callable[[int, int | None], object]
Symlinks: TypeAlias = Literal["refuse", "inside", "anywhere"]
Git: TypeAlias = Literal["signed", "ignore", "keep"]
Hash: TypeAlias = Literal["sha256", "blake2b", "blake3"]


def bundle_of(model: Path, bundle: Path | None = None) -> str:
    """The path of a model's bundle: as given, or `model.sig` in its folder, or beside a single file FILE, `FILE.sig`."""
    if bundle is not None:
        return path_of(bundle)
    path = path_of(model)
    return path + ".sig" if os.path.isfile(path) else os.path.join(path, "model.sig")


def verify(
    model: Path,
    *,
    policy: Trusted | Path,
    bundle: Path | Iterable[Path] | None = None,
    digests: Literal["oms", "blake3", "all", "fastest"] = "oms",
    strict: bool = False,
    ignore_unsigned: bool = False,
    ignore: Path | Iterable[Path] = (),
    allow_ignored: Path | Iterable[Path] = (),
    symlinks: Symlinks = "refuse",
    git: Git = "signed",
    tensors: Path | None = None,
    outboard: Path | None = None,
    max_bundle: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Report:
    """Verifies that the model is what its signer signed.

    `policy` says who may have signed: a `Key`, a `Certificate`, a `Sigstore`, a `Policy`, or the path of a policy file.
    `bundle` is the signature, or, with a policy, several. `digests`: the signed digest that every OMS verifier checks,
    the BLAKE3 one beside it, which is several times faster, all of them, or the fastest that there is.
    `strict` refuses files under ignored paths, too, but for `allow_ignored`; `ignore_unsigned` tolerates files that are
    not signed. Paths are relative to the current folder. `symlinks="anywhere"` follows those that leave the model, as in a
    Hugging Face cache. `tensors` is a tensor manifest outside of the model, `outboard` the trees that were kept beside
    it: with these, `VerifyError.differences` say which bytes differ. `max_bundle` is in bytes.

    The GIL is released meanwhile. What should be known beside the verdict is in the report, and logged as warnings.

    Raises `VerifyError` if the answer is no, `NoAnswerError` if there is none, `UsageError`, and what `progress` raises.
    """
    path, who = path_of(model), trusted(policy)
    bundles = [bundle_of(model)] if bundle is None else paths_of(bundle)
    _log.info("verifying %r", path)
    try:
        fields = _native.verify(
            path,
            bundles,
            who,
            digests=word_of("digests", digests),
            strict=flag_of("strict", strict),
            ignore_unsigned=flag_of("ignore_unsigned", ignore_unsigned),
            ignore=paths_of(ignore),
            allow_ignored=paths_of(allow_ignored),
            symlinks=word_of("symlinks", symlinks),
            git=word_of("git", git),
            tensors=None if tensors is None else path_of(tensors),
            outboard=None if outboard is None else path_of(outboard),
            max_bundle=None if max_bundle is None else _count("max_bundle", max_bundle),
            device=word_of("device", device),
            progress=callable_of(progress),
        )
    except TensorsealError as error:
        _log.warn(error.fields.get("notes", ()))
        _log.info("not verified: %r: %s: %s", path, error.kind, error)
        raise
    report = Report.of(fields)
    _log.warn(report.notes)
    _log.info("verified %r: signed by %s, %d bytes in %.3f s", path, report.identity, report.bytes, report.elapsed)
    return report


def sign(
    model: Path,
    *,
    signer: Signing,
    bundle: Path | None = None,
    hash: Hash = "sha256",
    shards: int | None = None,
    shards_compat: bool = False,
    annotations: bool = True,
    tensors: bool | Path = False,
    outboard: Path | None = None,
    ignore: Path | Iterable[Path] = (),
    symlinks: Symlinks = "refuse",
    git: Git = "signed",
    device: str = "cpu",
    progress: Progress | None = None,
) -> Signed:
    """Signs a model, and writes the bundle: whole or not at all.

    `hash` is the OMS digest; every verifier knows `sha256`. `shards` signs ranges of so many bytes instead of whole files
    (`shards_compat` as Python's and Go's verifiers need them). `annotations` are BLAKE3 digests beside the OMS digests.
    `tensors` signs digests of tensors and of tiles of them, in a new file of the model, or at the path that is given.
    `outboard` keeps the trees by which `verify` says which bytes differ. `ignore` leaves out files, relative to the
    current folder.

    Raises `NoAnswerError` if it cannot be signed, `UsageError`, and what `progress` raises; there is then no new bundle, unless
    `progress` raised, or Ctrl-C came, when it had been written.
    """
    path, target, who = path_of(model), bundle_of(model, bundle), signing(signer)
    _log.info("signing %r", path)
    fields = _native.sign(
        path,
        target,
        who,
        hash=word_of("hash", hash),
        shards=None if shards is None else _count("shards", shards),
        shards_compat=flag_of("shards_compat", shards_compat),
        annotations=flag_of("annotations", annotations),
        tensors=tensors is True,
        tensors_out=None if isinstance(tensors, bool) else path_of(tensors),
        outboard=None if outboard is None else path_of(outboard),
        ignore=paths_of(ignore),
        symlinks=word_of("symlinks", symlinks),
        git=word_of("git", git),
        device=word_of("device", device),
        progress=callable_of(progress),
    )
    signed = Signed.of(fields)
    _log.warn(signed.notes)
    _log.info("signed %r: %r, %d bytes in %.3f s", path, target, signed.bytes, signed.elapsed)
    return signed


def digest(
    model: Path,
    *,
    hash: Hash = "sha256",
    shards: int | None = None,
    ignore: Path | Iterable[Path] = (),
    symlinks: Symlinks = "refuse",
    git: Git = "signed",
    device: str = "cpu",
    progress: Progress | None = None,
) -> ModelDigest:
    """Digests of a model's files, as they would be signed. It verifies nothing. `git="keep"` counts git's files.

    Raises `NoAnswerError`, `UsageError`, and what `progress` raises.
    """
    path = path_of(model)
    fields = _native.digest(
        path,
        hash=word_of("hash", hash),
        shards=None if shards is None else _count("shards", shards),
        ignore=paths_of(ignore),
        symlinks=word_of("symlinks", symlinks),
        git=word_of("git", git),
        device=word_of("device", device),
        progress=callable_of(progress),
    )
    found = ModelDigest.of(fields)
    _log.warn(found.notes)
    return found


def word_of(what: str, word: object) -> str:
    """A string that is one of several words. Which there are, the native part knows."""
    text = text_of(what, word)
    if text is None:
        raise UsageError(f"{what} is a string, and this is None")
    return text


def _count(what: str, count: object) -> int:
    if isinstance(count, bool) or not isinstance(count, int):
        raise UsageError(f"{what} is a number of bytes, and this is of type {type(count).__name__}")
    if not 0 < count < 1 << 64:
        raise UsageError(f"{what} is a number of bytes from 1 on that fits in 64 bits, not {count}")
    return count


def callable_of(progress: Progress | None) -> Progress | None:
    """What is to be told of progress, if it can be."""
    if progress is not None and not callable(progress):
        raise UsageError(f"progress is called with two numbers, and this is of type {type(progress).__name__}")
    return progress
