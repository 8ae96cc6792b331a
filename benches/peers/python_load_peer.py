#!/usr/bin/env python3
"""One load in Python, verified: `python_load_peer.py CASE FOLDER --public-key KEY --edges HEX` prints its seconds, as JSON.

Every case begins with nothing but imported modules, and ends with all tensors in private memory of this process, after a check of all
bytes. What is imported, and looking at the result, is not timed.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import blake3
import torch
from load_peer import digest, memory_of, tensorizer

FILE = "model.safetensors"


def own_memory(file):
    """safetensors gives maps of the file: a clone is what makes the bytes this process's own."""
    from safetensors.torch import load_file

    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def by_tensorseal(folder, arguments):
    import tensorseal

    return tensorseal.load_file(folder / FILE, policy=tensorseal.Key(arguments.public_key), bundle=arguments.signature)


def by_blake3(folder, arguments):
    """A pass over the file by whoever knows its digest. It says nothing of the bytes that are loaded after it."""
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO).update_mmap(folder / FILE)
    if hasher.hexdigest() != arguments.blake3:
        raise SystemExit("the file has another digest")
    return own_memory(folder / FILE)


def by_model_signing(folder, arguments):
    from model_signing import verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=arguments.public_key)
    config.verify(folder, arguments.signature)
    return own_memory(folder / FILE)


CASES = {
    "tensorseal": (by_tensorseal, "tensorseal.loading"),
    "safetensors-blake3": (by_blake3, "safetensors.torch"),
    "model-signing": (by_model_signing, "model_signing.verifying"),
    "tensorizer-verify": (lambda folder, arguments: tensorizer(arguments.tensors, True), "tensorizer"),
}


def edges(tensors):
    """A digest over the first and the last tensor by their names."""
    hasher = blake3.blake3()
    for name in (min(tensors), max(tensors)):
        hasher.update(memory_of(tensors[name]))
    return hasher.hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--public-key", type=Path)
    parser.add_argument("--signature", type=Path)
    parser.add_argument("--tensors", help="the same tensors in tensorizer's format")
    parser.add_argument("--blake3", help="the file's digest")
    parser.add_argument("--edges", required=True, help="the digest over the first and the last tensor, as they should be")
    parser.add_argument("--digest", action="store_true", help="also print a digest over all tensors")
    arguments = parser.parse_args()
    load, module = CASES[arguments.case]
    __import__(module)
    # What torch sets up when it is first used for this is no part of a load.
    torch.from_dlpack(torch.zeros(1)).view(torch.bfloat16).clone()
    before, begun = os.times(), time.perf_counter()
    tensors = load(arguments.folder, arguments)
    seconds, after = time.perf_counter() - begun, os.times()
    if edges(tensors) != arguments.edges:
        raise SystemExit("these are other tensors")
    result = {
        "seconds": seconds,
        "cpu": after.user + after.system - before.user - before.system,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "tensors": len(tensors),
    }
    if arguments.digest:
        result["digest"] = digest(tensors)
    print(json.dumps(result), flush=True)
    # Some of them leave threads behind.
    os._exit(0)


if __name__ == "__main__":
    main()
