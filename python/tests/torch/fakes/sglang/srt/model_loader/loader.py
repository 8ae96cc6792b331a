"""As far as `tensorseal.sglang` looks at it: the order of a load is the recorded one, what is loaded is a dictionary."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from sglang.srt.configs.load_config import LoadFormat

from . import weight_utils


class BaseModelLoader:
    def __init__(self, load_config):
        self.load_config = load_config


class DefaultModelLoader(BaseModelLoader):
    @dataclasses.dataclass
    class Source:
        model_or_path: str
        revision: str | None
        prefix: str = ""
        fall_back_to_pt: bool = True
        allow_patterns_overrides: list[str] | None = None
        model_config: Any = None

        @classmethod
        def init_new(cls, model_config, model):
            return cls(model_config.model_path, None, model_config=model_config)

    def __init__(self, load_config):
        super().__init__(load_config)
        unknown = set(load_config.model_loader_extra_config) - {"enable_multithread_load", "num_threads", "enable_gds"}
        if unknown:
            raise ValueError(f"Unexpected extra config keys: {unknown}")

    def _get_weights_iterator(
        self, source, *, resolved_source=None, startup_prefetch_started=False, startup_prefetch_active=False
    ):
        files = sorted(map(str, Path(source.model_or_path).glob("*.safetensors")))
        return ((source.prefix + name, tensor) for name, tensor in weight_utils.safetensors_weights_iterator(files))

    @classmethod
    def _filter_mtp_weights(cls, weights_iterator, prefix, draft_model_idx):
        for name, tensor in weights_iterator:
            yield prefix + name, tensor

    def _get_all_weights(self, model_config, model) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self._get_weights_iterator(self.Source.init_new(model_config, model))
        for source in getattr(model, "secondary_weights", ()):
            yield from self._get_weights_iterator(source)

    def load_model(self, *, model_config, device_config):
        model = model_config.make()
        target_device = torch.device(device_config.device)
        self.load_weights_and_postprocess(model, self._get_all_weights(model_config, model), target_device)
        return model

    @staticmethod
    def load_weights_and_postprocess(model, weights, target_device):
        model.load_weights(weights)


def get_model_loader(load_config, model_config=None):
    if isinstance(load_config.load_format, type):
        return load_config.load_format(load_config)
    if getattr(model_config, "quantization", None) == "modelopt":
        return SimpleNamespace(name="ModelOptModelLoader")
    if load_config.load_format == LoadFormat.PRIVATE:
        raise ValueError("Failed to import sglang.private.private_model_loader")
    return DefaultModelLoader(load_config)
