"""Verified loading in TensorRT-LLM's PyTorch backend: a weight loader for its checkpoint loaders (docs/python-serving.md).

Recorded interface: `BaseWeightLoader.load_weights(checkpoint_dir, mapping, **kwargs)` and `cleanup()`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError, VerifyError

if TYPE_CHECKING:
    import torch

    from .vllm.folder import Folder

_log = logging.getLogger("tensorseal.tensorrt_llm")


class WeightLoader:
    """`HfCheckpointLoader(weight_loader=WeightLoader(policy=..))`: gives weights that were verified in private memory, or none.

    `policy`: a policy file. `bundle`: `model.sig` in the checkpoint's folder if None. `inner`: another weight loader whose
    tensors are copied, checked and handed on; without one the files are read here.
    """

    def __init__(self, *, policy: str | Path, bundle: str | Path | None = None, inner: Any = None) -> None:
        self._policy = Path(policy)
        self._bundle = None if bundle is None else Path(bundle)
        self._inner = inner

    def load_weights(self, checkpoint_dir: str, mapping: Any, **kwargs: Any) -> dict[str, "torch.Tensor"]:
        """All tensors of the checkpoint, whole, by name; TensorRT-LLM cuts them for the rank in `mapping`.

        Raises `VerifyError` if any signed file is not as signed, and other `TensorsealError`s if that is not known.
        """
        from .vllm.folder import Folder

        folder = Folder.open(Path(checkpoint_dir), policy=self._policy, bundle=self._bundle)
        if self._inner is not None:
            found = self._inner.load_weights(checkpoint_dir, mapping, **kwargs)
            tensors = _verified(folder, found, consolidated=kwargs.get("use_consolidated", False))
        else:
            consolidated = kwargs.pop("use_consolidated", False)
            if kwargs:
                raise UsageError(f"unknown options: {sorted(kwargs)}. A loader that takes them can be named: inner=")
            files = folder.chosen(None, ["consolidated*.safetensors"] if consolidated else None)
            tensors = dict(folder.tensors(files, lambda name: True))
        folder.check_rest()
        _log.info("%s: %d tensors, signed by %s", checkpoint_dir, len(tensors), folder.signed.identity)
        return tensors

    def cleanup(self) -> None:
        """Called when the model is loaded."""
        if self._inner is not None:
            self._inner.cleanup()


def _verified(folder: "Folder", found: Mapping[str, Any], *, consolidated: bool) -> dict[str, "torch.Tensor"]:
    """What another loader has read, copied to private memory, and compared there."""
    from .vllm import weights
    from .vllm.folder import INDEX

    manifest = folder.signed.tensor_manifest()
    if manifest is None:
        raise UsageError(
            f"{folder.path}: the tensors of another loader are compared one by one, and the signature has digests of files alone. "
            "Sign the model with --tensors, or leave inner= out"
        )
    # Which files it has chosen, its tensors say: each of these has to be there whole, and so has each that the index names.
    files = {manifest.tensors[name].file for name in found.keys() if name in manifest.tensors}
    if not files:
        raise VerifyError(f"{folder.path}: no tensor that was loaded is signed")
    if not consolidated and folder.file(INDEX) is not None:
        files |= set(folder.chosen().files)
    return dict(weights.by_manifest(found.items(), manifest, files, lambda name: True))
