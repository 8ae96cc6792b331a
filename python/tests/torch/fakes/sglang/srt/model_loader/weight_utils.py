"""Iterators over files, as the engine has them: on the CPU all of them give views of mapped files."""

from safetensors import safe_open


def safetensors_weights_iterator(hf_weights_files):
    for path in hf_weights_files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                yield name, file.get_tensor(name)


def fastsafetensors_weights_iterator(hf_weights_files, enable_gds=True, drop_cache_after_load=False):
    return safetensors_weights_iterator(hf_weights_files)


def instanttensor_weights_iterator(hf_weights_files, extra_config=None, load_group=None):
    return safetensors_weights_iterator(hf_weights_files)
