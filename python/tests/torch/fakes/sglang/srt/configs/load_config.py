"""As far as `tensorseal.sglang` looks at it."""

import enum
from dataclasses import dataclass, field
from typing import Any


class LoadFormat(str, enum.Enum):
    AUTO = "auto"
    SAFETENSORS = "safetensors"
    FASTSAFETENSORS = "fastsafetensors"
    INSTANTTENSOR = "instanttensor"
    PRIVATE = "private"
    IPC_CACHE = "ipc_cache"


@dataclass
class LoadConfig:
    load_format: Any = LoadFormat.AUTO
    model_loader_extra_config: Any = field(default_factory=dict)
    tp_rank: int | None = None
    draft_model_idx: int | None = None
    weight_cache_mode: str = "off"
    fallback_load_format: Any = LoadFormat.AUTO
    load_group: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.load_format, str):
            self.load_format = LoadFormat(self.load_format)
