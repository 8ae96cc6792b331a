"""The interface, and the loader that a checkpoint has by default."""

from abc import ABC, abstractmethod
from pathlib import Path

from safetensors.torch import load_file


class BaseWeightLoader(ABC):
    @abstractmethod
    def load_weights(self, checkpoint_dir, mapping, **kwargs): ...

    def cleanup(self):
        pass


class HfWeightLoader(BaseWeightLoader):
    def load_weights(self, checkpoint_dir, mapping, use_consolidated=False):
        weights = {}
        for file in sorted(Path(checkpoint_dir).glob("*.safetensors")):
            weights |= load_file(file)
        return weights
