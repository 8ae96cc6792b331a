"""Loading: `load_file`, `safe_open` and `load_model` hand out tensors whose bytes were checked where they lie.

The first two are shaped like those of safetensors. A file is read once, into private memory; digests are taken of that
memory, and nothing is handed out unless all that was asked for is what was signed. Each file is one piece of memory, and
lives as long as any tensor of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal

from . import _log, _native
from .errors import TensorsealError, UsageError
from .frameworks import Make, maker, open_error
from .report import Report
from .verbs import Git, Progress, Symlinks, bundle_of, callable_of, word_of
from .who import Path, Trusted, flag_of, path_of, paths_of, trusted

#: The environment variable that names a policy file, for calls that have no `policy=`.
POLICY_VARIABLE = "TENSORSEAL_POLICY"

def load_file(
    filename: Path,
    device: str | int = "cpu",
    *,
    policy: Trusted | Path | None = None,
    bundle: Path | Iterable[Path] | None = None,
    framework: str = "pt",
    backend: str = "mmap",
    **options: Any,
) -> dict[str, Any]:
    """All tensors of a file, by their names, in the order of their bytes: `safetensors.torch.load_file`, and verified.

    `policy` says who may have signed, as for `verify`; without, the policy file that the environment variable
    TENSORSEAL_POLICY names. `bundle` is the signature; without, `FILE.sig` beside the file, or else `model.sig` in its
    folder. Of a folder that was signed the other files are listed, and not read. `framework` is `pt` (torch) or `np`
    (NumPy). `backend` is one of those of safetensors, and makes no difference: the file is read into memory of its own.
    Further options are those of `load_model`.

    Raises `VerifyError` if the answer is no, `NoAnswerError` if there is none, `UsageError` (without a policy, too), and
    `FileNotFoundError`. No tensor is handed out then.
    """
    with safe_open(
        filename, framework, device, policy=policy, bundle=bundle, backend=backend, **options
    ) as opened:
        return opened.get_tensors()


class safe_open:  # noqa: N801 (the name is that of safetensors)
    """A file of tensors: `safetensors.safe_open`, and verified when it is opened.

    `get_tensor` gives the memory that was checked, without a copy; `get_slice(name)[..]` a copy of that part. Otherwise as
    `load_file`.
    """

    def __init__(
        self,
        filename: Path,
        framework: str = "pt",
        device: str | int = "cpu",
        *,
        policy: Trusted | Path | None = None,
        bundle: Path | Iterable[Path] | None = None,
        backend: str = "mmap",
        **options: Any,
    ) -> None:
        if backend not in ("mmap", "pread"):
            raise UsageError(f"backend is 'mmap' or 'pread', not {backend!r}")
        make = maker(framework)
        path = path_of(filename)
        if not os.path.exists(path):
            raise FileNotFoundError(2, "No such file or directory", path)
        if not os.path.isfile(path):
            raise UsageError(f"{path!r} is no file; load_model loads folders")
        bundles = None if bundle is None else paths_of(bundle)
        who = trusted(_policy(policy))
        model, found, name = _native.model_of(path, bundles[0] if bundles else None)
        only = None if name is None else [name]
        loaded = _load(os.fspath(model), bundles or [os.fspath(found)], who, only=only, device=device, **options)
        if not loaded.tensor_files:
            raise UsageError(f"{path!r} is verified, and no file of tensors by its name: *.safetensors, *.gguf")
        self._open(loaded, loaded.tensor_files[0], make)

    def _open(self, loaded: _native.LoadedModel, file: str, make: Make) -> None:
        tensors = {tensor.name: tensor for tensor in loaded.tensors(file)}
        self._state: tuple[dict[str, _native.Tensor], dict[str, str], Make] | None
        self._state = tensors, loaded.metadata(file) or {}, make

    @classmethod
    def _of(cls, loaded: _native.LoadedModel, file: str, framework: str) -> safe_open:
        """A file of a model that is loaded."""
        opened = cls.__new__(cls)
        opened._open(loaded, file, maker(framework))
        return opened

    def _opened(self) -> tuple[dict[str, _native.Tensor], dict[str, str], Make]:
        if self._state is None:
            raise open_error("File is closed")
        return self._state

    def _tensor(self, name: str) -> tuple[_native.Tensor, Make]:
        tensors, _, make = self._opened()
        tensor = tensors.get(name)
        if tensor is None:
            raise open_error(f"File does not contain tensor {name}")
        return tensor, make

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return sorted(self._opened()[0])

    def offset_keys(self) -> list[str]:
        """The names of the tensors, in the order of their bytes."""
        return list(self._opened()[0])

    def metadata(self) -> dict[str, str] | None:
        """What the header says beside the tensors; `None` if that is nothing."""
        return dict(self._opened()[1]) or None

    def get_tensor(self, name: str) -> Any:
        """The tensor, in the memory that was checked: it shares it with no other tensor, and may be written to."""
        tensor, make = self._tensor(name)
        return make(tensor)

    def get_tensors(self) -> dict[str, Any]:
        """All tensors, in the order of their bytes."""
        tensors, _, make = self._opened()
        return {name: make(tensor) for name, tensor in tensors.items()}

    def get_slice(self, name: str) -> Slice:
        """The tensor, to be cut: `get_slice(name)[:, 8:16]`."""
        return Slice(*self._tensor(name))

    def __enter__(self) -> safe_open:
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state = None


class Slice:
    """A tensor that is cut as the framework cuts its own."""

    def __init__(self, tensor: _native.Tensor, make: Make) -> None:
        self._tensor, self._make = tensor, make

    def get_shape(self) -> list[int]:
        """Its dimensions, as the header has them."""
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """The type of its elements, as safetensors spells it."""
        return self._tensor.dtype

    def __getitem__(self, index: Any) -> Any:
        whole = self._make(self._tensor)
        part = whole[index]
        if part.shape == whole.shape:
            return part
        # A view would keep all of the file.
        return part.clone() if hasattr(part, "clone") else part.copy()


class LoadedModel(Mapping[str, Any]):
    """A model in memory: its tensors by their names, file by file in the order of their bytes.

    A name that several files have is that of the file that an index of the model gives; without one it leads nowhere:
    `tensors_of` tells them apart. `report` says what was verified and what not. Files in `not_held` were verified on disk, and
    are not in memory; of those in `not_asked` no byte was read.
    """

    report: Report
    not_held: tuple[str, ...]
    not_asked: tuple[str, ...]

    def __init__(self, native: _native.LoadedModel, framework: str) -> None:
        self._native, self._make = native, maker(framework)
        fields = native.report()
        self.report = Report.of(fields)
        self.not_held = tuple(fields["loaded"]["not_held"])
        self.not_asked = tuple(fields["loaded"]["not_asked"])
        names = {tensor.name: None for tensor in native.tensors()}
        self._names = [name for name in names if native.tensor(name) is not None]

    def __getitem__(self, name: str) -> Any:
        tensor = self._native.tensor(name)
        if tensor is None:
            raise KeyError(name)
        return self._make(tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"LoadedModel({len(self)} tensors, {self.report.model!r})"

    @property
    def tensor_files(self) -> tuple[str, ...]:
        """Names of the files of tensors."""
        return tuple(self._native.tensor_files)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the other files that are in memory."""
        return tuple(self._native.files)

    def file(self, name: str) -> bytes:
        """A small file such as `config.json`, as it was verified. Raises `KeyError` for what is not in `files`."""
        found = self._native.file(name)
        if found is None:
            raise KeyError(name)
        return found

    def tensors_of(self, file: str) -> dict[str, Any]:
        """The tensors of one file. Raises `KeyError` for what is not in `tensor_files`."""
        self.metadata(file)
        return {tensor.name: self._make(tensor) for tensor in self._native.tensors(file)}

    def metadata(self, file: str) -> dict[str, str]:
        """What the header of a file of tensors says beside them."""
        found = self._native.metadata(file)
        if found is None:
            raise KeyError(file)
        return found


