"""The load format `tensorseal` of vLLM."""

import copy
import dataclasses
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorseal
import torch
from tensorseal.errors import TensorsealError, UsageError, VerifyError
from vllm.config import ModelConfig, VllmConfig
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.ep_weight_filter import should_skip_weight

from . import lora, registry, settings, weights, worker
from .folder import Folder, differences
from .sealed import SealedModel

_log = logging.getLogger("tensorseal.vllm")


class TensorsealLoader(DefaultModelLoader):
    """Loads signed models, and seals the memory in which they end.

    A subclass of the default loader for what surrounds its iterators: the order of a load, and which experts a rank keeps.
    """

    def __init__(self, load_config: LoadConfig) -> None:
        _speak_where_the_engine_speaks()
        self.asked, rest = settings.read(load_config.model_loader_extra_config)
        if self.asked.inner == "runai_streamer":
            from vllm.model_executor.model_loader.runai_streamer_loader import RunaiModelStreamerLoader

            own = {key: rest.pop(key) for key in ("distributed", "concurrency", "memory_limit") if key in rest}
            streamed = dataclasses.replace(load_config, load_format="runai_streamer", model_loader_extra_config=own)
            # It reads its options when it is made, and leaves the number of threads in the environment.
            self._is_distributed = RunaiModelStreamerLoader(streamed)._is_distributed
        if "enable_multithread_load" in rest or "num_threads" in rest:
            raise UsageError("enable_multithread_load is not for the load format tensorseal, which reads with several threads")
        inner = "safetensors" if self.asked.inner == "runai_streamer" else self.asked.inner
        super().__init__(dataclasses.replace(load_config, load_format=inner, model_loader_extra_config=rest))
        self._load: registry.Load | None = None

    def download_model(self, model_config: ModelConfig) -> None:
        """Nothing: models are folders, and are looked at when they are loaded."""

    def load_model(self, vllm_config: VllmConfig, model_config: ModelConfig, prefix: str = "") -> torch.nn.Module:
        """Loads, lets the engine process the weights, and seals what came of it."""
        asked = self.asked
        if asked.mode == "off":
            _log.warning("NOTHING IS VERIFIED of %s: mode is off", model_config.model)
            return super().load_model(vllm_config, model_config, prefix)
        draft = _refuse_other_formats(vllm_config, model_config)
        if not draft:
            registry.engine = registry.Engine(model_config, _folder_of(model_config), asked.mode)
        worker.install(vllm_config.parallel_config.worker_cls)
        if vllm_config.lora_config is not None:
            lora.install(asked)
        model = super().load_model(vllm_config, model_config, prefix)
        load = self._load
        if load is None:
            raise VerifyError("the engine has made the model without asking this loader for weights")
        if asked.seal:
            try:
                self._seal(model, vllm_config, "draft-" if draft else "", model_config, load)
            except TensorsealError as error:
                self._refused(error)
        return model

    def load_weights(self, model: torch.nn.Module, model_config: ModelConfig) -> None:
        """As the default loader; afterwards all weights have to have been asked for."""
        super().load_weights(model, model_config)
        load = self._load
        if self.asked.mode == "enforce" and (load is None or not load.complete):
            raise VerifyError("the engine stopped asking for weights before all of them were loaded and checked")

    def get_all_weights(self, model_config: ModelConfig, model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        """All weights, each verified before it comes. Also what a reload in place asks."""
        if self.asked.mode == "off":
            yield from super().get_all_weights(model_config, model)
            return
        primary = DefaultModelLoader.Source(
            _folder_of(model_config),
            model_config.revision,
            allow_patterns_overrides=getattr(model, "allow_patterns_overrides", None),
        )
        load = self._load = registry.begin({"mode": self.asked.mode, "inner": self.asked.inner, "folders": []})
        for source in (primary, *getattr(model, "secondary_weights", ())):
            try:
                for name, tensor in self._source(source, model_config, load):
                    load.loaded += tensor.nbytes
                    yield name, tensor
            except TensorsealError as error:
                registry.refuse(load)
                self._refused(error)
        registry.finish(load)
        load.report["complete"] = load.complete
        _log.info("%s", json.dumps(load.report))

    def _source(self, source: Any, model_config: ModelConfig, load: registry.Load) -> Iterator[tuple[str, torch.Tensor]]:
        """The weights of one folder."""
        asked, policy = self.asked, self.asked.policy
        if policy is None:
            raise UsageError("there is no policy")
        path = Path(source.model_or_path)
        # The bundle that was named is that of the model which is served; a draft or an encoder has its own.
        bundle = asked.bundle if source.model_or_path == registry.engine.folder else None
        if asked.mode == "log":
            yield from self._only_logged(source, path, bundle, policy, load)
            return
        folder = Folder.open(path, policy=policy, bundle=bundle, symlinks=asked.symlinks)
        entry = folder.report(code=model_config.trust_remote_code)
        load.report["folders"].append(entry)
        if source.model_or_path == _folder_of(model_config):
            entry["engine_configuration"] = self._compare_config(folder, model_config)
            self._check_others(model_config, path, policy, load)
        for name, tensor in self._verified(folder, source):
            yield source.prefix + name, tensor
        folder.check_rest()
        entry |= folder.report(code=model_config.trust_remote_code)

    def _verified(self, folder: Folder, source: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Tensors of the folder, by the inner loader that was asked for."""
        chosen = folder.chosen(source.subfolder, source.allow_patterns_overrides)
        if self.asked.inner == "safetensors":
            yield from folder.tensors(chosen, self._wanted)
            return
        # The engine's iterators open the files by themselves: it is what they yield that is checked.
        manifest = folder.signed.tensor_manifest()
        if manifest is not None:
            paths = [folder.path / name for name in chosen.files]
            tensors = self._iterate([str(path) for path in paths])
            yield from weights.by_manifest(tensors, manifest, chosen.files, self._wanted)
        else:
            filtered = self.local_expert_ids is not None and self.asked.inner == "instanttensor"
            found = weights.by_file(
                chosen.files, folder.path, folder.signed, lambda path: self._iterate([str(path)]), filtered
            )
            yield from found
        folder.names |= {name: "memory" for name in chosen.files}

    def _iterate(self, files: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """The engine's own iterator over these files."""
        from vllm.model_executor.model_loader import weight_utils

        bar = self.load_config.use_tqdm_on_load
        if self.asked.inner == "fastsafetensors":
            return weight_utils.fastsafetensors_weights_iterator(files, bar)
        if self.asked.inner == "instanttensor":
            return weight_utils.instanttensor_weights_iterator(files, bar, local_expert_ids=self.local_expert_ids)
        return weight_utils.runai_safetensors_weights_iterator(files, bar, self._is_distributed)

    def _wanted(self, name: str) -> bool:
        return not should_skip_weight(name, self.local_expert_ids)

    def _only_logged(
        self, source: Any, path: Path, bundle: Path | None, policy: Path, load: registry.Load
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Mode log: the folder is verified on disk, and the engine loads it in its own way whatever came of it."""
        try:
            report = tensorseal.verify(path, bundle=bundle, policy=policy, symlinks=self.asked.symlinks)
            load.report["folders"].append({"model": str(path), "identity": str(report.identity), "root": report.root})
        except TensorsealError as error:
            registry.refuse(load)
            load.report["folders"].append({"model": str(path), "refused": str(error)})
            self._refused(error)
        if self.asked.inner == "runai_streamer":
            _, files, _, _ = self._prepare_weights(
                source.model_or_path, source.subfolder, source.revision, False, source.allow_patterns_overrides
            )
            for name, tensor in self._iterate(files):
                yield source.prefix + name, tensor
        else:
            yield from self._get_weights_iterator(source)

    def _check_others(self, model_config: ModelConfig, path: Path, policy: Path, load: registry.Load) -> None:
        """Folders beside the model's from which the engine takes configuration or a tokenizer: the policy is asked, too."""
        others = {model_config.hf_config_path}
        if not model_config.skip_tokenizer_init:
            others.add(model_config.tokenizer)
        if model_config.generation_config not in ("auto", "vllm"):
            others.add(model_config.generation_config)
        for other in sorted({str(other) for other in others if other is not None}):
            if Path(other).resolve() != path.resolve():
                report = tensorseal.verify(Path(other), policy=policy, symlinks=self.asked.symlinks)
                load.report["folders"].append({"model": other, "identity": str(report.identity), "root": report.root})

    def _compare_config(self, folder: Folder, model_config: ModelConfig) -> str:
        """Whether the configuration that the engine holds, which it read before, is what the signed file says."""
        text = folder.file("config.json")
        if text is None or model_config.hf_config_path is not None:
            return "not compared: the engine has it from elsewhere"
        if model_config.trust_remote_code:
            folder.refuse_foreign_code()
        code = json.loads(text).get("auto_map")
        if model_config is not registry.engine.config or folder.path != Path(registry.engine.folder or ""):
            return "not compared: the engine derives it from that of the served model"
        if model_config.config_format not in ("auto", "hf") or folder.file("params.json") is not None:
            return "not compared: the engine may have it from another file"
        if code or model_config.hf_overrides:
            return "not compared: the model's code or --hf-overrides decide what the engine holds"
        from vllm.transformers_utils.config import get_config

        with tempfile.TemporaryDirectory(prefix="tensorseal-config-") as name:
            for file in ("config.json", "hf_quant_config.json"):
                bytes_ = folder.file(file)
                if bytes_ is not None:
                    (Path(name) / file).write_bytes(bytes_)
            signed = get_config(name, trust_remote_code=False, config_format=model_config.config_format)
        derived, told = _derived(signed, model_config)
        other = differences(model_config.hf_config.to_dict(), derived.to_dict())
        if other:
            raise VerifyError(
                f"{folder.path}/config.json is as signed, but the configuration that the engine read from it before differs in "
                f"{', '.join(other)}: it was changed in between. Start the engine with tensorseal run"
            )
        return f"as signed{told}"

    def _seal(
        self, model: torch.nn.Module, vllm_config: VllmConfig, role: str, model_config: ModelConfig, load: registry.Load
    ) -> None:
        device = torch.device(vllm_config.device_config.device).type
        parallel = vllm_config.parallel_config
        name = f"{role}{Path(model_config.model).name}-dp{parallel.data_parallel_index}-rank{parallel.rank}"
        sealed = SealedModel(
            model, name=name, device=device, loaded=load.loaded, ignore=self.asked.seal_ignore, wraps=worker.stands_for
        )
        registry.keep(sealed)
        cover = sealed.coverage
        share = cover.sealed / load.loaded if load.loaded else 0.0
        say = _log.warning if share < 0.5 and parallel.world_size == 1 else _log.info
        say(
            "%s: %d bytes in %d allocations are sealed, %d were loaded (%.0f %%); %d tensors are empty, and what they stand for "
            "is where no tensor reaches it", name, cover.sealed, cover.regions, load.loaded, 100 * share, len(cover.empty),
        )  # fmt: skip

    def _refused(self, error: TensorsealError) -> None:
        """Ends the start, or says loudly that it goes on."""
        if self.asked.mode == "log":
            _log.error("NOT VERIFIED, mode is log: %s", error)
            return
        _log.error("refused: %s", error)
        raise error


def _refuse_other_formats(vllm_config: VllmConfig, model_config: ModelConfig) -> bool:
    """Whether this is the draft of another model.

    Raises `UsageError` if there is a draft that is to be loaded in a format which verifies nothing.
    """
    speculative = vllm_config.speculative_config
    if speculative is None:
        return False
    other = speculative.draft_load_config
    if other is not None and other.load_format != "tensorseal":
        raise UsageError(
            f"the draft model is to be loaded as {other.load_format}, and not verified: leave out its load format, "
            "and it is loaded as the model is"
        )
    return model_config is speculative.draft_model_config


def _derived(signed: Any, model_config: ModelConfig) -> tuple[Any, str]:
    """What the engine makes of a configuration that it has read, made of the signed one: for some architectures, for weights that have a
    head of their own, and by an option. What is said of the last: it cannot be told from another configuration."""
    from vllm.transformers_utils.config import get_hf_text_config

    own = copy.deepcopy(model_config)
    own.hf_config, own.hf_text_config = signed, get_hf_text_config(signed)
    own.config_updated = False
    own._try_verify_and_update_model_config()
    if model_config.word_embeddings_untied_by_checkpoint:
        # The head comes with the weights, or the engine finds that it has none.
        signed.tie_word_embeddings = False
        signed.get_text_config().tie_word_embeddings = False
    text = own.hf_text_config
    if not model_config.disable_sliding_window or getattr(text, "sliding_window", None) is None:
        return signed, ""
    told = f", but for sliding_window, signed as {text.sliding_window}, which the engine leaves out" if text.sliding_window else ""
    text.sliding_window = None
    return signed, told


def _folder_of(model_config: ModelConfig) -> str:
    return str(model_config.model_weights or model_config.model)


def _speak_where_the_engine_speaks() -> None:
    """vLLM gives handlers to its own loggers alone. Ours get the same, unless somebody has given them others."""
    ours, theirs = logging.getLogger("tensorseal"), logging.getLogger("vllm")
    if not ours.handlers and not ours.propagate:
        return
    if not ours.handlers:
        for handler in theirs.handlers:
            ours.addHandler(handler)
        ours.propagate = not theirs.handlers
        ours.setLevel(theirs.level)
