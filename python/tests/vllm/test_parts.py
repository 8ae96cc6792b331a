"""What needs no vLLM: what was asked for, which files and tensors there are to be, what is in a model, adapters, HTTP."""

import asyncio
import functools
import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import require

require("torch")
require("safetensors")

import torch
from tensorseal.errors import TensorsealError, UsageError, VerifyError
from tensorseal.vllm import endpoints, folder, lora, registry, sealed, settings, walk, weights, worker


def every(name: str) -> bool:
    return True


# --- settings


def test_settings_are_read_from_either_place_and_say_the_same() -> None:
    asked, rest = settings.read({"tensorseal": {"policy": "p.toml", "seal": False}, "num_threads": 3}, {})
    assert (asked.policy, asked.mode, asked.inner, asked.seal) == (Path("p.toml"), "enforce", "safetensors", False)
    assert rest == {"num_threads": 3}
    environment = {"TENSORSEAL_POLICY": "p.toml", "TENSORSEAL_SEAL": "0", "TENSORSEAL_SEAL_IGNORE": "a.*,b"}
    again, _ = settings.read({}, environment)
    assert again == settings.Settings(Path("p.toml"), seal=False, seal_ignore=("a.*", "b"))
    assert settings.read({"tensorseal": {"policy": "p.toml"}}, {"TENSORSEAL_POLICY": "p.toml"})[0].policy == Path("p.toml")
    assert settings.read({"tensorseal": {"mode": "off"}}, {})[0].policy is None


@pytest.mark.parametrize(
    ("extra", "environment", "says"),
    [
        ({}, {}, "needs a policy"),
        ({"tensorseal": {"mode": "log"}}, {}, "needs a policy"),
        ({"tensorseal": {"policy": "p", "polcy": "q"}}, {}, "unknown keys: ['polcy']"),
        ({"tensorseal": {"policy": "p", "mode": "of"}}, {}, "one of enforce, log, off"),
        ({"tensorseal": {"policy": "p", "inner": "pt"}}, {}, "one of safetensors"),
        ({"tensorseal": {"policy": "p", "seal": "yes"}}, {}, "true or false"),
        ({"tensorseal": {"policy": "p", "seal_ignore": "x"}}, {}, "list of patterns"),
        ({"tensorseal": {"policy": ""}}, {}, "has to be text"),
        ({"tensorseal": "p"}, {}, "has to be an object"),
        ("p", {}, "takes an object"),
        ({"tensorseal": {"policy": "p", "mode": "off"}}, {"TENSORSEAL_MODE": "enforce"}, "which one?"),
        ({"tensorseal": {"policy": "p"}}, {"TENSORSEAL_SEAL": "true"}, "0 or 1"),
    ],
)
def test_doubtful_settings_are_refused(extra: object, environment: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("[", r"\[").replace("?", r"\?")):
        settings.read(extra, environment)


# --- files


class _Signed:
    """A folder whose signature is good, as `Folder.open` leaves it; shards are dictionaries."""

    def __init__(self, files: dict[str, object], tmp_path: Path) -> None:
        self.shards = {name: value for name, value in files.items() if isinstance(value, dict)}
        texts = {name: value for name, value in files.items() if isinstance(value, bytes)}
        signed = SimpleNamespace(files=list(files), root="r", identity="i")
        names = sorted(self.shards, key=folder._natural)
        companions = SimpleNamespace(file=texts.__getitem__, files=list(texts))
        self.folder = folder.Folder(
            tmp_path, None, Path("p"), signed, tuple(names), companions, dict.fromkeys(texts, "disk")
        )
        self.folder.shard = self.shard  # type: ignore[method-assign]
        self.read: list[str] = []

    def shard(self, name: str) -> dict[str, object]:
        self.read.append(name)
        self.folder.names[name] = "memory"
        return self.shards[name]


INDEX = b'{"weight_map": {"a": "m-1.safetensors", "b": "m-10.safetensors", "c": "m-2.safetensors"}}'
SHARDS = {"m-1.safetensors": {"a": 1}, "m-10.safetensors": {"b": 2}, "m-2.safetensors": {"c": 3}}


