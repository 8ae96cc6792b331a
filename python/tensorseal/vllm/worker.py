"""What vLLM's workers get: methods that `collective_rpc` calls by name, and a look at memory after it may have changed."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from tensorseal.errors import TensorsealError, UsageError, VerifyError

from . import lora, registry

_log = logging.getLogger("tensorseal.vllm")

# After these the weights may be others, or in other places.
_WATCHED = ("sleep", "wake_up", "reload_weights", "finish_weight_update")


def install(qualified_name: str) -> None:
    """Gives the class of workers of that name the methods, and watches those that change memory. Once a process."""
    from vllm.utils.import_utils import resolve_obj_by_qualname

    equip(resolve_obj_by_qualname(qualified_name))


def equip(worker: Any) -> None:
    """The same for a class. Raises `UsageError` if it has no such methods as vLLM's workers have."""
    for name in _WATCHED:
        method = getattr(worker, name, None)
        if method is None:
            raise UsageError(f"{worker.__qualname__} has no {name}: its memory cannot be watched. This is made for vLLM 0.32")
        if not hasattr(method, "_tensorseal"):
            setattr(worker, name, _watching(name, method))
    worker.tensorseal_reverify = reverify
    worker.tensorseal_status = status
    worker.tensorseal_exposition = exposition


def stands_for(module: Any) -> str | None:
    """vLLM puts layers for adapters in the place of those that they wrap, which lie in `base_layer`."""
    from vllm.lora.layers import BaseLayerWithLoRA

    return "base_layer" if isinstance(module, BaseLayerWithLoRA) else None


def reverify(worker: Any) -> dict[str, Any]:
    """Measures all sealed memory of this worker again. `result`: `unchanged`, `broken` or `no_answer`, the worst of all."""
    sealed = registry.sealed()
    found = [one.reverify() for one in sealed]
    try:
        model = worker.get_model()
    except NotImplementedError:
        model = None
    if model is not None and sealed and registry.sealed_of(model) is None:
        found.append({"seal": None, "result": "broken", "message": "the engine serves another model than the one under seal"})
    if not found:
        found.append({"seal": None, "result": "no_answer", "message": "nothing is under seal in this worker"})
    worst = next(
        result for result in ("broken", "no_answer", "unchanged") if any(one["result"] == result for one in found)
    )
    return {"rank": worker.rank, "result": worst, "seals": found}


def status(worker: Any) -> dict[str, Any]:
    """What was loaded in this worker, and what of it is sealed. Nothing is measured."""
    return {
        "rank": worker.rank,
        "loads": [load.report for load in registry.loads()],
        "adapters": lora.adapters(),
        "seals": [one.status() for one in registry.sealed()],
    }


def exposition(worker: Any) -> str:
    """The counters and seals of this worker for Prometheus."""
    from tensorseal.seal import exposition as written

    seals = [one.seal for one in registry.sealed() if one.seal is not None]
    return registry.metrics(worker.rank, lora.counted()) + written(seals)


def _watching(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """The method, and a look at what it left behind."""

    @wraps(original)
    def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
        before = registry.begun()
        try:
            result = original(self, *arguments, **keywords)
        except BaseException as error:
            # Half of an update may be in memory.
            if name != "sleep" and registry.sealed():
                _spoil_all(f"{name} ended with {type(error).__name__}: {error}")
            raise
        _after(name, self, before, arguments, keywords)
        return result

    method._tensorseal = True  # type: ignore[attr-defined]
    return method


def _after(name: str, worker: Any, before: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    if not registry.sealed():
        return
    if name == "sleep":
        # From level 2 on weights are not kept: what is there after waking is not what was sealed until it is loaded again.
        level = keywords.get("level", arguments[0] if arguments else 1)
        if level != 1 and not _keeps_memory(worker):
            _spoil_all(f"the engine has slept at level {level}, and weights were dropped: load them again")
        return
    if name == "wake_up":
        tags = keywords.get("tags", arguments[0] if arguments else None)
        if tags is not None and "weights" not in tags:
            return
    if name == "reload_weights" and registry.begun() == before + 1 and _reseal(worker, registry.loads()[-1]):
        return
    found = [one for one in (sealed.reverify() for sealed in registry.sealed()) if one["result"] != "unchanged"]
    void = any(sealed.spoilt for sealed in registry.sealed())
    if found and name == "wake_up" and not void and registry.engine.mode == "enforce":
        raise VerifyError(f"memory is not what was sealed after {name}: {found[0]['message']}")


def _reseal(worker: Any, load: registry.Load) -> bool:
    """Seals anew after a load through this format in which everything was verified. Everything else leaves the seal to break."""
    sealed = registry.sealed_of(worker.get_model())
    if sealed is None or not load.complete:
        return False
    try:
        sealed.take(load.loaded)
    except TensorsealError as error:
        sealed.spoil(f"it could not be taken again after a reload: {error}")
    return True


def _keeps_memory(worker: Any) -> bool:
    """On the CPU sleeping does nothing."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _spoil_all(why: str) -> None:
    for sealed in registry.sealed():
        sealed.spoil(why)
