"""What whoever starts the engine asked for: `--model-loader-extra-config` and the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorseal.errors import UsageError

INNERS = ("safetensors", "fastsafetensors", "runai_streamer", "instanttensor")
MODES = ("enforce", "log", "off")
SYMLINKS = ("refuse", "inside", "anywhere")

# Key of the configuration -> variable of the environment that says the same.
_VARIABLES = {
    "policy": "TENSORSEAL_POLICY",
    "bundle": "TENSORSEAL_BUNDLE",
    "inner": "TENSORSEAL_INNER",
    "mode": "TENSORSEAL_MODE",
    "symlinks": "TENSORSEAL_SYMLINKS",
    "seal": "TENSORSEAL_SEAL",
    "seal_ignore": "TENSORSEAL_SEAL_IGNORE",
}


@dataclass(frozen=True)
class Settings:
    """What was asked for.

    `policy`: a policy file; None only where `mode` is `off`. `bundle`: the signature of the model that is served; `model.sig`
    in its folder if None. Other models (a draft, an adapter) always have theirs in their folder. `inner`: who reads the files.
    `symlinks`: which links are followed, as for `tensorseal.verify`: folders of a Hugging Face cache are links to `anywhere`.
    `seal`: whether memory is sealed after loading. `seal_ignore`: patterns of names of tensors that the engine itself writes to.
    """

    policy: Path | None
    bundle: Path | None = None
    inner: str = "safetensors"
    mode: str = "enforce"
    symlinks: Any = "refuse"
    seal: bool = True
    seal_ignore: tuple[str, ...] = ()


def read(extra: Any, environment: Mapping[str, str] = os.environ) -> tuple[Settings, dict[str, Any]]:
    """Reads `{"tensorseal": {..}, ..}`, and returns what else was in it: that is for the inner loader.

    Raises `UsageError`: an unknown key or value, no policy, or the environment says something else than the configuration.
    """
    if not isinstance(extra, Mapping):
        raise UsageError(f"model_loader_extra_config is {type(extra).__name__}: the load format tensorseal takes an object")
    rest = dict(extra)
    given = rest.pop("tensorseal", {})
    if not isinstance(given, Mapping):
        raise UsageError('"tensorseal" in model_loader_extra_config has to be an object, {"policy": ..}')
    unknown = sorted(set(given) - set(_VARIABLES))
    if unknown:
        keys = ", ".join(_VARIABLES)
        raise UsageError(f'"tensorseal" in model_loader_extra_config has unknown keys: {unknown}. There are: {keys}')
    values = {key: _check(key, value, "model_loader_extra_config") for key, value in given.items() if value is not None}
    for key, variable in _VARIABLES.items():
        text = environment.get(variable)
        if text is None:
            continue
        value = _check(key, _parse(key, text, variable), variable)
        # Whoever set the variable relies on it, and so does who wrote the configuration.
        if values.setdefault(key, value) != value:
            raise UsageError(f"{variable} is {text!r}, and model_loader_extra_config says {values[key]!r}: which one?")
    settings = Settings(**{"policy": None, **values})
    if settings.policy is None and settings.mode != "off":
        raise UsageError(
            "the load format tensorseal needs a policy that says who may have signed the model: "
            '--model-loader-extra-config \'{"tensorseal": {"policy": "policy.toml"}}\' or TENSORSEAL_POLICY'
        )
    return settings, rest


def _parse(key: str, text: str, variable: str) -> Any:
    """A value from the environment, of the type that the configuration has."""
    if key == "seal":
        if text not in ("0", "1"):
            raise UsageError(f"{variable} is {text!r}: it has to be 0 or 1")
        return text == "1"
    if key == "seal_ignore":
        return text.split(",")
    return text


def _check(key: str, value: Any, where: str) -> Any:
    """The value as `Settings` has it."""
    if key == "seal":
        if not isinstance(value, bool):
            raise UsageError(f"{key} in {where} is {value!r}: it has to be true or false")
        return value
    if key == "seal_ignore":
        if isinstance(value, str) or not all(isinstance(pattern, str) and pattern for pattern in value):
            raise UsageError(f"{key} in {where} is {value!r}: it has to be a list of patterns")
        return tuple(value)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{key} in {where} is {value!r}: it has to be text")
    allowed = {"inner": INNERS, "mode": MODES, "symlinks": SYMLINKS}.get(key)
    if allowed is not None and value not in allowed:
        raise UsageError(f"{key} in {where} is {value!r}: it has to be one of {', '.join(allowed)}")
    return value if allowed is not None else Path(value)