def test_weights_are_those_of_the_signed_index_and_the_rest_is_checked_too(tmp_path: Path) -> None:
    of = _Signed({**SHARDS, "consolidated.safetensors": {"a": 1}, folder.INDEX: INDEX}, tmp_path)
    found = list(of.folder.tensors(of.folder.chosen(), every))
    assert found == [("a", 1), ("c", 3), ("b", 2)]
    assert of.read == ["m-1.safetensors", "m-2.safetensors", "m-10.safetensors"]
    of.folder.check_rest()
    assert of.read[-1] == "consolidated.safetensors" and of.folder.names["consolidated.safetensors"] == "disk"


def test_a_rank_is_given_what_it_wants_and_no_shard_is_left_unread(tmp_path: Path) -> None:
    of = _Signed({**SHARDS, folder.INDEX: INDEX}, tmp_path)
    assert list(of.folder.tensors(of.folder.chosen(), lambda name: name != "c")) == [("a", 1), ("b", 2)]
    assert len(of.read) == 3


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"m-1.safetensors": {"a": 1}, folder.INDEX: INDEX}, "names m-10.safetensors, which is not signed"),
        ({**SHARDS, "m-2.safetensors": {"d": 3}, folder.INDEX: INDEX}, "such as c"),
        ({**SHARDS, "m-2.safetensors": {"a": 3, "c": 3}, folder.INDEX: INDEX}, "the tensor a is in two files"),
        ({"x/m-1.safetensors": {"a": 1}}, "no signed safetensors file"),
    ],
)
def test_weights_that_are_not_whole_are_refused(files: dict[str, object], says: str, tmp_path: Path) -> None:
    of = _Signed(files, tmp_path)
    with pytest.raises(VerifyError, match=says):
        list(of.folder.tensors(of.folder.chosen(), every))


def test_patterns_of_the_model_choose_signed_files(tmp_path: Path) -> None:
    of = _Signed({**SHARDS, "old.bin": b"", "sub/x.safetensors": {"x": 1}}, tmp_path)
    assert of.folder.chosen("sub").files == ("sub/x.safetensors",)
    assert of.folder.chosen(None, ["m-1*"]).files == ("m-1.safetensors", "m-10.safetensors")
    with pytest.raises(UsageError, match=r"old\.bin: only safetensors"):
        of.folder.chosen(None, ["*.bin"])


def test_files_of_two_signed_models_are_not_mixed(tmp_path: Path) -> None:
    of = _Signed(dict(SHARDS), tmp_path).folder
    of._same(SimpleNamespace(report=SimpleNamespace(root="r", identity="i")))  # type: ignore[arg-type]
    for root, identity in (("other", "i"), ("r", "other")):
        with pytest.raises(VerifyError, match="was exchanged"):
            of._same(SimpleNamespace(report=SimpleNamespace(root=root, identity=identity)))  # type: ignore[arg-type]


def test_code_of_another_repository_is_refused(tmp_path: Path) -> None:
    _Signed({"config.json": b'{"auto_map": {"AutoConfig": "own.Config"}}'}, tmp_path).folder.refuse_foreign_code()
    for name in ("config.json", "tokenizer_config.json"):
        of = _Signed({name: b'{"auto_map": {"A": ["who/what--own.Config", null]}}'}, tmp_path)
        with pytest.raises(VerifyError, match="another repository"):
            of.folder.refuse_foreign_code()


def test_when_the_engine_reads_a_file_is_known() -> None:
    def when(name: str, code: bool = False) -> str:
        return folder.when_read(name, code=code)

    early = ("config.json", "sub/config.json", "hf_quant_config.json", "2_Dense/model.safetensors")
    assert {when(name) for name in early} == {"before"}
    front = ("tokenizer.json", "chat_template.jinja", "tokenizer.model", "generation_config.json")
    assert {when(name) for name in front} == {"perhaps before"}
    assert {when(name) for name in ("README.md", "model.safetensors", folder.INDEX, "modeling_x.py")} == {"not before"}
    assert when("modeling_x.py", code=True) == "before"


def test_a_configuration_differs_in_any_key_but_where_it_lay() -> None:
    held = {"a": 1, "b": {"c": [1]}, "_name_or_path": "/x", "transformers_version": "5"}
    assert folder.differences(held, {"a": 1, "b": {"c": [1]}, "_name_or_path": "/y"}) == []
    assert folder.differences(held, {"a": 1, "b": {"c": [2]}, "d": None}) == ["b", "d"]


# --- tensors of the engine's iterators


