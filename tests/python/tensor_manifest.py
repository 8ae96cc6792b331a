"""Tensor manifests, written from docs/tensor-manifest.md alone. It shares nothing with the product but that page.

  tensor_manifest.py make MODEL OUT         writes the manifest of the model's files of tensors
  tensor_manifest.py check MANIFEST MODEL   reads a manifest strictly and compares it with the model; exits 1 if it is refused
  tensor_manifest.py sizes                  prints how large manifests of known models are
  tensor_manifest.py vectors FOLDER SEEDS   writes tests/data/tensors and fuzz/seeds/tensor_manifest anew

It is slow: tiles are cut byte by byte, as the page says it, so that there is little to be wrong.
"""

import itertools
import json
import math
import struct
import sys
from pathlib import Path

from blake3 import blake3

MAGIC = b"tsealtns"
TENSOR = "tensorseal 2026-11-22 tensor manifest v1: digest of a tensor"
MODEL = "tensorseal 2026-11-22 tensor manifest v1: digest of all tensors"
SAFETENSORS, GGUF = 1, 2

BLOCKS = {}  # type -> (elements, bytes)
FORMATS = {}  # type -> formats


def types(names, elements, size, formats):
    for name in names.split():
        BLOCKS[name] = (elements, size)
        FORMATS[name] = formats


types("BOOL U8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ", 1, 1, {SAFETENSORS})
types("I8", 1, 1, {SAFETENSORS, GGUF})
types("U16", 1, 2, {SAFETENSORS})
types("I16 F16 BF16", 1, 2, {SAFETENSORS, GGUF})
types("U32", 1, 4, {SAFETENSORS})
types("I32 F32", 1, 4, {SAFETENSORS, GGUF})
types("U64 C64", 1, 8, {SAFETENSORS})
types("I64 F64", 1, 8, {SAFETENSORS, GGUF})
types("F4", 2, 1, {SAFETENSORS})
types("F6_E2M3 F6_E3M2", 4, 3, {SAFETENSORS})
for one, size in zip("Q4_0 IQ4_NL Q4_1 Q5_0 Q5_1 Q8_0 Q8_1 MXFP4".split(), [18, 18, 20, 22, 24, 34, 40, 17]):
    types(one, 32, size, {GGUF})
types("NVFP4", 64, 36, {GGUF})
types("Q1_0", 128, 18, {GGUF})
K_TYPES = "Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_XS TQ1_0 TQ2_0".split()
K_SIZES = [84, 110, 144, 176, 210, 292, 50, 56, 66, 74, 82, 98, 110, 136, 54, 66]
for one, size in zip(K_TYPES, K_SIZES):
    types(one, 256, size, {GGUF})


class Refused(Exception):
    """With the name of the failure."""


def need(condition, fault):
    if not condition:
        raise Refused(fault)


def bytes_of(dtype, shape):
    need(len(shape) <= 64, "Shape")
    if 0 in shape:
        return 0
    elements, size = BLOCKS[dtype]
    count = math.prod(shape)
    need(count < 2**64 and count % elements == 0, "Shape")
    total = count // elements * size
    need(total < 2**64, "Shape")
    return total


