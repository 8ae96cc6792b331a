"""Writes and reads files of tensors with Python's safetensors and gguf.

formats.py write FOLDER   writes files there, and prints {name of file: {name of tensor: [dtype, shape, blake3 of its bytes]}}
formats.py read RECORDS   reads files out of one, each a byte for the format ("s", "g"), its length (u64, little endian) and
                          its bytes, and prints for each the tensors as above, or a string: what was wrong with it
"""

import ctypes
import json
import os
import random
import sys
import tempfile

import blake3
import gguf
import numpy
import safetensors
from safetensors._safetensors_rust import TensorSpec

# As the writer wants them, and as the header has them.
SAFETENSORS = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float4_e2m1fn_x2": "F4",
}
SIZES = {"F4": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "C64": 8}


def digest(data):
    return blake3.blake3(bytes(data)).hexdigest()


def write_safetensors(folder, some):
    described, specs, held = {}, {}, []
    for writes, dtype in SAFETENSORS.items():
        for rank in range(4):
            shape = [some.randrange(1, 5) for _ in range(rank)]
            if dtype == "F4" and not shape:
                continue
            if rank == 3 and some.random() < 0.2:
                shape[some.randrange(3)] = 0
            size = SIZES.get(dtype) or int("".join(c for c in dtype.partition("_")[0] if c.isdigit()) or 8) // 8
            data = some.randbytes(size * int(numpy.prod(shape, dtype=int)))
            buffer = ctypes.create_string_buffer(data, len(data))
            held.append(buffer)
            spec = TensorSpec(dtype=writes, shape=shape, data_ptr=ctypes.addressof(buffer), data_len=len(data))
            name = some.choice(["", "model.", "ü \"\\\n\t/", "\u202e"]) + f"{dtype}.{rank}"
            specs[name] = spec
            described[name] = [dtype, list(spec.shape), digest(data)]
    safetensors.serialize_file(specs, os.path.join(folder, "a.safetensors"), {"format": "np", "ü\n": "\"\\"})
    return {"a.safetensors": described}


def write_gguf(folder, name, some, alignment=None, split=0):
    writer = gguf.GGUFWriter(os.path.join(folder, name), "llama", split_max_tensors=split)
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_name("ünï")
    for kind in gguf.GGUFValueType:
        if kind not in (gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING):
            writer.add_key_value(f"of.{kind.name}", 1, kind)
    writer.add_array("strings", ["a", "ü", ""])
    writer.add_array("floats", [1.5, 2.5])
    writer.add_array("truths", [True, False])
    tensors = {}
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        for rank in range(1, 5):
            shape = [some.randrange(1, 4) for _ in range(rank)]
            data = numpy.frombuffer(some.randbytes(size * int(numpy.prod(shape))), dtype=numpy.uint8)
            writer.add_tensor(f"{kind.name}.{rank}", data.reshape(shape[:-1] + [shape[-1] * size]), raw_dtype=kind)
            tensors[f"{kind.name}.{rank}"] = [kind.name, shape[:-1] + [shape[-1] * block], digest(data.tobytes())]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stem = name.removesuffix(".gguf")
    files = sorted(file for file in os.listdir(folder) if file.startswith(stem))
    return {file: {t.name: tensors[t.name] for t in gguf.GGUFReader(os.path.join(folder, file)).tensors} for file in files}


def write(folder):
    some = random.Random(5)
    return (
        write_safetensors(folder, some)
        | write_gguf(folder, "plain.gguf", some)
        | write_gguf(folder, "aligned.gguf", some, alignment=256)
        | write_gguf(folder, "split.gguf", some, split=50)
    )


def read(form, data):
    try:
        if form == b"s":
            of = lambda tensor: [tensor["dtype"], list(tensor["shape"]), digest(tensor["data"])]
            return {name: of(tensor) for name, tensor in safetensors.deserialize(data)}
        with tempfile.NamedTemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
            file.write(data)
            file.flush()
            reader = gguf.GGUFReader(file.name)
            of = lambda t: [t.tensor_type.name, [int(n) for n in reversed(t.shape)], digest(t.data.tobytes())]
            return {tensor.name: of(tensor) for tensor in reader.tensors}
    except Exception as error:  # whatever it is, it is the reader's answer
        return f"{type(error).__name__}: {error}"[:200]


def records(path):
    with open(path, "rb") as file:
        while form := file.read(1):
            yield form, file.read(int.from_bytes(file.read(8), "little"))


numpy.seterr(all="ignore")
if sys.argv[1] == "write":
    print(json.dumps(write(sys.argv[2])))
else:
    print(json.dumps([read(form, data) for form, data in records(sys.argv[2])]))
