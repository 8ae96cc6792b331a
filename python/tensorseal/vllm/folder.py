"""A signed folder: what is in it, which of it the engine has read before, and its weights, file by file."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorseal
from tensorseal.errors import UsageError, VerifyError

if TYPE_CHECKING:
    import torch

    from tensorseal.loading import LoadedModel
    from tensorseal import SignedModel

INDEX = "model.safetensors.index.json"

# What vLLM 0.32 opens before it asks for a loader, in every process: when `ModelConfig` is made, and when the model is, which reads the
# layers that sentence-transformers has in folders of their own, weights included.
_BEFORE = (
    "config.json", "params.json", "hf_quant_config.json", "*quantize_config.json", "modules.json", "*/config.json", "*_Dense/*",
)  # fmt: skip
# What it opens in the process that takes requests, at a time that a worker cannot know.
_ELSEWHERE = (
    "generation_config.json", "tokenizer*", "vocab*", "merges.txt", "*.model", "tekken.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template*", "*.jinja", "*processor_config.json", "sentence_*.json",
    "config_sentence_transformers.json",
)  # fmt: skip


def when_read(name: str, *, code: bool) -> str:
    """When the engine reads a file of the model that holds no weights, seen from this check: `before`, `perhaps before`, or `not
    before`. With `code` it runs code of the model. This is knowledge of vLLM, and no observation."""
    if any(fnmatchcase(name, pattern) for pattern in (*_BEFORE, *(["*.py"] if code else []))):
        return "before"
    return "perhaps before" if any(fnmatchcase(name, pattern) for pattern in _ELSEWHERE) else "not before"


@dataclass
class Folder:
    """A folder whose signature was checked, and whose files but those of weights were compared with it."""

    path: Path
    bundle: Path | None
    policy: Path
    signed: "SignedModel"
    weights: tuple[str, ...]
    companions: "LoadedModel | None"
    names: dict[str, str] = field(default_factory=dict)
    """How each file was checked: `memory` (what is used are the bytes that were checked) or `disk`."""
    symlinks: Any = "refuse"
    """Which links are followed, as for `tensorseal.verify`."""

    @classmethod
    def open(cls, path: Path, *, policy: Path, bundle: Path | None = None, symlinks: Any = "refuse") -> "Folder":
        """Checks the signature, the list of files, and every file that holds no weights.

        Raises `VerifyError` if the answer is no, another `TensorsealError` if there is none.
        """
        if not path.is_dir():
            raise UsageError(
                f"{path} is no folder: the load format tensorseal takes models from local folders. "
                "Download it first, verify it, and name its folder"
            )
        signed = tensorseal.signed(path, bundle=bundle, policy=policy)
        names = sorted(signed.files, key=_natural)
        weights = tuple(name for name in names if name.endswith(".safetensors"))
        others = [name for name in names if not name.endswith(".safetensors")]
        companions = None
        if others:
            companions = tensorseal.load_model(path, bundle=bundle, policy=policy, only=others, symlinks=symlinks)
        folder = cls(path, bundle, policy, signed, weights, companions, symlinks=symlinks)
        if companions is not None:
            folder._same(companions)
        folder.names = {name: "disk" for name in others}
        return folder

    def _same(self, loaded: "LoadedModel") -> None:
        """Each load reads the signature again: it has to be the one of the first."""
        if (loaded.report.root, str(loaded.report.identity)) != (self.signed.root, self.signed.identity):
            raise VerifyError(
                f"{self.path} was exchanged for another signed model while it was loaded: it began as {self.signed.root}, and "
                f"is {loaded.report.root} now"
            )

    def file(self, name: str) -> bytes | None:
        """A file that holds no weights, as it was checked, or None if none of that name is signed."""
        return self.held(name) if name in self.names and name not in self.weights else None

    def held(self, name: str) -> bytes:
        """The same of a file that is signed. Raises `UsageError` if it was too long to be kept."""
        if self.companions is None or name not in self.companions.files:
            raise UsageError(f"{self.path}/{name} is longer than what is kept in memory, and nothing else can be used of it")
        return self.companions.file(name)

    def refuse_foreign_code(self) -> None:
        """Configuration may take code from another repository (`"auto_map": {"AutoConfig": "who/what--file.Class"}`).

        Raises `VerifyError` then: the signature does not cover it.
        """
        for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
            text = self.file(name)
            code = json.loads(text).get("auto_map", {}) if text is not None else {}
            foreign = [str(where) for where in code.values() if "--" in str(where)]
            if foreign:
                raise VerifyError(
                    f"{self.path}/{name} takes code from another repository, which the signature does not cover: {foreign[0]}. "
                    "Copy that code into the model, and have it signed"
                )

    def chosen(self, subfolder: str | None = None, patterns: list[str] | None = None) -> "Chosen":
        """Which files of weights the engine is to be given: by the signed index, where there is one."""
        root = f"{subfolder.strip('/')}/" if subfolder else ""
        here = [name for name in self.weights if name.startswith(root) and "/" not in name[len(root) :]]
        if patterns is not None:
            matching = [name for name in self.signed.files if any(fnmatchcase(name[len(root) :], p) for p in patterns)]
            unusable = sorted(set(matching) - set(self.weights))
            if unusable:
                raise UsageError(f"{self.path}: the model asks for {unusable[0]}: only safetensors files can be verified here")
            here, index = [name for name in here if name in matching], None
        else:
            index = self.file(root + INDEX)
        tensors: frozenset[str] | None = None
        if index is not None:
            weight_map = _weight_map(index, self.path / (root + INDEX))
            tensors = frozenset(weight_map)
            wanted = {root + file for file in weight_map.values()}
            strangers = sorted(wanted - set(self.weights))
            if strangers:
                raise VerifyError(f"{self.path}: the index names {strangers[0]}, which is not signed")
            here = [name for name in here if name in wanted]
        if not here:
            raise VerifyError(f"{self.path}: no signed safetensors file is there to load")
        return Chosen(tuple(here), tensors)

    def shard(self, name: str) -> dict[str, "torch.Tensor"]:
        """The tensors of one file of weights, in private memory, compared with its signature there."""
        loaded = tensorseal.load_model(self.path, bundle=self.bundle, policy=self.policy, only=[name], symlinks=self.symlinks)
        self._same(loaded)
        self.names[name] = "memory"
        return loaded.tensors_of(name)

    def tensors(self, chosen: "Chosen", wanted: Callable[[str], bool]) -> Iterator[tuple[str, "torch.Tensor"]]:
        """Tensors of these files, each verified before it comes; those which are not `wanted` are verified, and do not come.

        A file is let go when the next one begins. Raises at the end if one is missing.
        """
        seen: set[str] = set()
        for name in chosen.files:
            for tensor, value in self.shard(name).items():
                if tensor in seen:
                    raise VerifyError(f"{self.path}: the tensor {tensor} is in two files, {name} being the second")
                seen.add(tensor)
                if wanted(tensor):
                    yield tensor, value
        missing = sorted((chosen.tensors or frozenset()) - seen)
        if missing:
            raise VerifyError(f"{self.path}: {len(missing)} tensors of the signed index are in no file, such as {missing[0]}")

    def check_rest(self) -> None:
        """Checks signed files of weights which the engine did not ask for. They are read, and dropped."""
        for name in self.weights:
            if name not in self.names:
                self.shard(name)
                self.names[name] = "disk"

    def report(self, *, code: bool) -> dict[str, Any]:
        """What was found, for programs. `code`: the engine runs code of the model."""
        return {
            "model": str(self.path),
            "identity": self.signed.identity,
            "root": self.signed.root,
            "files": {
                name: {"checked": how, "read_by_the_engine": when_read(name, code=code)}
                for name, how in self.names.items()
            },
        }


@dataclass(frozen=True)
class Chosen:
    """Files of weights to load, in their order, and the names of all their tensors where a signed index has them."""

    files: tuple[str, ...]
    tensors: frozenset[str] | None


def _weight_map(index: bytes, path: Path) -> Mapping[str, str]:
    found = json.loads(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) for file in found.values()):
        raise VerifyError(f"{path}: its weight_map is not a list of tensors and files")
    return found


def _natural(name: str) -> list[int | str]:
    """Numbers in names count as numbers: file 2 before file 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def differences(held: Mapping[str, Any], signed: Mapping[str, Any]) -> list[str]:
    """In which keys a configuration that the engine holds is not the signed one.

    Both as the engine reads them from a file; keys that are in one of them only count, too. What says where the file was, or
    which program wrote it, does not.
    """
    free = {"_name_or_path", "transformers_version", "name_or_path"}
    keys = (set(held) | set(signed)) - free
    absent = object()
    return sorted(key for key in keys if held.get(key, absent) != signed.get(key, absent))
