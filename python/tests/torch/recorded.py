"""Interfaces of engines that are too large to install here, as they were read: names and signatures, and of which version.

`fakes/` has to have these signatures, what overrides or calls them has to fit, and so have the engines themselves, where one
is installed.
"""

SGLANG = "0.5.23"  # the wheel on PyPI
SGLANG_SIGNATURES = {
    "sglang.srt.model_loader.loader:get_model_loader": "(load_config, model_config=None)",
    "sglang.srt.model_loader.loader:DefaultModelLoader.load_model": "(self, *, model_config, device_config)",
    "sglang.srt.model_loader.loader:DefaultModelLoader._get_weights_iterator": (
        "(self, source, *, resolved_source=None, startup_prefetch_started=False, startup_prefetch_active=False)"
    ),
    "sglang.srt.model_loader.loader:DefaultModelLoader._get_all_weights": "(self, model_config, model)",
    "sglang.srt.model_loader.loader:DefaultModelLoader._filter_mtp_weights": "(weights_iterator, prefix, draft_model_idx)",
    "sglang.srt.model_loader.loader:DefaultModelLoader.load_weights_and_postprocess": "(model, weights, target_device)",
    "sglang.srt.model_loader.loader:DefaultModelLoader.Source": (
        "(model_or_path, revision, prefix='', fall_back_to_pt=True, allow_patterns_overrides=None, model_config=None)"
    ),
    "sglang.srt.model_loader.weight_utils:fastsafetensors_weights_iterator": (
        "(hf_weights_files, enable_gds=True, drop_cache_after_load=False)"
    ),
    "sglang.srt.plugins.hook_registry:HookRegistry.register": "(target, hook, hook_type, *, source=None)",
    "sglang.srt.managers.scheduler_components.weight_updater:SchedulerWeightUpdaterManager.check_weights": "(self, recv_req)",
}
# Fields of classes of data that are read or given.
SGLANG_FIELDS = {
    "sglang.srt.configs.load_config:LoadConfig": {
        "load_format", "model_loader_extra_config", "tp_rank", "draft_model_idx", "weight_cache_mode", "fallback_load_format",
        "load_group",
    },
    "sglang.srt.managers.io_struct:CheckWeightsReqInput": {"action"},
    "sglang.srt.managers.io_struct:CheckWeightsReqOutput": {"success", "message", "payload"},
}  # fmt: skip

TENSORRT_LLM = "0d93193ee668"  # the commit on GitHub, between 1.2 and 1.4; PyPI has an installer alone
TENSORRT_LLM_SIGNATURES = {
    "tensorrt_llm._torch.models.checkpoints.base_weight_loader:BaseWeightLoader.load_weights": (
        "(self, checkpoint_dir, mapping, **kwargs)"
    ),
    "tensorrt_llm._torch.models.checkpoints.base_weight_loader:BaseWeightLoader.cleanup": "(self)",
}
