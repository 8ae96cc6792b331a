"""Verified loading and sealed weights in vLLM: the load format `tensorseal`.

`vllm serve MODEL --load-format tensorseal --model-loader-extra-config '{"tensorseal": {"policy": "policy.toml"}}'`

In the order in which a start passes through them: `settings` (what was asked for), `folder` (what is signed, and which of it the
engine has read before), `weights` (tensors as an iterator of the engine yields them), `loader` (the load format itself),
`lora` (adapters), `walk` and `sealed` (memory after the engine has processed it), `worker` (what the engine's workers get), and
`endpoints` (what they are asked over HTTP). Only `loader`, `lora` and `worker` know vLLM's names.
"""


def register() -> None:
    """Makes the load format known: the entry point of the group `vllm.general_plugins`.

    vLLM logs what fails here and goes on without it. That is no way around the check: a load format that nobody has
    registered is an error there. Nothing else is changed before a model is loaded in this format.
    """
    from vllm.model_executor.model_loader import register_model_loader

    from .loader import TensorsealLoader

    register_model_loader("tensorseal")(TensorsealLoader)