def load_model(
    model: Path,
    *,
    policy: Trusted | Path | None = None,
    bundle: Path | Iterable[Path] | None = None,
    only: Iterable[str] | None = None,
    device: str | int = "cpu",
    framework: str = "pt",
    **options: Any,
) -> LoadedModel:
    """Loads a model, a folder or a single file, if it is what was signed: all of it or nothing.

    `policy` and `bundle` are those of `verify`. `only` names files of the folder: the others are listed, and not read.
    `device` is `cpu`, `cuda` or `cuda:N`. Further options are `digests` (`fastest` by default, `oms`, `blake3`, `all`),
    `strict`, `ignore_unsigned`, `ignore`, `allow_ignored`, `symlinks`, `git` and `progress` as in `verify`; `keep`, up to how
    many bytes a file that holds no tensors is kept in memory (64 MiB), and `threads` that read.

    Raises as `load_file`.
    """
    if isinstance(only, str):
        raise UsageError("only takes names of files, and this is one string: put it into a list")
    path, names = path_of(model), None if only is None else list(only)
    if not os.path.exists(path):
        raise FileNotFoundError(2, "No such file or directory", path)
    maker(framework)
    who = trusted(_policy(policy))
    bundles = [bundle_of(path)] if bundle is None else paths_of(bundle)
    return LoadedModel(_load(path, bundles, who, only=names, device=device, **options), framework)


