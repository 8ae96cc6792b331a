"""Hugging Face's Trainer: checkpoints and the final model are signed, if they are what lies on the device.

Trainer writes files by ways of its own. So they are read once after it, which takes their digests for the signature and those
of their tensors, and the latter are compared with the tensors of the model where these lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import _log, _native
from ._lend import lend
from .errors import NoAnswerError, UsageError, VerifyError
from .report import Signed
from .training import check_hash, compare_files, make_folder, meant, save_and_sign, sign_written
from .verbs import Hash, bundle_of
from .who import Path, Signing, path_of, signing


class SigningCallback(TrainerCallback):
    """Signs what a `Trainer` saves.

    `Trainer(.., callbacks=[SigningCallback(signer=signer)])`. With `checkpoints`, each `checkpoint-N` is signed when it is complete. When
    training ends, the model, and the tokenizer or processor, are saved into the folder `final` in the output folder and
    signed; `final=None` leaves that out. Each time the weights in the files are compared with those of the model on its
    device. Everything else in the folder, such as the state of the optimizer, is signed as it lies there.

    `hash` and `tensors` are those of `save_and_sign`. What was signed is in `signed`.

    Whatever goes wrong is raised, on all ranks, and ends the training: a checkpoint that is not what lies on the device is of no
    use to go on from. What was written stays, without a signature. Models that are spread over ranks (FSDP, DeepSpeed's
    ZeRO 3, tensor parallelism) are refused before the first step: no rank has their weights whole.
    """

    def __init__(
        self,
        *,
        signer: Signing,
        checkpoints: bool = True,
        final: str | None = "final",
        tensors: bool = True,
        hash: Hash = "sha256",
    ) -> None:
        # Now, and not at the end of the training.
        signing(signer)
        check_hash(hash)
        self.signer = signer
        self.checkpoints = checkpoints
        self.final = final
        self.tensors = tensors
        self.hash: Hash = hash
        self.signed: list[Signed] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """On all ranks, and not after days of training on the one that saves, while the others wait for it."""
        from accelerate.state import AcceleratorState
        from torch.distributed.tensor import DTensor
        from transformers.integrations import is_deepspeed_zero3_enabled

        if any(isinstance(parameter, DTensor) for parameter in kwargs["model"].parameters()):
            kind = "DTensor"
        else:
            # Made by Trainer; with FSDP the model may be cut only later.
            kind = AcceleratorState().distributed_type.name
        if kind in ("DTensor", "FSDP", "MEGATRON_LM") or is_deepspeed_zero3_enabled():
            raise UsageError(
                f"the model is spread over ranks ({kind}), and this callback compares whole tensors: use "
                "tensorseal.distributed.save_and_sign, which all ranks call"
            )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After a checkpoint was saved: it is complete by then."""
        if not self.checkpoints:
            return
        folder = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")

        def sign() -> Signed:
            if not os.path.isdir(folder):
                raise NoAnswerError(f"{folder!r} is not there: only a checkpoint in the output folder can be signed", kind="io")
            return self._sign(kwargs["model"], folder)

        self._on_all(args, sign)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After the last step, and after the best model was loaded, if that was asked for."""
        if self.final is None:
            return
        model = _unwrapped(kwargs["model"])
        folder = os.path.join(args.output_dir, self.final)

        def sign() -> Signed:
            if not hasattr(model, "save_pretrained"):
                return save_and_sign(model.state_dict(), folder, signer=self.signer, tensors=self.tensors, hash=self.hash)
            make_folder(folder)
            # Before what it is of is replaced.
            _native.withdraw(folder, bundle_of(folder))
            model.save_pretrained(folder)
            processor = kwargs.get("processing_class")
            if processor is not None:
                processor.save_pretrained(folder)
            return self._sign(model, folder)

        self._on_all(args, sign)

    def _on_all(self, args: TrainingArguments, sign: Callable[[], Signed]) -> None:
        """Signs on the ranks that save. What one raises, all raise: the others would wait for it in the next step."""
        from accelerate.utils import gather_object

        error: Exception | None = None
        if args.should_save:
            try:
                self.signed.append(sign())
            except Exception as raised:
                error = raised
        mine = None if error is None else (isinstance(error, VerifyError), getattr(error, "kind", "rank"), str(error))
        said = gather_object([mine])
        if error is not None:
            raise error
        for rank, one in enumerate(said):
            if one is not None:
                refused, kind, text = one
                raise (VerifyError if refused else NoAnswerError)(f"rank {rank}: {text}", kind=kind)

    def _sign(self, model: Any, folder: str) -> Signed:
        return sign_saved(model, folder, signer=self.signer, tensors=self.tensors, hash=self.hash)


def sign_saved(
    model: Any,
    folder: Path,
    *,
    signer: Signing,
    bundle: Path | None = None,
    tensors: bool = True,
    hash: Hash = "sha256",
    ignore: Path | Iterable[Path] = (),
) -> Signed:
    """Signs a folder that a model was just saved into, such as by `trainer.save_model(folder)`, if the weights in its files
    are those of `model`: a module, or a state dict.

    Each tensor of each `.safetensors` file in the folder must be in the model, with the same type, shape and bytes; each of the model's
    must be in a file, unless it is tied to one that is, or the model says that it is never saved. A model that is saved in
    another form than it has in memory is refused: use `tensorseal.sign`, which compares nothing.

    Raises `VerifyError` of the kind `written-bytes-differ`, `NoAnswerError`, `UsageError`; an older signature is gone then.
    """
    path, who = path_of(folder), signing(signer)
    target = bundle_of(path, bundle)
    # Whatever they were of: the files are new. One in the folder would be signed with them, too.
    for old in {target, bundle_of(path)}:
        _native.withdraw(path, old)
    names = sorted(name for name in os.listdir(path) if name.endswith(".safetensors"))
    if not names:
        raise NoAnswerError(f"{path!r} holds no .safetensors file: there are no weights to compare", kind="model")
    module = model if isinstance(model, Mapping) else _unwrapped(model)
    state = dict(module if isinstance(module, Mapping) else module.state_dict())
    _log.info("comparing %d files of %r with the model", len(names), path)
    expected = meant(state)
    unsaved = set(getattr(module, "_keys_to_ignore_on_save", None) or ())
    # Of tensors that are one, any may be in the files: what is not in them is compared there.
    twins: dict[Any, list[str]] = {}
    for name, tensor in state.items():
        lent = lend(tensor, name=name)
        twins.setdefault((lent.device, lent.address, lent.dtype, lent.shape, lent.strides), []).append(name)
    held = _names_in(path, names)
    for same in twins.values():
        if any(name in held for name in same):
            unsaved.update(same)
    written = compare_files(path, names, expected, may_lack=unsaved)
    compared = {name for file in written for name in file.tensors or ()}
    for same in twins.values():
        if not held.isdisjoint(same) and compared.isdisjoint(same):
            raise NoAnswerError(f"the file of {same[0]!r} was replaced while it was compared; nothing was signed", kind="written")
    return sign_written(path, written, target=target, who=who, tensors=tensors, hash=hash, ignore=ignore)


def _names_in(folder: str, names: Iterable[str]) -> set[str]:
    """The names of all tensors in files: only to know which of several tied ones was saved."""
    from safetensors import safe_open

    held: set[str] = set()
    for name in names:
        with safe_open(os.path.join(folder, name), framework="pt") as file:
            held.update(file.keys())
    return held


def _unwrapped(model: Any) -> Any:
    """The model itself, out of what compiles or replicates it."""
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model, keep_torch_compile=False)
