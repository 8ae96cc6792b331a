#!/usr/bin/env python3
"""One load by a peer: `load_peer.py CASE FILE [--check DIGEST]` prints the seconds that it took, as JSON.

Every case ends with all tensors in private memory that this process has just allocated. What is imported, and looking at
the result with --check, is not timed.
"""

import argparse
import json
import os
import time

import blake3
import torch


def memory_of(tensor):
    """The tensor's bytes, where they lie."""
    return memoryview(tensor.contiguous().view(-1).view(torch.uint8).numpy())


def digest(tensors):
    """A digest over all tensors, sorted by name."""
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    for name in sorted(tensors):
        hasher.update(name.encode())
        hasher.update(memory_of(tensors[name]))
    return hasher.hexdigest()


def hash_each(tensors):
    """What a check of each tensor costs, with all threads and no list to compare with."""
    return {name: blake3.blake3(memory_of(tensor), max_threads=blake3.blake3.AUTO).digest() for name, tensor in tensors.items()}


def safetensors_copy(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        # The file is mapped: a clone is what makes the bytes this process's own.
        return {name: file.get_tensor(name).clone() for name in file.keys()}


def fastsafetensors(path):
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    loader = SafeTensorsFileLoader(SingleGroup(), device="cpu", nogds=True)
    loader.add_filenames({0: [path]})
    buffers = loader.copy_files_to_device()
    tensors = {name: buffers.get_tensor(name) for name in loader.get_keys()}
    # The tensors lie in the loader's memory, which has to live as long as they do.
    return tensors, (loader, buffers)


def tensorizer(path, verify):
    from tensorizer import TensorDeserializer

    with TensorDeserializer(path, device="cpu", verify_hash=verify, lazy_load=False) as file:
        return {name: tensor for name, tensor in file.items()}


def run(case, path):
    """The seconds, and the tensors."""
    begun = time.perf_counter()
    keep = None
    if case.startswith("safetensors-copy"):
        tensors = safetensors_copy(path)
    elif case.startswith("fastsafetensors"):
        tensors, keep = fastsafetensors(path)
    elif case.startswith("tensorizer"):
        tensors = tensorizer(path, case.endswith("-verify"))
    else:
        raise SystemExit(f"there is no case {case}")
    if case.endswith("-blake3"):
        hash_each(tensors)
    return time.perf_counter() - begun, tensors, keep


def warm_imports(case):
    if case.startswith("safetensors"):
        import safetensors  # noqa: F401
    elif case.startswith("fastsafetensors"):
        import fastsafetensors  # noqa: F401
    else:
        import tensorizer  # noqa: F401


def convert(source, target):
    """The same tensors in tensorizer's format."""
    from safetensors.torch import load_file
    from tensorizer import TensorSerializer

    serializer = TensorSerializer(target)
    serializer.write_state_dict(load_file(source))
    serializer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("path")
    parser.add_argument("--digest", action="store_true", help="also print a digest over all tensors")
    parser.add_argument("--to", help="with the case convert: where to write")
    arguments = parser.parse_args()
    if arguments.case == "convert":
        convert(arguments.path, arguments.to)
        return
    warm_imports(arguments.case)
    seconds, tensors, keep = run(arguments.case, arguments.path)
    result = {"seconds": seconds, "tensors": len(tensors)}
    if arguments.digest:
        result["digest"] = digest(tensors)
    print(json.dumps(result), flush=True)
    del keep
    # Some of them leave threads behind.
    os._exit(0)


if __name__ == "__main__":
    main()
