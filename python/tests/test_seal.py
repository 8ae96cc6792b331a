"""Seals over named tensors on the host; test_cuda.py has those on a device."""

import re
import threading

import pytest
from conftest import require

require("numpy")

import numpy

import tensorseal
from tensorseal import Seal


@pytest.fixture
def weights():
    rng = numpy.random.default_rng(3)
    return {
        "a.weight": rng.standard_normal((300, 1000)).astype(numpy.float32),
        "a.bias": rng.standard_normal(1000),
        "b.weight": rng.standard_normal((64, 512)).astype(numpy.float16).T,
        "steps": numpy.array(7),
    }


def metrics(page: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", page, re.MULTILINE)}


def test_unchanged_is_unchanged(weights):
    seal = Seal.take(weights, name="m")
    assert seal.total == sum(tensor.nbytes for tensor in weights.values()) and seal.broken is None and seal.name == "m"
    found = seal.reverify(weights)
    assert (found.seal, found.bytes, found.total) == ("m", seal.total, seal.total)
    assert found.since == seal.since <= found.at and "unchanged since" in str(found) and "as signed" not in str(found)
    assert seal.oldest < 60
    ranges = {}
    for of in seal.coverage():
        assert of.start == ranges.get(of.name, 0)
        ranges[of.name] = of.end
    assert ranges == {name: tensor.nbytes for name, tensor in weights.items()}


@pytest.mark.parametrize("name", ["a.weight", "a.bias", "b.weight", "steps"])
def test_any_flipped_bit_is_found_and_stays(weights, name):
    seal = Seal.take(weights, group=4096)
    tensor = weights[name]
    last = tuple(size - 1 for size in tensor.shape)
    raw = numpy.frombuffer(bytes([tensor[last].tobytes()[0] ^ 1]) + tensor[last].tobytes()[1:], dtype=tensor.dtype)[0]
    before = tensor[last].copy()
    tensor[last] = raw
    with pytest.raises(tensorseal.VerifyError) as caught:
        seal.reverify(weights)
    (found,) = caught.value.differences
    assert (found.name, found.kind, caught.value.kind) == (name, "changed", "seal")
    ((start, end),) = found.ranges
    assert start == (tensor.nbytes - 1) // 4096 * 4096 and end == tensor.nbytes
    # Put back, it is broken all the same.
    tensor[last] = before
    with pytest.raises(tensorseal.VerifyError):
        seal.reverify(weights)
    assert seal.broken is not None and f'"{name}" has changed' in seal.broken
    seal.reseal(weights)
    assert seal.broken is None
    seal.reverify(weights)


def test_another_set_of_memory_is_no(weights):
    def refused(shown):
        seal = Seal.take(weights)
        with pytest.raises(tensorseal.VerifyError) as caught:
            seal.reverify(shown)
        return [(of.name, of.kind) for of in caught.value.differences]

    bias = weights["a.bias"]
    assert refused({name: of for name, of in weights.items() if name != "steps"}) == [("steps", "missing")]
    assert refused({**weights, "more": bias}) == [("more", "added")]
    assert refused({**weights, "a.bias": bias.copy()}) == [("a.bias", "moved")]
    assert refused({**weights, "a.bias": bias[:999]}) == [("a.bias", "moved")]
    assert refused({}) == sorted((name, "missing") for name in weights)


def test_a_budget_covers_all_in_turns(weights):
    seal = Seal.take(weights, group=4096)
    done = calls = 0
    while done < seal.total:
        found = seal.reverify(weights, bytes=100_000)
        assert 0 < found.bytes <= 100_000
        done += found.bytes
        calls += 1
    assert calls >= seal.total // 100_000
    # Little time is some bytes, and much of it is everything once.
    assert 0 < seal.reverify(weights, seconds=1e-9).bytes <= seal.total
    assert seal.reverify(weights, seconds=1e4).bytes == seal.total
    for budget in ({"bytes": 0}, {"seconds": 0.0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"seconds": 1.0, "bytes": 1}):
        with pytest.raises(tensorseal.UsageError):
            seal.reverify(weights, **budget)


def test_a_change_is_found_when_its_turn_comes(weights):
    seal = Seal.take(weights, group=4096)
    weights["steps"][...] = 8
    with pytest.raises(tensorseal.VerifyError, match='"steps" has changed'):
        for _ in range(seal.total // 4096 + 5):
            seal.reverify(weights, bytes=4096)


def test_what_says_nothing_is_not_sealed(weights):
    with pytest.raises(tensorseal.UsageError, match="no memory to seal"):
        Seal.take({})
    with pytest.raises(tensorseal.UsageError, match='"qkv" has no bytes'):
        Seal.take({**weights, "qkv": numpy.empty((0,))})
    with pytest.raises(tensorseal.UsageError, match='"flipped".*contiguous'):
        Seal.take({**weights, "flipped": weights["a.bias"][::-1]})
    with pytest.raises(tensorseal.UsageError, match="a string"):
        Seal.take({7: weights["a.bias"]})


def test_metrics_are_what_happened(weights):
    seal, other = Seal.take(weights, name="one"), Seal.take(weights, name="two")
    seal.reverify(weights)
    page = metrics(tensorseal.exposition([other, seal]))
    assert page['tensorseal_seal_reverified_bytes_total{seal="one"}'] == seal.total
    assert page['tensorseal_seal_reverified_bytes_total{seal="two"}'] == 0
    assert page['tensorseal_seal_covered_bytes{seal="one",device="cpu"}'] == seal.total
    assert page['tensorseal_seal_broken{seal="one"}'] == 0
    weights["steps"][...] += 1
    with pytest.raises(tensorseal.VerifyError):
        seal.reverify(weights)
    page = metrics(tensorseal.exposition([seal]))
    assert page['tensorseal_seal_broken{seal="one"}'] == 1 and page['tensorseal_seal_runs_total{seal="one"}'] == 2
    with pytest.raises(tensorseal.UsageError, match="two seals"):
        tensorseal.exposition([seal, Seal.take(weights, name="one")])
    assert all(line.startswith("#") for line in tensorseal.exposition([]).splitlines())


def test_threads_may_ask_at_once(weights):
    seals = [Seal.take(weights, name=str(index)) for index in range(3)]
    failed = []

    def ask(order):
        try:
            for _ in range(20):
                tensorseal.exposition(order)
                for seal in order:
                    seal.reverify(weights)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(seals[index:] + seals[:index],)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)