class _Manifest:
    """Signed: each tensor is what `good` has under its name."""

    def __init__(self, good: dict[str, torch.Tensor], file: str = "f") -> None:
        self.good = good
        self.tensors = {name: SimpleNamespace(file=file) for name in good}
        self.addresses: list[int] = []

    def verify_slices(self, slices: list[object]) -> None:
        for part in slices:
            self.addresses.append(part.tensor.data_ptr())  # type: ignore[attr-defined]
            if not torch.equal(self.good[part.name], part.tensor):  # type: ignore[attr-defined]
                raise VerifyError(f"{part.name} is not as signed")  # type: ignore[attr-defined]


@pytest.fixture
def good() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4)}


def test_what_is_handed_on_is_the_private_copy_that_was_hashed(good: dict[str, torch.Tensor]) -> None:
    manifest = _Manifest(good)
    found = dict(weights.by_manifest(good.items(), manifest, ["f"], every))
    assert all(torch.equal(found[name], good[name]) for name in good)
    assert [tensor.data_ptr() for tensor in found.values()] == manifest.addresses
    assert not {tensor.data_ptr() for tensor in good.values()} & set(manifest.addresses)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("b"), "1 signed tensors were not loaded, such as b"),
        (lambda t: t.update(c=torch.ones(1)), "c is not signed"),
        (lambda t: t.update(b=torch.ones(4, dtype=torch.int64)), "b is not as signed"),
    ],
)
def test_an_iterator_that_loses_adds_or_changes_a_tensor_is_found(
    change: object, says: str, good: dict[str, torch.Tensor]
) -> None:
    yielded = dict(good)
    change(yielded)  # type: ignore[operator]
    with pytest.raises(VerifyError, match=says):
        list(weights.by_manifest(yielded.items(), _Manifest(good), ["f"], every))


def test_completeness_leaves_out_only_what_the_rank_does_not_want(good: dict[str, torch.Tensor]) -> None:
    local = [("a", good["a"])]
    assert len(list(weights.by_manifest(local, _Manifest(good), ["f"], lambda name: name != "b"))) == 1
    with pytest.raises(VerifyError, match="such as b"):
        list(weights.by_manifest(local, _Manifest(good), ["f"], lambda name: name != "a"))
    with pytest.raises(VerifyError, match="twice"):
        list(weights.by_manifest([*good.items(), *local], _Manifest(good), ["f"], every))
    with pytest.raises(VerifyError, match="not signed in any of the files"):
        list(weights.by_manifest(good.items(), _Manifest(good, "other"), ["f"], every))


def test_without_a_manifest_a_filtered_rank_is_told_to_sign_tensors() -> None:
    with pytest.raises(UsageError, match="--tensors"):
        list(weights.by_file(["f"], Path("/m"), None, lambda path: [], True))


def test_without_a_manifest_nothing_comes_before_its_file_is_compared(
    monkeypatch: pytest.MonkeyPatch, good: dict[str, torch.Tensor]
) -> None:
    import tensorseal

    shown: list[tuple[list[str], list[str]]] = []

    def resident(signed: object, files: list[str], tensors: dict[str, torch.Tensor]) -> None:
        shown.append((files, list(tensors)))
        if "g" in files:
            raise VerifyError("g is not as signed")

    monkeypatch.setattr(tensorseal, "verify_resident", resident, raising=False)
    came = weights.by_file(["f", "g"], Path("/m"), None, lambda path: good.items(), False)
    assert [next(came)[0], next(came)[0]] == ["a", "b"]
    assert shown == [(["f"], ["a", "b"])]
    with pytest.raises(VerifyError, match="g is not"):
        next(came)


# --- tensors in a model


class _Holder:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class _Slotted:
    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def _model() -> torch.nn.Module:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].bare = torch.ones(2)
    model[0].several = [torch.ones(3), {"deep": _Holder(torch.ones(4))}, _Slotted(torch.ones(8))]
    packed = torch.ones(5)
    model[1].closure = lambda x: x @ packed
    model[1].partial = functools.partial(torch.add, torch.ones(6))
    model[0].weight.scale = torch.ones(7)
    model[0].unregistered = [torch.nn.Linear(1, 9, bias=False)]
    model[0].method = model.forward
    model[1].register_buffer("buffer", torch.ones(10))
    return model


