"""`guard`: `from_pretrained` of transformers and diffusers, over models that are verified before they are used.

Inside, whatever hands out weights of a file is replaced, wherever in the process it was imported: safetensors gives tensors
of the memory that was checked, and what would run or trust other bytes is refused. A folder is verified as a whole when the
first file of it is looked for; where it begins its bundle says.

(A module of the name `guard` would stand in the place of the function, once somebody imports it.)
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Any, NoReturn, TypeGuard

from . import _native
from .errors import NoAnswerError, UsageError, VerifyError
from .loading import _load, _policy, safe_open
from .report import Report
from .who import Path, Trusted, path_of, paths_of, trusted

# What reads weights, by where it is defined. The functions beside them call these by their names there.
_OPENS = (("safetensors", "safe_open"),)
_LOADS = (("safetensors.torch", "load_file"), ("safetensors.numpy", "load_file"))
_REFUSED = (
    ("safetensors", "deserialize"),
    ("safetensors.torch", "load"),
    ("safetensors.numpy", "load"),
    ("torch", "load"),
    ("torch.jit", "load"),
)
# Where each library finds files, and where its callers enter. What is not there is another version of it.
_LIBRARIES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "transformers": (
        ("transformers.utils.hub", "cached_files", "found"),
        ("transformers.configuration_utils", "PreTrainedConfig.get_config_dict", "local"),
        ("transformers.generation.configuration_utils", "GenerationConfig.from_pretrained", "local"),
        ("transformers.tokenization_utils_base", "PreTrainedTokenizerBase.from_pretrained", "local"),
        ("transformers.processing_utils", "ProcessorMixin.from_pretrained", "local"),
        ("transformers.feature_extraction_utils", "FeatureExtractionMixin.from_pretrained", "local"),
        ("transformers.image_processing_base", "ImageProcessingMixin.from_pretrained", "local"),
        ("transformers.modeling_utils", "PreTrainedModel.from_pretrained", "weights"),
    ),
    "diffusers": (
        ("diffusers.configuration_utils", "ConfigMixin.load_config", "folder"),
        ("diffusers.models.modeling_utils", "ModelMixin.from_pretrained", "weights"),
        ("diffusers.pipelines.pipeline_utils", "DiffusionPipeline.from_pretrained", "folder"),
        ("diffusers.utils.dynamic_modules_utils", "get_cached_module_file", "module"),
    ),
}

# Names of modules are everybody's: one guard at a time.
_ONE = threading.Lock()


@dataclass(eq=False)
class _Loaded:
    """A model in memory, the names of its signed files, and who has which of its tensors, by file and name."""

    native: _native.LoadedModel
    signed: frozenset[str]
    lent: dict[tuple[str, str], object] = field(default_factory=dict)
    _tensors: dict[str, dict[str, _native.Tensor]] = field(default_factory=dict)

    def tensor(self, file: str, name: str) -> _native.Tensor:
        if file not in self._tensors:
            self._tensors[file] = {tensor.name: tensor for tensor in self.native.tensors(file)}
        return self._tensors[file][name]


class guard:  # noqa: N801 (a context manager, named as the verbs are)
    """`with tensorseal.guard(policy=..): model = AutoModel.from_pretrained(folder)`.

    `policy` and `bundle` are those of `load_file`; without a bundle, the model is the nearest folder above a file that has a
    `model.sig`. Options are those of `load_model`; files of a Hugging Face cache are links that leave the model, which
    `symlinks="anywhere"` follows. transformers and diffusers are to be imported before. `reports` lists what was verified.

    What `from_pretrained` is given as a folder, and whatever it finds, is verified first. Weights come from the memory that was
    checked. Configurations, tokenizers and code are verified, and then read from disk by
    the library: nobody may be able to write there meanwhile. Pickled weights are refused, signed or not, as is code that is no
    file of a verified model, and a `from_pretrained` that returns without having asked for a verified tensor.

    It holds for the whole process, and one at a time: entering a second one raises `UsageError`. Leaving restores everything,
    and raises `NoAnswerError` if there was nothing to verify.
    """

    def __init__(
        self,
        *,
        policy: Trusted | Path | None = None,
        bundle: Path | Iterable[Path] | None = None,
        **options: Any,
    ) -> None:
        self._who = trusted(_policy(policy))
        self._bundles = None if bundle is None else paths_of(bundle)
        self._options = options
        self._models: dict[str, _Loaded] = {}
        self._busy = threading.RLock()
        self._loads = 0
        self._undo: list[Callable[[], None]] = []
        self.reports: list[Report] = []

    def __enter__(self) -> guard:
        if not _ONE.acquire(blocking=False):
            raise UsageError("there is a guard in this process already: one at a time, since it holds for all threads")
        try:
            self._enter()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()
        if kind is None and not self.reports:
            raise NoAnswerError("nothing was loaded under this guard, and so nothing was verified", kind="unguarded")

    def _enter(self) -> None:
        self.reports = []
        self._watch()
        for module, name in _OPENS:
            self._replace(module, name, functools.partial(self._instead, self._open))
        for module, name in _LOADS:
            framework = "np" if module.endswith("numpy") else "pt"
            self._replace(module, name, functools.partial(self._instead, functools.partial(self._file, framework)))
        for module, name in _REFUSED:
            refuse = functools.partial(self._refuse, f"{module}.{name}")
            self._replace(module, name, functools.partial(self._instead, refuse))
        for library, entries in _LIBRARIES.items():
            if library not in sys.modules:
                self._keep_out(library)
                continue
            for module, name, how in entries:
                self._replace(module, name, functools.partial(getattr(self, f"_{how}"), f"{library}.{name}"))

    def _leave(self) -> None:
        try:
            while self._undo:
                self._undo.pop()()
        finally:
            self._models.clear()
            _ONE.release()

    # What is replaced, and by what.

    def _replace(self, module: str, name: str, make: Callable[[Any], Any]) -> None:
        """Puts what `make` makes of it in the place of a function or method, under every name that it has anywhere."""
        library = module.split(".")[0]
        if library not in sys.modules and library != "safetensors":
            return
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            if library == "safetensors" and module != "safetensors":
                # Without the framework nobody can load into it.
                return
            raise UsageError(f"{library} cannot be guarded: {error}") from error
        *path, last = name.split(".")
        try:
            owner = functools.reduce(getattr, path, found)
            original = vars(owner)[last]
        except (AttributeError, KeyError):
            version = getattr(sys.modules[library], "__version__", "unknown")
            raise UsageError(f"{library} {version} cannot be guarded: it has no {module}.{name}") from None
        if path:
            method = original.__func__ if isinstance(original, classmethod) else None
            if method is None:
                raise UsageError(f"{library} cannot be guarded: {module}.{name} is no class method")
            setattr(owner, last, classmethod(make(method)))
            self._undo.append(lambda: setattr(owner, last, original))
            return
        ours = make(original)
        self._undo.append(lambda: _exchange(ours, original))
        _exchange(original, ours)

    def _watch(self) -> None:
        """Has every file that Python opens to read looked at. Such a hook stays for good: between guards it does nothing."""
        global _active
        if not _hooked:
            sys.addaudithook(_audit)
            _hooked.append(True)
        _active = self
        self._undo.append(_rest)

    def _reads(self, path: object, flags: object) -> None:
        """A file of a verified folder is a signed one, also where it came later."""
        if not isinstance(path, str | bytes) or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_TRUNC)):
            return
        path = os.path.abspath(os.fsdecode(path))
        if any(path.startswith(root + os.sep) for root in list(self._models)):
            self._verified(path)

    def _keep_out(self, library: str) -> None:
        """Nothing of a library is guarded that comes later."""
        finder = _NotNow(library)
        sys.meta_path.insert(0, finder)
        self._undo.append(lambda: sys.meta_path.remove(finder))

    def _instead(self, ours: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        return ours

    def _refuse(self, what: str, *_: Any, **__: Any) -> NoReturn:
        pickled = what.startswith("torch")
        reason = "pickled weights can run code, whoever signed them" if pickled else "its bytes are from anywhere"
        message = f"{what} is refused under a guard: {reason}; save the model as safetensors files"
        raise VerifyError(message, kind="unguarded")

    def _open(
        self, filename: Path, framework: str = "pt", device: Any = "cpu", *, backend: str = "mmap"
    ) -> safe_open:
        root, loaded, name = self._verified(path_of(filename))
        if name not in loaded.native.tensor_files:
            raise VerifyError(f"{name!r} is no file of tensors that is loaded", kind="unguarded")
        opened = safe_open._of(loaded.native, name, framework)
        tensors, metadata, make = opened._opened()
        place = f"cuda:{device}" if isinstance(device, int) else device
        reader = object()

        def checked(tensor: _native.Tensor) -> Any:
            made = make(self._unused(root, loaded, tensor, reader))
            return made if str(place) == "cpu" else made.to(place)

        opened._state = tensors, metadata, checked
        return opened

    def _unused(self, root: str, loaded: _Loaded, tensor: _native.Tensor, reader: object) -> _native.Tensor:
        """The tensor, in memory that nobody had before this reader, who could have written to it: what a second one gets is
        verified anew, in memory of its own."""
        with self._busy:
            self._loads += 1
            while loaded.lent.setdefault((tensor.file, tensor.name), reader) is not reader:
                if root not in self._models:
                    raise UsageError(f"{tensor.file!r} was opened under a guard that is over: open it again")
                if self._models[root] is loaded:
                    self._load(root)
                loaded = self._models[root]
                tensor = loaded.tensor(tensor.file, tensor.name)
            return tensor

    def _file(self, framework: str, filename: Path, device: Any = "cpu", *, backend: str = "mmap") -> dict[str, Any]:
        with self._open(filename, framework, device) as opened:
            return opened.get_tensors()

    def _found(self, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """Files that were found are files of a verified model."""

        @functools.wraps(original)
        def found(*arguments: Any, **named: Any) -> Any:
            files = original(*arguments, **named)
            for file in files or ():
                if file is not None:
                    self._verified(path_of(file))
            return files

        return found

    def _local(self, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """What is named and is there is a verified model, or a file of one; else it is looked for as above."""

        @functools.wraps(original)
        def local(cls: Any, *arguments: Any, **named: Any) -> Any:
            name = arguments[0] if arguments else named.get("pretrained_model_name_or_path")
            if _is_there(name):
                self._verified(path_of(name))
            return original(cls, *arguments, **named)

        return local

    def _folder(self, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """What is named is a verified model, or a file of one: there is no place where others would pass by."""

        @functools.wraps(original)
        def folder(cls: Any, *arguments: Any, **named: Any) -> Any:
            name = arguments[0] if arguments else named.get("pretrained_model_name_or_path")
            if not _is_there(name):
                why = f"{name!r} is none: download it whole, and give its path"
                raise UsageError(f"{what} takes a local folder under a guard, and {why}")
            self._verified(path_of(name))
            return original(cls, *arguments, **named)

        return folder

    def _weights(self, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """What comes back has weights that were asked for here."""

        @functools.wraps(original)
        def weights(cls: Any, *arguments: Any, **named: Any) -> Any:
            name = arguments[0] if arguments else named.get("pretrained_model_name_or_path")
            if _is_there(name):
                self._verified(path_of(name))
            before = self._loads
            made = original(cls, *arguments, **named)
            if self._loads == before:
                message = "returned a model without having read a verified tensor: this version, or these arguments, are not guarded"
                raise NoAnswerError(f"{what} {message}", kind="unguarded")
            placed = getattr(made[0] if isinstance(made, tuple) else made, "hf_device_map", None) or {}
            if "disk" in placed.values():
                message = "left weights on disk, from where they would be read when nobody checks them: give another device_map"
                raise NoAnswerError(f"{what} {message}", kind="unguarded")
            return made

        return weights

    def _module(self, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """Code is a file of a verified model."""

        @functools.wraps(original)
        def module(folder: Any, file: str, *arguments: Any, **named: Any) -> Any:
            if not _is_there(folder):
                raise VerifyError(f"code of {folder!r} is no file of a verified model", kind="unguarded")
            self._verified(os.path.join(path_of(folder), file))
            return original(folder, file, *arguments, **named)

        return module

    # What is verified.

    def _verified(self, path: str) -> tuple[str, _Loaded, str]:
        """The model that a file or folder belongs to, where it is, verified, and the name there (empty for the model itself)."""
        path = os.path.abspath(path)
        with self._busy:
            root = next((root for root in self._models if path == root or path.startswith(root + os.sep)), None)
            if root is None:
                root = self._load(path)
            loaded = self._models[root]
        name = "" if path == root else path[len(root) + 1 :].replace(os.sep, "/")
        if name and name not in loaded.signed and not any(other.startswith(name + "/") for other in loaded.signed):
            raise VerifyError(f"{name!r} is no signed file of {root!r}", kind="unsigned")
        return root, loaded, name

    def _load(self, path: str) -> str:
        root, bundles = self._root(path)
        model = _load(root, bundles, self._who, only=None, device="cpu", **self._options)
        fields = model.report()
        signed = frozenset([*model.tensor_files, *model.files, *fields["loaded"]["not_held"]])
        self._models[root] = _Loaded(model, signed)
        self.reports.append(Report.of(fields))
        return root

    def _root(self, path: str) -> tuple[str, list[str]]:
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        if self._bundles and not os.path.isdir(path):
            return os.path.abspath(_native.model_of(path, self._bundles[0])[0]), self._bundles
        if self._bundles:
            return folder, self._bundles
        while not os.path.exists(os.path.join(folder, "model.sig")):
            above = os.path.dirname(folder)
            if above == folder:
                reason = f"no signature for {path!r}: there is no model.sig in its folder, or in one above; say where it is"
                raise NoAnswerError(reason, kind="no-signature")
            folder = above
        return folder, [os.path.join(folder, "model.sig")]


_active: guard | None = None
_hooked: list[bool] = []


def _rest() -> None:
    global _active
    _active = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _active is not None:
        _active._reads(arguments[0], arguments[2])


class _NotNow:
    """Refuses the import of a library that would come too late to be guarded."""

    def __init__(self, library: str) -> None:
        self._library = library

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self._library:
            raise UsageError(f"import {name} before the guard is entered: it cannot be guarded later")


def _is_there(name: Any) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(name, str | os.PathLike) and os.path.exists(name)


def _exchange(old: Any, new: Any) -> None:
    """Puts `new` in the place of `old` in all modules: whoever imported it has a name of its own for it."""
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType):
            continue
        names = module.__dict__
        for name in [name for name, value in list(names.items()) if value is old]:
            names[name] = new