def grid(dtype, shape):
    total = bytes_of(dtype, shape)
    elements = BLOCKS[dtype][0]
    if total == 0 or (shape and shape[-1] % elements != 0):
        return [1] * len(shape)
    sizes = list(shape)
    if sizes:
        sizes[-1] //= elements
    parts = [next(n for n in (8, 4, 2, 1) if size % n == 0) for size in sizes]
    most = 512 if total <= 16777216 else min(512, total // 65536)
    while math.prod(parts) > most:
        parts[parts.index(max(parts))] //= 2
    return parts


def tiles(dtype, shape, data):
    """The bytes of each tile, in order."""
    parts = grid(dtype, shape)
    if math.prod(parts) == 1:
        return [data]
    elements, size = BLOCKS[dtype]
    units = list(shape)
    units[-1] //= elements
    steps = [unit // part for unit, part in zip(units, parts)]
    out = []
    for tile in itertools.product(*map(range, parts)):
        rows = [range(part * step, (part + 1) * step) for part, step in zip(tile, steps)]
        piece = bytearray()
        for index in itertools.product(*rows[:-1]):
            row = 0
            for at, unit in zip(index, units[:-1]):
                row = row * unit + at
            begin = (row * units[-1] + rows[-1].start) * size
            piece += data[begin : begin + len(rows[-1]) * size]
        out.append(bytes(piece))
    return out


def fields(context, *parts):
    text = b"".join(struct.pack("<Q", len(part)) + part for part in (struct.pack("<I", 1), *parts))
    return blake3(text, derive_key_context=context).digest()


def tensor_digest(name, dtype, shape, digests):
    sizes = b"".join(struct.pack("<Q", size) for size in shape)
    parts = bytes(grid(dtype, shape))
    return fields(TENSOR, name.encode(), dtype.encode(), sizes, parts, b"".join(digests))


def text(value):
    raw = value.encode()
    return struct.pack("<H", len(raw)) + raw


def file_entry(name, kind, length, header):
    return text(name) + struct.pack("<BQQ", kind, length, len(header)) + blake3(header).digest()


def tensor_entry(name, file, dtype, shape, begin, data, parts=None, root=None):
    digests = [blake3(tile).digest() for tile in tiles(dtype, shape, data)]
    return b"".join(
        [
            text(name),
            struct.pack("<IB", file, len(dtype)),
            dtype.encode(),
            struct.pack(f"<B{len(shape)}Q", len(shape), *shape),
            bytes(grid(dtype, shape) if parts is None else parts),
            struct.pack("<QQ", begin, len(data)),
            *digests,
            root or tensor_digest(name, dtype, shape, digests),
        ]
    )


def manifest(files, tensors, version=1):
    """Of entries that are in order."""
    head = MAGIC + struct.pack("<III", version, len(files), len(tensors))
    return head + b"".join(files) + b"".join(tensors)


# ---- the files that tensors lie in ----------------------------------------------------------------------------


def read_safetensors(data):
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    begin = 8 + length
    tensors = {
        name: (entry["dtype"], entry["shape"], begin + entry["data_offsets"][0], begin + entry["data_offsets"][1])
        for name, entry in header.items()
        if name != "__metadata__"
    }
    return begin, tensors


GGML = {0: "F32", 1: "F16", 2: "Q4_0", 8: "Q8_0", 12: "Q4_K", 24: "I8", 26: "I32", 30: "BF16"}


def read_gguf(data):
    """As much of GGUF version 3 as the vectors use: values are numbers of 32 bits, or strings."""
    at = 0

    def take(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value

    def string():
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length : at].decode()

    assert take("I") == 0x46554747 and take("I") == 3
    count, pairs = take("Q"), take("Q")
    values = {}
    for _ in range(pairs):
        key, kind = string(), take("I")
        values[key] = {4: lambda: take("I"), 8: string}[kind]()
    align = values.get("general.alignment", 32)
    infos = []
    for _ in range(count):
        name = string()
        shape = [take("Q") for _ in range(take("I"))][::-1]
        infos.append((name, GGML[take("I")], shape, take("Q")))
    begin = -(-at // align) * align
    tensors = {
        name: (dtype, shape, begin + offset, begin + offset + bytes_of(dtype, shape))
        for name, dtype, shape, offset in infos
    }
    return begin, tensors


def sources(model):
    readers = {".safetensors": (SAFETENSORS, read_safetensors), ".gguf": (GGUF, read_gguf)}
    paths = sorted(path for path in model.rglob("*") if path.suffix in readers)
    paths.sort(key=lambda path: path.relative_to(model).as_posix().encode())
    for path in paths:
        data = path.read_bytes()
        kind, read = readers[path.suffix]
        begin, tensors = read(data)
        yield path.relative_to(model).as_posix(), kind, data, begin, tensors


def make(model):
    files, tensors = [], {}
    for index, (name, kind, data, begin, held) in enumerate(sources(model)):
        files.append(file_entry(name, kind, len(data), data[:begin]))
        for tensor, (dtype, shape, start, end) in held.items():
            assert tensor not in tensors
            tensors[tensor] = tensor_entry(tensor, index, dtype, shape, start, data[start:end])
    return manifest(files, [tensors[name] for name in sorted(tensors, key=str.encode)])


# ---- reading, strictly ----------------------------------------------------------------------------------------


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "Cut")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form):
        (value,) = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return value

    def text(self, count):
        try:
            return self.take(count).decode()
        except UnicodeDecodeError:
            raise Refused("NotUtf8") from None


def parse(data):
    need(len(data) <= 2**30, "TooMany")
    need(data[:8] == MAGIC, "Magic")
    reader = Reader(data)
    reader.take(8)
    need(reader.number("I") == 1, "Version")
    file_count, tensor_count = reader.number("I"), reader.number("I")
    need(file_count <= 65536 and tensor_count <= 4194304, "TooMany")
    files, tensors = [], []
    for _ in range(file_count):
        name = reader.text(reader.number("H"))
        parts = name.split("/")
        need(name == "." or not ("" in parts or "." in parts or ".." in parts or "\0" in name), "FileName")
        kind = reader.number("B")
        need(kind in (SAFETENSORS, GGUF), "Format")
        files.append((name, kind, reader.number("Q"), reader.number("Q"), reader.take(32)))
    for _ in range(tensor_count):
        name = reader.text(reader.number("H"))
        file = reader.number("I")
        need(file < len(files), "NoFile")
        dtype = reader.take(reader.number("B")).decode(errors="replace")
        need(files[file][1] in FORMATS.get(dtype, ()), "Dtype")
        dimensions = reader.number("B")
        need(dimensions <= 64, "Shape")
        shape = [reader.number("Q") for _ in range(dimensions)]
        parts = list(reader.take(dimensions))
        begin, length = reader.number("Q"), reader.number("Q")
        need(length == bytes_of(dtype, shape), "Size")
        need(begin + length < 2**64, "Outside")
        need(parts == grid(dtype, shape), "Grid")
        digests = [reader.take(32) for _ in range(math.prod(parts))]
        root = reader.take(32)
        need(root == tensor_digest(name, dtype, shape, digests), "Root")
        tensors.append((name, file, dtype, shape, begin, begin + length, digests, root))
    need(reader.at == len(data), "Trailing")
    need(tensors, "NoTensors")
    for things in (files, tensors):
        names = [thing[0].encode() for thing in things]
        for one, next_one in itertools.pairwise(names):
            need(one != next_one, "Double")
            need(one < next_one, "Order")
        need(all(len(name) <= 4096 for name in names), "LongName")
    need(all(header <= length for _, _, length, header, _ in files), "HeaderLength")
    for _, file, _, _, begin, end, _, _ in tensors:
        need(files[file][3] <= begin and end <= files[file][2], "Outside")
    places = sorted((file, begin, end) for _, file, _, _, begin, end, _, _ in tensors if begin < end)
    for (file, _, end), (other, begin, _) in itertools.pairwise(places):
        need(file != other or end <= begin, "Overlap")
    return files, tensors


def check(path, model):
    files, tensors = parse(path.read_bytes())
    assert path.read_bytes() == make(model), "it is not the one encoding of this model"
    total = fields(MODEL, b"".join(root for *_, root in tensors))
    print(json.dumps({"files": len(files), "tensors": len(tensors), "root": total.hex()}))


# ---- sizes of real models --------------------------------------------------------------------------------------


def llama(layers, hidden, queries, keys, inner, vocabulary, norms=()):
    yield "model.embed_tokens.weight", "BF16", [vocabulary, hidden]
    yield "lm_head.weight", "BF16", [vocabulary, hidden]
    yield "model.norm.weight", "BF16", [hidden]
    for layer in range(layers):
        name = f"model.layers.{layer}."
        yield name + "self_attn.q_proj.weight", "BF16", [queries, hidden]
        yield name + "self_attn.k_proj.weight", "BF16", [keys, hidden]
        yield name + "self_attn.v_proj.weight", "BF16", [keys, hidden]
        yield name + "self_attn.o_proj.weight", "BF16", [hidden, queries]
        yield name + "mlp.gate_proj.weight", "BF16", [inner, hidden]
        yield name + "mlp.up_proj.weight", "BF16", [inner, hidden]
        yield name + "mlp.down_proj.weight", "BF16", [hidden, inner]
        yield name + "input_layernorm.weight", "BF16", [hidden]
        yield name + "post_attention_layernorm.weight", "BF16", [hidden]
        for norm in norms:
            yield name + f"self_attn.{norm}.weight", "BF16", [128]


def deepseek_v3():
    hidden, vocabulary = 7168, 129280

    def fp8(name, shape):
        yield name + ".weight", "F8_E4M3", shape
        yield name + ".weight_scale_inv", "F32", [-(-size // 128) for size in shape]

    def mlp(name, inner):
        yield from fp8(name + "gate_proj", [inner, hidden])
        yield from fp8(name + "up_proj", [inner, hidden])
        yield from fp8(name + "down_proj", [hidden, inner])

    yield "model.embed_tokens.weight", "BF16", [vocabulary, hidden]
    yield "lm_head.weight", "BF16", [vocabulary, hidden]
    yield "model.norm.weight", "BF16", [hidden]
    for layer in range(62):
        name = f"model.layers.{layer}."
        yield name + "input_layernorm.weight", "BF16", [hidden]
        yield name + "post_attention_layernorm.weight", "BF16", [hidden]
        yield name + "self_attn.q_a_layernorm.weight", "BF16", [1536]
        yield name + "self_attn.kv_a_layernorm.weight", "BF16", [512]
        yield from fp8(name + "self_attn.q_a_proj", [1536, hidden])
        yield from fp8(name + "self_attn.q_b_proj", [24576, 1536])
        yield from fp8(name + "self_attn.kv_a_proj_with_mqa", [576, hidden])
        yield from fp8(name + "self_attn.kv_b_proj", [32768, 512])
        yield from fp8(name + "self_attn.o_proj", [hidden, 16384])
        if layer < 3:
            yield from mlp(name + "mlp.", 18432)
        else:
            yield name + "mlp.gate.weight", "BF16", [256, hidden]
            yield name + "mlp.gate.e_score_correction_bias", "F32", [256]
            yield from mlp(name + "mlp.shared_experts.", 2048)
            for expert in range(256):
                yield from mlp(name + f"mlp.experts.{expert}.", 2048)
        if layer == 61:
            yield name + "embed_tokens.weight", "BF16", [vocabulary, hidden]
            yield name + "shared_head.head.weight", "BF16", [vocabulary, hidden]
            yield name + "eh_proj.weight", "BF16", [hidden, 2 * hidden]
            for norm in ("enorm", "hnorm", "shared_head.norm"):
                yield name + f"{norm}.weight", "BF16", [hidden]


MODELS = {
    "Llama-3.1-8B": (lambda: llama(32, 4096, 4096, 1024, 14336, 128256), 4),
    "Llama-3.1-70B": (lambda: llama(80, 8192, 8192, 1024, 28672, 128256), 30),
    "Qwen3-32B": (lambda: llama(64, 5120, 8192, 1024, 25600, 151936, ("q_norm", "k_norm")), 17),
    "DeepSeek-V3": (deepseek_v3, 163),
}


def sizes():
    print("| model | bytes of tensors | tensors | tiles | manifest | of the model |")
    print("| --- | --- | --- | --- | --- | --- |")
    for model, (shapes, files) in MODELS.items():
        count = cells = total = 0
        length = 20 + files * (52 + len("model-00001-of-00001.safetensors"))
        for name, dtype, shape in shapes():
            here = math.prod(grid(dtype, shape))
            size = bytes_of(dtype, shape)
            assert size <= 16 << 20 or here * 32 <= size * 0.0005
            count, cells, total = count + 1, cells + here, total + size
            length += 56 + len(name.encode()) + len(dtype) + 9 * len(shape) + 32 * here
        share = f"{length / total:.4%}"
        print(f"| {model} | {total / 1e9:.1f} GB | {count:,} | {cells:,} | {length / 1e6:.1f} MB | {share} |")


# ---- vectors ---------------------------------------------------------------------------------------------------


def noise(count, seed):
    return blake3(seed.encode()).digest(length=count) if count else b""


def safetensors_file(tensors, seed, metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape) in tensors.items():
        size = bytes_of(dtype, shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += noise(size, seed + name)
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + data


def gguf_file(tensors, seed):
    numbers = {name: number for number, name in GGML.items()}

    def string(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    out = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), 1)
    out += string("general.architecture") + struct.pack("<I", 8) + string("none")
    data = b""
    for name, (dtype, shape) in tensors.items():
        out += string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        out += struct.pack("<IQ", numbers[dtype], len(data))
        data += noise(bytes_of(dtype, shape), seed + name)
        data += b"\0" * (-len(data) % 32)
    return out + b"\0" * (-len(out) % 32) + data


def vectors(folder, seeds):
    first = {
        "model.embed.weight": ("BF16", [48, 16]),
        "layers.0.q_proj.weight": ("F8_E4M3", [64, 48]),
        "layers.0.q_proj.weight_scale_inv": ("F32", [8, 6]),
        "layers.0.q_proj.bias": ("F16", [24]),
        "experts.w1": ("BF16", [4, 8, 12]),
        "scalar": ("F32", []),
        "empty": ("I64", [0, 3]),
        "Überschrift.\U0001f9ca": ("U8", [7]),
        "z": ("F64", [1, 1, 1]),
    }
    second = {
        "sub.byte": ("F4", [8, 32]),
        "sub.byte.odd.rows": ("F4", [4, 1]),
        "six.bits": ("F6_E2M3", [2, 64]),
        "uber": ("U8", [3, 5]),
        "conv": ("F16", [8, 3, 2, 2]),
    }
    blocks = {
        "token_embd.weight": ("Q4_0", [24, 256]),
        "blk.0.attn_q.weight": ("Q4_K", [16, 1024]),
        "blk.0.attn_norm.weight": ("F32", [40]),
        "output.weight": ("Q8_0", [5, 96]),
    }
    models = {
        "sharded": {
            "model-00001-of-00002.safetensors": safetensors_file(first, "a", {"format": "pt"}),
            "sub/model-00002-of-00002.safetensors": safetensors_file(second, "b"),
        },
        "gguf": {"model.gguf": gguf_file(blocks, "c")},
    }
    for model, files in models.items():
        for name, data in files.items():
            path = folder / model / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (folder / f"{model}.tensors").write_bytes(make(folder / model))

    shapes = [
        ("F32", []), ("BF16", [1]), ("BF16", [2]), ("BF16", [3]), ("BF16", [12]), ("U8", [0]), ("U8", [4, 0, 8]),
        ("BF16", [4096, 4096]), ("BF16", [1024, 4096]), ("BF16", [14336, 4096]), ("BF16", [128256, 4096]),
        ("F8_E4M3", [2048, 7168]), ("F32", [16, 56]), ("F8_E4M3", [576, 7168]), ("F32", [5, 56]), ("F32", [12, 56]),
        ("BF16", [128, 1024, 4096]), ("BF16", [8, 1024, 1024]), ("BF16", [8, 1024, 1032]), ("BF16", [16, 1024, 1024]),
        ("BF16", [16, 1024, 1032]), ("BF16", [8, 8, 8, 8]), ("BF16", [8, 8, 8, 8, 8, 8]), ("BF16", [1152, 3, 14, 14]),
        ("BF16", [6, 10, 1048576]), ("F4", [4, 1]), ("F4", [4, 16]), ("F4", [4, 12]), ("F6_E3M2", [8, 64]),
        ("F6_E3M2", [8, 2]), ("Q4_0", [7, 256]), ("Q4_0", [7, 224]), ("Q4_K", [64, 2048]), ("Q4_K", [64, 5120]),
        ("U8", [16777216]), ("U8", [16777217]), ("U8", [8, 8, 262144]), ("U8", [8, 8, 262145]), ("U8", [8, 8, 262152]),
        ("U8", [4096, 4104, 8]), ("U8", [2] * 40), ("U8", [1] * 63 + [8]),
    ]  # fmt: skip
    grids = [{"dtype": dtype, "shape": shape, "parts": grid(dtype, shape)} for dtype, shape in shapes]

    header = b"header"
    file = file_entry("m.safetensors", SAFETENSORS, 100, header)
    one = tensor_entry("a", 0, "U8", [4], 6, b"abcd")
    two = tensor_entry("b", 0, "U8", [4, 2], 10, b"abcdefgh")

    def raw_file(name, kind=SAFETENSORS, length=100, head=6):
        return struct.pack("<H", len(name)) + name + struct.pack("<BQQ", kind, length, head) + bytes(32)

    good = manifest([file], [one, two])
    long = "n" * 4097
    refused = {
        "Magic": [b"", b"tsealtnt" + good[8:], good[:7]],
        "Version": [manifest([file], [one], 0), manifest([file], [one], 2)],
        "Cut": [good[:-1], good[:8], good[:25], manifest([file], [one, two])[:-33]],
        "Trailing": [good + b"\0"],
        "TooMany": [good[:12] + struct.pack("<I", 65537) + good[16:], good[:16] + struct.pack("<I", 4194305) + good[20:]],
        "NoTensors": [manifest([file], []), manifest([], [])],
        "NotUtf8": [manifest([raw_file(b"a\xff")], [one]), good.replace(b"\x01\0b", b"\x01\0\xff")],
        "FileName": [
            manifest([raw_file(name)], [one])
            for name in (b"", b"/a", b"a/", b"a//b", b"./a", b"a/.", b"a/..", b"..", b"a\0b")
        ],
        "Format": [manifest([raw_file(b"a", kind)], [one]) for kind in (0, 3)],
        "HeaderLength": [manifest([raw_file(b"a", head=101)], [tensor_entry("a", 0, "U8", [0], 101, b"")])],
        "Double": [manifest([file], [one, one]), manifest([file, file], [one])],
        "Order": [manifest([file], [two, one]), manifest([raw_file(b"z"), file], [one])],
        "LongName": [manifest([raw_file(long.encode())], [one]), manifest([file], [tensor_entry(long, 0, "U8", [4], 6, b"abcd")])],
        "NoFile": [manifest([file], [tensor_entry("a", 1, "U8", [4], 6, b"abcd")]), manifest([], [one])],
        "Dtype": [
            manifest([file], [tensor_entry("a", 0, "Q4_0", [32], 6, bytes(18))]),
            manifest([raw_file(b"a", GGUF)], [tensor_entry("a", 0, "BOOL", [4], 6, b"abcd")]),
            good.replace(b"\x02U8\x01", b"\x02u8\x01"),
        ],
        "Shape": [
            manifest([file], [one.replace(struct.pack("<BQB", 1, 4, 4), struct.pack("<B3Q3B", 3, 2**32, 2**32, 1, 8, 8, 1))]),
            manifest([file], [one.replace(struct.pack("<BQB", 1, 4, 4), struct.pack("<B65Q65B", 65, *[1] * 130))]),
        ],
        "Size": [manifest([file], [one.replace(struct.pack("<QQ", 6, 4), struct.pack("<QQ", 6, 5))])],
        "Outside": [
            manifest([file], [tensor_entry("a", 0, "U8", [4], begin, b"abcd")]) for begin in (5, 97, 2**64 - 4, 2**64 - 1)
        ],
        "Overlap": [manifest([file], [one, tensor_entry("b", 0, "U8", [4], begin, b"abcd")]) for begin in (6, 9)],
        "Grid": [manifest([file], [tensor_entry("a", 0, "U8", [4], 6, b"abcd", parts)]) for parts in ([1], [2], [8], [0])],
        "Root": [manifest([file], [tensor_entry("a", 0, "U8", [4], 6, b"abcd", root=bytes(32))]), good[:-1] + bytes([good[-1] ^ 1])],
    }  # fmt: skip
    for fault, cases in refused.items():
        for case in cases:
            try:
                parse(case)
            except Refused as found:
                assert str(found) == fault, (fault, str(found), case)
            else:
                raise AssertionError((fault, case))
    parse(good)
    seeds.mkdir(parents=True, exist_ok=True)
    (seeds / "two").write_bytes(good)
    for model in models:
        (seeds / model).write_bytes((folder / f"{model}.tensors").read_bytes())
    for fault in ("NoTensors", "Double", "Order", "Overlap", "Grid", "Outside", "Shape"):
        (seeds / f"no-{fault}").write_bytes(refused[fault][0])
    roots = []
    for model in models:
        files, tensors = parse((folder / f"{model}.tensors").read_bytes())
        total = fields(MODEL, b"".join(root for *_, root in tensors))
        roots.append({"model": model, "files": list(models[model]), "root": total.hex()})
    cases = {
        "models": roots,
        "grids": grids,
        "good": good.hex(),
        "refused": [{"fault": fault, "manifest": case.hex()} for fault, cases in refused.items() for case in cases],
    }
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


def main(arguments):
    try:
        match arguments:
            case ["make", model, out]:
                Path(out).write_bytes(make(Path(model)))
            case ["check", path, model]:
                check(Path(path), Path(model))
            case ["sizes"]:
                sizes()
            case ["vectors", folder, seeds]:
                vectors(Path(folder), Path(seeds))
            case _:
                sys.exit(__doc__)
    except Refused as fault:
        print(fault)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