def test_tensors_are_found_wherever_they_lie() -> None:
    found = list(walk.tensors(_model()))
    sizes = {tensor.numel() for _, tensor in found}
    assert sizes == {9, 3, 2, 4, 8, 5, 6, 7, 10}
    names = [name for name, _ in found]
    assert len(names) == len(set(names))
    assert {"0.weight", "1.weight", "0.bare", "1.buffer", "0.several.1.deep.tensor", "1.closure.packed"} <= set(names)


def test_names_stay_when_a_layer_is_wrapped() -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self, base: torch.nn.Module) -> None:
            super().__init__()
            self.base_layer = base
            self.stacked = torch.ones(99)

    model = _model()
    before = [name for name, _ in walk.tensors(model)]
    model[0] = Wrapper(model[0])
    after = list(walk.tensors(model, wraps=lambda module: "base_layer" if isinstance(module, Wrapper) else None))
    assert [name for name, _ in after] == before
    assert all(tensor.numel() != 99 for _, tensor in after)


def _sealed(model: torch.nn.Module, **more: object) -> sealed.SealedModel:
    return sealed.SealedModel(model, name="toy", device="cpu", loaded=100, **more)  # type: ignore[arg-type]


def test_an_allocation_is_sealed_once_and_every_bit_of_it_counts() -> None:
    model = _model()
    of = _sealed(model)
    # 0.weight and 1.weight are one allocation.
    assert of.coverage.sealed == 4 * (9 + 3 + 3 + 2 + 3 + 4 + 8 + 5 + 6 + 7 + 9 + 10)
    assert of.reverify()["result"] == "unchanged"
    model[0].several[1]["deep"].tensor.view(torch.uint8)[15] ^= 1
    found = of.reverify()
    assert found["result"] == "broken" and "0.several.1.deep.tensor" in found["message"]
    of.take(100)
    assert of.reverify()["result"] == "unchanged"


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model[0], "bare", torch.ones(2)),
        lambda model: delattr(model[0], "bare"),
        lambda model: setattr(model[1], "weight", torch.nn.Parameter(model[1].weight.detach().clone())),
        lambda model: setattr(model[0].weight, "data", model[0].weight.data.t()),
    ],
    ids=["other memory", "gone", "one of two names", "seen otherwise"],
)
def test_a_sealed_name_that_leads_elsewhere_breaks_the_seal_for_good(change: object) -> None:
    model = _model()
    kept = model[0].bare  # So that no new tensor gets the address.
    of = _sealed(model)
    change(model)  # type: ignore[operator]
    assert of.reverify()["result"] == "broken"
    assert of.reverify()["result"] == "broken"
    assert kept.numel() == 2


def test_what_the_engine_writes_to_is_left_out_and_named() -> None:
    model = _model()
    model[0].kv_cache = torch.ones(5)
    model[1].empty = torch.empty(0)
    of = _sealed(model, ignore=("*.bare",))
    model[0].bare[0] = 7
    model[0].kv_cache[0] = 7
    assert of.reverify()["result"] == "unchanged"
    assert set(of.coverage.ignored) == {"0.bare", "0.kv_cache"} and of.coverage.empty == ("1.empty",)


def test_nothing_to_seal_is_a_failure() -> None:
    with pytest.raises(TensorsealError, match="no byte of the model"):
        _sealed(torch.nn.Sequential())
    with pytest.raises(TensorsealError, match="no byte of the model"):
        _sealed(_model(), ignore=("*",))


def test_a_void_seal_stays_void_until_it_is_taken_again_and_a_model_that_is_gone_is_broken() -> None:
    model = _model()
    of = _sealed(model)
    of.spoil("slept")
    assert of.reverify() == {"seal": "toy", "result": "broken", "message": "slept"}
    of.take(1)
    assert of.reverify()["result"] == "unchanged"
    del model
    gc.collect()
    assert "dropped" in of.reverify()["message"]


# --- workers


class _Worker:
    rank = 3

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.reload = lambda: None

    def get_model(self) -> torch.nn.Module:
        return self.model

    def sleep(self, level: int = 1) -> None: ...

    def wake_up(self, tags: list[str] | None = None) -> None: ...

    def reload_weights(self) -> None:
        self.reload()

    def finish_weight_update(self) -> None: ...


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> _Worker:
    monkeypatch.setattr(registry, "_sealed", [])
    monkeypatch.setattr(registry, "_loads", [])
    monkeypatch.setattr(registry, "_counted", dict.fromkeys(registry._counted, 0))
    monkeypatch.setattr(registry, "engine", registry.Engine())
    monkeypatch.setattr(worker, "_keeps_memory", lambda of: False)

    class Worker(_Worker): ...

    worker.equip(Worker)
    worker.equip(Worker)
    of = Worker(_model())
    registry.keep(_sealed(of.model))
    return of


