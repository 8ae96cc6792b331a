"""Starts engines of vLLM in one process, one after the other: what a start costs is mostly imports."""

import gc
import os
from pathlib import Path
from typing import Any

# Before vLLM is imported: one process, a small cache, no network, nothing that waits.
os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
}


def start(model: Path, policy: Path | None, adapter: Path | None = None, **tensorseal: Any) -> Any:
    """An engine that serves `model`, with the adapter loaded if there is one. It is shown every tensor, and makes no tokens."""
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    settings = {**tensorseal} if policy is None else {"policy": str(policy), **tensorseal}
    engine = LLM(
        model=str(model), load_format="tensorseal", model_loader_extra_config={"tensorseal": settings}, dtype="bfloat16",
        enforce_eager=True, max_model_len=128, enable_lora=adapter is not None, max_lora_rank=8, disable_log_stats=True,
    )  # fmt: skip
    if adapter is not None:
        assert engine.llm_engine.add_lora(LoRARequest("adapter", 1, str(adapter)))
    return engine


def stop() -> None:
    """Lets go of the engine that was started last, also if its start has failed."""
    from vllm.distributed import cleanup_dist_env_and_memory

    gc.collect()
    cleanup_dist_env_and_memory()