def _load(
    model: str,
    bundles: list[str],
    who: _native.Who,
    *,
    only: list[str] | None,
    device: str | int,
    digests: Literal["fastest", "oms", "blake3", "all"] = "fastest",
    strict: bool = False,
    ignore_unsigned: bool = False,
    ignore: Path | Iterable[Path] = (),
    allow_ignored: Path | Iterable[Path] = (),
    symlinks: Symlinks = "refuse",
    git: Git = "signed",
    keep: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> _native.LoadedModel:
    _log.info("loading %r to %s", model, device)
    try:
        loaded = _native.load(
            model,
            bundles,
            who,
            only=only,
            digests=word_of("digests", digests),
            strict=flag_of("strict", strict),
            ignore_unsigned=flag_of("ignore_unsigned", ignore_unsigned),
            ignore=paths_of(ignore),
            allow_ignored=paths_of(allow_ignored),
            symlinks=word_of("symlinks", symlinks),
            git=word_of("git", git),
            keep=keep,
            threads=threads,
            device=_device(device),
            progress=callable_of(progress),
        )
    except TensorsealError as error:
        _log.warn(error.fields.get("notes", ()))
        _log.info("not loaded: %r: %s: %s", model, error.kind, error)
        raise
    fields = loaded.report()
    # Whoever opens one file has asked for one file.
    _log.warn(note for note in fields["notes"] if only is None or not note.endswith("nothing is said of their bytes"))
    _log.info("loaded %r: %d bytes in %.3f s", model, fields["bytes"], fields["seconds"])
    return loaded


def _policy(policy: Trusted | Path | None) -> Trusted | Path:
    """The caller's, or the one that the environment names. Nothing is loaded without."""
    if policy is not None:
        return policy
    named = os.environ.get(POLICY_VARIABLE)
    if not named:
        raise UsageError(f"who may have signed? pass policy=, or name a policy file in {POLICY_VARIABLE}")
    return named


def _device(device: object) -> str:
    """As the native part spells it: a number is that of a CUDA device, as everywhere in torch."""
    if isinstance(device, int) and not isinstance(device, bool):
        return f"cuda:{device}"
    text = str(device)
    if text.split(":")[0] not in ("cpu", "cuda", "wgpu"):
        raise open_error(f"device {text} is invalid: there are cpu, cuda and cuda:N")
    return text
