"""The load format of SGLang: a class that its `load_format` may be."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang.srt.configs.load_config import LoadConfig, LoadFormat
from sglang.srt.model_loader import weight_utils
from sglang.srt.model_loader.loader import DefaultModelLoader

import tensorseal
from tensorseal.errors import TensorsealError, UsageError, VerifyError
from tensorseal.vllm import registry, settings, weights
from tensorseal.vllm.folder import Folder
from tensorseal.vllm.sealed import SealedModel

from . import chosen

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("tensorseal.sglang")


class TensorsealLoader(DefaultModelLoader):
    """Loads signed models, and seals the memory in which they end. Also what updates weights from disk in place."""

    def __init__(self, load_config: LoadConfig) -> None:
        if not chosen():
            raise UsageError(
                "SGLang has not loaded the plugin tensorseal, or not applied its hooks: its log says why; "
                "SGLANG_PLUGINS, where it is set, has to name tensorseal"
            )
        self.asked, rest = settings.read(load_config.model_loader_extra_config)
        if self.asked.inner == "runai_streamer":
            raise UsageError("inner = runai_streamer is not for SGLang, whose own loader for it cannot be followed")
        inner = dataclasses.replace(load_config, load_format=LoadFormat(self.asked.inner), model_loader_extra_config=rest)
        super().__init__(inner)
        self._load: registry.Load | None = None
        self._ended = False
        self._name = "model"

    def load_model(self, *, model_config: Any, device_config: Any) -> "torch.nn.Module":
        """As the default loader; the model has to have been loaded through the checks below."""
        if getattr(model_config, "modelopt_quant", None):
            raise UsageError("modelopt_quant has transformers load the model, past this loader: nothing would be verified")
        self._load = None
        model = super().load_model(model_config=model_config, device_config=device_config)
        if self.asked.mode == "enforce" and self._load is None:
            raise VerifyError("SGLang has made the model without asking this loader for weights")
        return model

    def load_weights_and_postprocess(self, model: "torch.nn.Module", weights: Any, target_device: Any) -> None:
        """As the default loader; then everything has to have been asked for, and memory is sealed."""
        super().load_weights_and_postprocess(model, weights, target_device)
        if self.asked.mode == "off":
            return
        load = self._load
        if load is None or not self._ended:
            self._refused(VerifyError("SGLang stopped asking for weights before all of them were loaded and checked"))
        elif load.complete and self.asked.seal:
            name = f"{self._name}-rank{self.load_config.tp_rank or 0}"
            sealed = SealedModel(model, name=name, device=target_device.type, loaded=load.loaded, ignore=self.asked.seal_ignore)
            registry.keep(sealed)
            _log.info("%s: %d bytes are sealed, %d were loaded", name, sealed.coverage.sealed, load.loaded)

    def _get_weights_iterator(self, source: Any, *, resolved_source: Any = None, **prefetch: Any) -> Iterator[tuple[str, "torch.Tensor"]]:
        """The weights of one folder, each verified before it comes. `prefetch`: the default loader's, and of no use here."""
        if self.asked.mode == "off":
            # Not counted among the loads: those are of models that were verified, or refused.
            _log.warning("NOTHING IS VERIFIED of %s: mode is off", source.model_or_path)
            return super()._get_weights_iterator(source, resolved_source=resolved_source, **prefetch)
        if resolved_source is not None:
            raise UsageError("startup weight-load overlap reads files before they are checked: it is not for this load format")
        tensors = self._checked(source)
        index = self.load_config.draft_model_idx
        if index is not None:
            return self._filter_mtp_weights(tensors, source.prefix, index)
        return ((source.prefix + name, tensor) for name, tensor in tensors)

    def _checked(self, source: Any) -> Iterator[tuple[str, "torch.Tensor"]]:
        """Tensors under the names that they have in the files."""
        served = source.model_config is not None
        if served or self._load is None:
            self._load = registry.begin({"mode": self.asked.mode, "inner": self.asked.inner, "folders": []})
            self._name = Path(source.model_or_path).name
        load, self._ended = self._load, False
        # The bundle that was named is that of the model which is served; a draft or an encoder has its own.
        draft = served and getattr(source.model_config, "is_draft_model", False)
        bundle = self.asked.bundle if served and not draft else None
        try:
            for name, tensor in self._by_mode(source, bundle, load):
                load.loaded += tensor.nbytes
                yield name, tensor
        except TensorsealError as error:
            self._refused(error)
            return
        self._ended = True
        registry.finish(load)
        load.report["complete"] = load.complete
        _log.info("%s", json.dumps(load.report))

    def _by_mode(self, source: Any, bundle: Path | None, load: registry.Load) -> Iterator[tuple[str, "torch.Tensor"]]:
        asked, path = self.asked, Path(source.model_or_path)
        if asked.policy is None:
            raise UsageError("there is no policy")
        if asked.mode == "log":
            try:
                report = tensorseal.verify(path, bundle=bundle, policy=asked.policy, symlinks=asked.symlinks)
                load.report["folders"].append({"model": str(path), "identity": str(report.identity), "root": report.root})
            except TensorsealError as error:
                self._refused(error)
            yield from super()._get_weights_iterator(dataclasses.replace(source, prefix=""))
            return
        folder = Folder.open(path, policy=asked.policy, bundle=bundle, symlinks=asked.symlinks)
        code = getattr(source.model_config, "trust_remote_code", True)
        entry = folder.report(code=code)
        load.report["folders"].append(entry)
        yield from self._verified(folder, source)
        folder.check_rest()
        entry |= folder.report(code=code)

    def _verified(self, folder: Folder, source: Any) -> Iterator[tuple[str, "torch.Tensor"]]:
        files = folder.chosen(None, source.allow_patterns_overrides)
        if self.asked.inner == "safetensors":
            yield from folder.tensors(files, _every)
            return
        # SGLang's iterators open the files by themselves: it is what they yield that is checked.
        manifest = folder.signed.tensor_manifest()
        if manifest is not None:
            tensors = self._iterate([str(folder.path / name) for name in files.files])
            yield from weights.by_manifest(tensors, manifest, files.files, _every)
        else:
            yield from weights.by_file(
                files.files, folder.path, folder.signed, lambda path: self._iterate([str(path)]), filtered=False
            )
        folder.names |= {name: "memory" for name in files.files}

    def _iterate(self, files: list[str]) -> Iterator[tuple[str, "torch.Tensor"]]:
        """SGLang's own iterator over these files."""
        extra = self.load_config.model_loader_extra_config
        if self.asked.inner == "fastsafetensors":
            return weight_utils.fastsafetensors_weights_iterator(files, enable_gds=extra.get("enable_gds", True))
        return weight_utils.instanttensor_weights_iterator(files, extra_config=extra, load_group=self.load_config.load_group)

    def _refused(self, error: TensorsealError) -> None:
        """Ends the load, or says loudly that it goes on."""
        if self._load is not None:
            registry.refuse(self._load)
        if self.asked.mode == "log":
            _log.error("NOT VERIFIED, mode is log: %s", error)
            return
        _log.error("refused: %s", error)
        raise error


def _every(name: str) -> bool:
    """SGLang gives each rank all tensors."""
    return True