def test_a_worker_answers_for_all_that_it_has(served: _Worker) -> None:
    assert served.tensorseal_reverify()["result"] == "unchanged"  # type: ignore[attr-defined]
    page = served.tensorseal_exposition()  # type: ignore[attr-defined]
    assert "tensorseal_seal_broken" in page and 'tensorseal_vllm_seal_void{rank="3",seal="toy"} 0\n' in page
    assert 'tensorseal_vllm_loads_total{rank="3",outcome="verified"} 0\n' in page
    for _ in range(99):
        registry.finish(registry.begin({}))
    refused = registry.begin({})
    registry.refuse(refused)
    registry.refuse(refused)
    registry.finish(refused)
    registry.finish(registry.begin({"mode": "log"}))
    assert not refused.complete and len(registry.loads()) < 20
    page = served.tensorseal_exposition()  # type: ignore[attr-defined]
    assert 'outcome="verified"} 99\n' in page and 'outcome="refused"} 1\n' in page
    assert 'outcome="on-disk"} 1\n' in page
    assert served.tensorseal_status()["seals"][0]["loaded_bytes"] == 100  # type: ignore[attr-defined]
    served.model, kept = _model(), served.model
    assert "another model" in served.tensorseal_reverify()["seals"][1]["message"]  # type: ignore[attr-defined]
    served.model = kept
    registry._sealed.clear()
    assert served.tensorseal_reverify()["result"] == "no_answer"  # type: ignore[attr-defined]


def test_memory_is_looked_at_after_waking(served: _Worker) -> None:
    served.sleep(1)
    served.wake_up(["weights"])
    served.model[0].bare[0] = 5
    served.wake_up(tags=["kv_cache"])
    with pytest.raises(VerifyError, match=r"after wake_up: .*0\.bare"):
        served.wake_up()
    registry.engine.mode = "log"
    served.wake_up()


def test_weights_that_were_dropped_void_the_seal_until_they_are_loaded_and_verified_again(served: _Worker) -> None:
    served.sleep(level=2)
    served.wake_up()
    assert served.tensorseal_reverify()["result"] == "broken"  # type: ignore[attr-defined]
    assert 'seal_void{rank="3",seal="toy"} 1' in served.tensorseal_exposition()  # type: ignore[attr-defined]

    def reload(complete: bool) -> None:
        served.model[0].bare[0] += 1
        registry.begin({}).complete = complete

    served.reload = lambda: reload(False)
    served.reload_weights()
    assert served.tensorseal_reverify()["result"] == "broken"  # type: ignore[attr-defined]
    served.reload = lambda: reload(True)
    served.reload_weights()
    assert served.tensorseal_reverify()["result"] == "unchanged"  # type: ignore[attr-defined]


def test_an_update_outside_of_the_loader_breaks_the_seal(served: _Worker) -> None:
    served.finish_weight_update()
    assert served.tensorseal_reverify()["result"] == "unchanged"  # type: ignore[attr-defined]
    served.reload = lambda: served.model[0].bare.add_(1)
    served.reload_weights()
    assert served.tensorseal_reverify()["result"] == "broken"  # type: ignore[attr-defined]


def test_an_update_that_fails_halfway_voids_the_seal(served: _Worker) -> None:
    def fail() -> None:
        raise VerifyError("refused")

    served.reload = fail
    with pytest.raises(VerifyError):
        served.reload_weights()
    assert "VerifyError: refused" in served.tensorseal_reverify()["seals"][0]["message"]  # type: ignore[attr-defined]


def test_a_worker_of_another_make_is_refused() -> None:
    with pytest.raises(UsageError, match="has no sleep"):
        worker.equip(type("Other", (), {}))


# --- adapters


def get_adapter_absolute_path(path: str) -> str:
    return path


class _Peft:
    @staticmethod
    def from_local_dir(path: str) -> None: ...


