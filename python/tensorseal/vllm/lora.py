"""Adapters take the policy of the model: what is not signed is not loaded.

vLLM reads an adapter from its folder when it is first asked for it, with code that has no place for a loader. So two of its
functions are wrapped, when a model is loaded in this format with adapters enabled, and it is checked that they are where this
knows them to be; a vLLM in which they are not is refused, with the advice to serve without adapters.

The adapter is loaded and verified in memory, written to a private folder, and vLLM reads that. The second wrap refuses
every adapter that did not come by this way.
"""

import copy
import logging
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from tensorseal.errors import TensorsealError, UsageError, VerifyError

from .folder import Folder
from .settings import Settings

_log = logging.getLogger("tensorseal.vllm")

# What adapters are held to; None until a model is loaded in the format. `_verified`: folders that hold verified adapters.
_settings: Settings | None = None
_verified: set[Path] = set()
_loaded: list[dict[str, Any]] = []
_KEPT = 64
_counted = {"verified": 0, "refused": 0}


def install(settings: Settings) -> None:
    """Wraps vLLM's functions, once a process. Raises `UsageError` if they are not there as this knows them."""
    from vllm.lora import worker_manager
    from vllm.lora.lora_model import LoRAModel

    global _settings
    if _settings not in (None, settings):
        raise UsageError("two models of one process have different settings: their adapters could not be told apart")
    managers = (worker_manager.WorkerLoRAManager, worker_manager.LRUCacheWorkerLoRAManager)
    wrap(managers, LoRAModel, worker_manager.get_adapter_absolute_path)
    assert_installed(managers, LoRAModel)
    _settings = settings


def wrap(managers: tuple[Any, ...], model: Any, resolve: Callable[[str], str]) -> None:
    """Wraps `_load_adapter` of each manager that has its own, and `from_local_checkpoint` of adapters."""
    for manager in managers:
        own = vars(manager).get("_load_adapter")
        if own is None or hasattr(own, "_tensorseal"):
            continue
        names = own.__code__.co_names
        if not {"from_local_checkpoint", "from_local_dir", "get_adapter_absolute_path"} <= set(names):
            raise UsageError(
                f"{manager.__qualname__} loads adapters in another way than vLLM 0.32: they cannot be verified. "
                "Serve without --enable-lora"
            )
        manager._load_adapter = _guarded(own, resolve)
    read = vars(model).get("from_local_checkpoint")
    if not isinstance(read, classmethod):
        raise UsageError(
            "LoRAModel.from_local_checkpoint is not there: adapters of this vLLM cannot be verified. Serve without --enable-lora"
        )
    if not hasattr(read.__func__, "_tensorseal"):
        model.from_local_checkpoint = classmethod(_refusing(read.__func__))


def assert_installed(managers: tuple[Any, ...], model: Any) -> None:
    """The wraps are in place in every class that the engine may use."""
    functions = [manager._load_adapter for manager in managers] + [model.from_local_checkpoint.__func__]
    if not all(hasattr(function, "_tensorseal") for function in functions):
        raise UsageError(
            "adapters of this vLLM cannot be verified: something has replaced what loads them. Serve without --enable-lora"
        )


def _guarded(original: Callable[[Any, Any], Any], resolve: Callable[[str], str]) -> Callable[[Any, Any], Any]:
    """`_load_adapter`, which reads a verified copy in place of what was asked for."""

    @wraps(original)
    def load(self: Any, request: Any) -> Any:
        settings = _settings
        if settings is None or settings.mode == "off" or settings.policy is None:
            return original(self, request)
        path = Path(resolve(request.lora_path))
        with tempfile.TemporaryDirectory(prefix="tensorseal-adapter-") as name:
            folder = Path(name)
            try:
                report = materialise(path, folder, settings.policy, settings.symlinks)
            except TensorsealError as error:
                _counted["refused"] += 1
                if settings.mode != "log":
                    _log.error("the adapter %s is refused: %s", request.lora_name, error)
                    raise
                _log.error("NOT VERIFIED, mode is log: the adapter %s: %s", request.lora_name, error)
                _verified.add(path)
                try:
                    return original(self, request)
                finally:
                    _verified.discard(path)
            ours = copy.copy(request)
            ours.lora_path = str(folder)
            _verified.add(folder)
            try:
                loaded = original(self, ours)
            finally:
                _verified.discard(folder)
        _counted["verified"] += 1
        _loaded.append({"adapter": request.lora_name, **report})
        del _loaded[:-_KEPT]
        _log.info("the adapter %s is as signed by %s", request.lora_name, report["identity"])
        return loaded

    load._tensorseal = True  # type: ignore[attr-defined]
    return load


def _refusing(original: Callable[..., Any]) -> Callable[..., Any]:
    """`from_local_checkpoint`, which reads only what was verified just before."""

    @wraps(original)
    def read(cls: type, lora_dir: str, *arguments: Any, **keywords: Any) -> Any:
        if _settings is not None and _settings.mode == "enforce" and Path(lora_dir) not in _verified:
            raise VerifyError(f"the adapter in {lora_dir} was not verified: it came by a way that the policy does not see")
        return original(cls, lora_dir, *arguments, **keywords)

    read._tensorseal = True  # type: ignore[attr-defined]
    return read


def materialise(path: Path, into: Path, policy: Path, symlinks: Any = "refuse") -> dict[str, Any]:
    """Loads the signed adapter at `path`, and writes what was verified to the folder `into`. Its signature is in its folder.

    Raises `VerifyError` if it is not as signed, or not signed by whom the policy asks for.
    """
    from safetensors.torch import save_file

    folder = Folder.open(path, policy=policy, symlinks=symlinks)
    # vLLM reads the top of the folder alone.
    for name in folder.names:
        if "/" not in name:
            (into / name).write_bytes(folder.held(name))
    for name in folder.weights:
        if "/" not in name:
            save_file(folder.shard(name), into / name)
    folder.check_rest()
    return {"model": str(path), "identity": folder.signed.identity, "root": folder.signed.root}


def adapters() -> list[dict[str, Any]]:
    """The last adapters that were verified in this process, in order."""
    return _loaded


def counted() -> dict[str, int]:
    """How many adapters were verified, and refused."""
    return dict(_counted)
