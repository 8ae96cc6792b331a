"""Verified loading and sealed weights in SGLang (read and recorded: 0.5.23).

`sglang serve --model-path MODEL --load-format private --model-loader-extra-config '{"tensorseal": {"policy": "policy.toml"}}'`,
or, from Python, `Engine(load_format=tensorseal.sglang.load_format(), ..)`.

SGLang logs a plugin that it cannot load and goes on without it. Neither of the two ways is open then: SGLang itself has no
loader for `private`, and the class asserts, when it is made, that the hooks below were there. `loader` is the load format; it
compares what it hands on by the code that serves vLLM, too (`tensorseal.vllm`).
"""

import os
from collections.abc import Callable
from typing import Any

from tensorseal.errors import UsageError, VerifyError

# What is hooked: who makes loaders, for a start and for an update in place, and who answers `POST /weights_checker`.
LOADERS = "sglang.srt.model_loader.loader.get_model_loader"
CHECKER = "sglang.srt.managers.scheduler_components.weight_updater.SchedulerWeightUpdaterManager.check_weights"

# The class asserts that it was made below `choose`.
_choosing = 0


def register() -> None:
    """The entry point of the group `sglang.srt.plugins`, which SGLang calls in each of its processes."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(LOADERS, choose, HookType.AROUND)
    HookRegistry.register(CHECKER, check, HookType.AROUND)


def load_format() -> type:
    """The load format as a class, for `Engine(load_format=..)`."""
    from .loader import TensorsealLoader

    return TensorsealLoader


def chosen() -> bool:
    """Whether `choose` is at work: then SGLang has applied the hooks."""
    return _choosing > 0


def choose(original: Callable[..., Any], load_config: Any, model_config: Any = None) -> Any:
    """Around `get_model_loader`: gives our loader for `private`, whatever quantization would have it otherwise.

    Raises `UsageError` for any other loader where `TENSORSEAL_POLICY` says that weights are to be verified.
    """
    global _choosing
    ours = load_format()
    asked = load_config.load_format
    if load_config.weight_cache_mode != "off" and (os.environ.get("TENSORSEAL_POLICY") or _is_ours(load_config, ours)):
        raise UsageError("weights from a cache (--weight-cache-mode) were loaded by another process: they cannot be verified here")
    if not _is_ours(load_config, ours):
        if os.environ.get("TENSORSEAL_POLICY"):
            raise UsageError(
                f"TENSORSEAL_POLICY is set, and weights are to be loaded as {getattr(asked, 'value', asked)}, unverified: "
                "say --load-format private (for a draft model --speculative-draft-load-format private)"
            )
        return original(load_config, model_config)
    _choosing += 1
    try:
        return (asked if isinstance(asked, type) and issubclass(asked, ours) else ours)(load_config)
    finally:
        _choosing -= 1


def _is_ours(load_config: Any, ours: type) -> bool:
    for asked in (load_config.load_format, load_config.fallback_load_format):
        if getattr(asked, "value", asked) == "private" or (isinstance(asked, type) and issubclass(asked, ours)):
            return True
    return False


def check(original: Callable[..., Any], updater: Any, request: Any) -> Any:
    """Around what answers `POST /weights_checker` in each rank: memory under seal is measured again, before checksums are given.

    All tensor-parallel ranks are asked, and give the same answer: status 400 if one seal is broken or could not be measured.
    """
    if request.action not in ("checksum", "compare"):
        return original(updater, request)
    import torch
    from sglang.srt.managers.io_struct import CheckWeightsReqOutput

    found = _not_unchanged()
    if torch.distributed.is_initialized():
        ranks: list[list[str]] = [[] for _ in range(torch.distributed.get_world_size(group=updater.tp_cpu_group))]
        # Nobody may leave before the others have: they would wait for ever.
        torch.distributed.all_gather_object(ranks, found, group=updater.tp_cpu_group)
        found = [f"rank {rank}: {message}" for rank, messages in enumerate(ranks) for message in messages]
    if found:
        return CheckWeightsReqOutput(success=False, message="; ".join(found))
    return original(updater, request)


def _not_unchanged() -> list[str]:
    """What is wrong with the seals of this process; none is wrong, too."""
    from tensorseal.vllm import registry

    sealed = registry.sealed()
    if not sealed and registry.loads():
        return ["no memory is sealed"]
    found = []
    for model in sealed:
        try:
            answer = model.reverify()
        except Exception as error:  # Whatever it is: the other ranks wait for this answer.
            answer = {"seal": model.name, "result": "no_answer", "message": repr(error)}
        if answer["result"] != "unchanged":
            found.append(f"{answer['seal']}: {answer['result']}: {answer['message']}")
    return found