def _classes() -> tuple[type, type, type]:
    class Model:
        @classmethod
        def from_local_checkpoint(cls, lora_dir: str) -> tuple[str, bool]:
            return lora_dir, Path(lora_dir).is_dir()

    class Manager:
        def _load_adapter(self, request: SimpleNamespace) -> object:
            path = get_adapter_absolute_path(request.lora_path)
            _Peft.from_local_dir(path)
            return Model.from_local_checkpoint(path)

    class Cached(Manager): ...

    return Manager, Cached, Model


@pytest.fixture
def adapters(monkeypatch: pytest.MonkeyPatch) -> tuple[type, type, type]:
    manager, cached, model = _classes()
    lora.wrap((manager, cached), model, get_adapter_absolute_path)
    lora.assert_installed((manager, cached), model)
    monkeypatch.setattr(lora, "_settings", settings.Settings(Path("p")))
    monkeypatch.setattr(lora, "_loaded", [])
    return manager, cached, model


def test_an_adapter_is_read_from_the_verified_copy_alone(
    adapters: tuple[type, type, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def verified(path: Path, into: Path, policy: Path, symlinks: str) -> dict[str, str]:
        seen.append(path)
        return {"identity": "i"}

    monkeypatch.setattr(lora, "materialise", verified)
    asked = SimpleNamespace(lora_path="/adapters/one", lora_name="one")
    path, was_there = adapters[1]()._load_adapter(asked)
    assert seen == [Path("/adapters/one")] and asked.lora_path == "/adapters/one"
    assert path != "/adapters/one" and was_there and not Path(path).exists()
    assert lora.adapters() == [{"adapter": "one", "identity": "i"}]


def test_an_adapter_that_is_refused_or_comes_by_another_way_is_not_read(
    adapters: tuple[type, type, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, into: Path, policy: Path, symlinks: str) -> dict[str, str]:
        raise VerifyError("not signed")

    monkeypatch.setattr(lora, "materialise", refuse)
    manager, _, model = adapters
    asked = SimpleNamespace(lora_path="/adapters/one", lora_name="one")
    with pytest.raises(VerifyError, match="not signed"):
        manager()._load_adapter(asked)
    with pytest.raises(VerifyError, match="by a way that the policy does not see"):
        model.from_local_checkpoint("/adapters/one")
    monkeypatch.setattr(lora, "_settings", settings.Settings(Path("p"), mode="log"))
    assert manager()._load_adapter(asked) == ("/adapters/one", False)


def test_an_engine_that_loads_adapters_otherwise_is_refused() -> None:
    manager, cached, model = _classes()
    lora.wrap((manager, cached), model, get_adapter_absolute_path)
    cached._load_adapter = lambda self, request: None
    with pytest.raises(UsageError, match="--enable-lora"):
        lora.wrap((manager, cached), model, get_adapter_absolute_path)
    with pytest.raises(UsageError, match="replaced what loads them"):
        lora.assert_installed((manager, cached), model)
    with pytest.raises(UsageError, match="from_local_checkpoint is not there"):
        lora.wrap((), type("Other", (), {}), get_adapter_absolute_path)


# --- HTTP


def test_the_verdict_of_several_workers_is_the_worst() -> None:
    assert endpoints.worst([]) == "no_answer"
    assert endpoints.worst(["unchanged", "unchanged"]) == "unchanged"
    assert endpoints.worst(["unchanged", "no_answer"]) == "no_answer"
    assert endpoints.worst(["no_answer", "broken", "unchanged"]) == "broken"


def test_pages_of_several_workers_are_one_page() -> None:
    page = '# HELP a About a.\n# TYPE a gauge\na{{seal="{0}"}} 1\n# HELP b About b.\n# TYPE b counter\nb{{seal="{0}"}} 2\n'
    assert endpoints.merged([page.format(0), page.format(1)]).splitlines() == [
        "# HELP a About a.", "# TYPE a gauge", 'a{seal="0"} 1', 'a{seal="1"} 1',
        "# HELP b About b.", "# TYPE b counter", 'b{seal="0"} 2', 'b{seal="1"} 2',
    ]  # fmt: skip


def test_no_engine_is_no_answer() -> None:
    plugin = endpoints.Endpoints()
    asyncio.run(plugin.init_state(None, None, None))
    assert asyncio.run(plugin.ask("tensorseal_reverify")) == []
