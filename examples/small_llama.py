#!/usr/bin/env python3
"""Makes a small model with the files and the tensor names of a Llama, to sign and to tamper with.

    small_llama.py make FOLDER          writes the model: 8 layers in 3 safetensors shards, 46 MiB, always the same bytes
    small_llama.py flip FOLDER TENSOR   flips one bit in the middle of a tensor, says what changed (twice restores it)

Needs nothing but Python. The weights are pseudo-random: the files are real, what the model says is not worth hearing.
"""

import array
import json
import random
import struct
import sys
from pathlib import Path

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KEY_VALUE_HEADS, VOCABULARY, SHARDS = 512, 1408, 8, 8, 4, 512, 3
KEY_VALUE = HIDDEN // HEADS * KEY_VALUE_HEADS

# The high byte of a bfloat16 is its sign and seven of its eight exponent bits. Weights of a trained layer lie around
# zero: magnitudes up to 0.125, most of them between 0.008 and 0.03, as many below zero as above.
HIGH_BYTES = bytes(
    (i & 1) << 7 | (0x3A if i < 32 else 0x3B if i < 80 else 0x3C if i < 224 else 0x3D) for i in range(256)
)


def tensors():
    """Name, dtype and shape of every tensor, in the order of the layers."""
    yield "model.embed_tokens.weight", "BF16", [VOCABULARY, HIDDEN]
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", "F32", [HIDDEN]
        yield f"{layer}.self_attn.q_proj.weight", "BF16", [HIDDEN, HIDDEN]
        yield f"{layer}.self_attn.k_proj.weight", "BF16", [KEY_VALUE, HIDDEN]
        yield f"{layer}.self_attn.v_proj.weight", "BF16", [KEY_VALUE, HIDDEN]
        yield f"{layer}.self_attn.o_proj.weight", "BF16", [HIDDEN, HIDDEN]
        yield f"{layer}.post_attention_layernorm.weight", "F32", [HIDDEN]
        yield f"{layer}.mlp.gate_proj.weight", "BF16", [INTERMEDIATE, HIDDEN]
        yield f"{layer}.mlp.up_proj.weight", "BF16", [INTERMEDIATE, HIDDEN]
        yield f"{layer}.mlp.down_proj.weight", "BF16", [HIDDEN, INTERMEDIATE]
    yield "model.norm.weight", "F32", [HIDDEN]
    yield "lm_head.weight", "BF16", [VOCABULARY, HIDDEN]


def elements(shape):
    count = 1
    for extent in shape:
        count *= extent
    return count


def values(dtype, count, generator):
    """The bytes of `count` values: matrices as bfloat16, norms as floats near one."""
    if dtype == "F32":
        floats = array.array("f", (generator.gauss(1.0, 0.05) for _ in range(count)))
        if sys.byteorder == "big":
            floats.byteswap()
        return floats.tobytes()
    data = bytearray(generator.randbytes(2 * count))
    data[1::2] = data[1::2].translate(HIGH_BYTES)
    return bytes(data)


def write_shard(path, parts):
    """One safetensors file: the header's length, the header, the tensors back to back."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, data in parts:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for *_, data in parts:
            file.write(data)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def byte_letters():
    """The letter that a byte-level tokenizer shows each byte as: itself if it prints, else one from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def tokenizer():
    """One token a byte, and reserved ones up to the size of the vocabulary."""
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    special += [f"<|reserved_{i}|>" for i in range(VOCABULARY - 256 - len(special))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 256 + i, "content": token, **flags} for i, token in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {letter: byte for byte, letter in enumerate(byte_letters())},
            "merges": [],
        },
    }


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    parts = [(name, dtype, shape, values(dtype, elements(shape), generator)) for name, dtype, shape in tensors()]
    total = sum(len(data) for *_, data in parts)

    shards = [[] for _ in range(SHARDS)]
    written = 0
    for part in parts:
        shards[min(SHARDS - 1, written * SHARDS // total)].append(part)
        written += len(part[-1])
    weight_map = {}
    for i, shard in enumerate(shards, start=1):
        path = folder / f"model-{i:05}-of-{SHARDS:05}.safetensors"
        write_shard(path, shard)
        weight_map.update({name: path.name for name, *_ in shard})

    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "bos_token_id": 256,
            "eos_token_id": 257,
            "head_dim": HIDDEN // HEADS,
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "initializer_range": 0.02,
            "intermediate_size": INTERMEDIATE,
            "max_position_embeddings": 2048,
            "model_type": "llama",
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": KEY_VALUE_HEADS,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": VOCABULARY,
        },
    )
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": 256, "eos_token_id": 257, "do_sample": True, "temperature": 0.6, "top_p": 0.9},
    )
    write_json(folder / "tokenizer.json", tokenizer())
    write_json(
        folder / "tokenizer_config.json",
        {
            "bos_token": "<|begin_of_text|>",
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|end_of_text|>",
            "model_max_length": 2048,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def bfloat16(data):
    return struct.unpack("<f", b"\0\0" + data)[0]


def flip(folder, tensor):
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    name = index["weight_map"][tensor]
    with (folder / name).open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(length))[tensor]
        begin, end = entry["data_offsets"]
        middle = (end - begin) // 4  # the index of the middle value
        at = 8 + length + begin + 2 * middle
        file.seek(at)
        before = file.read(2)
        after = bytes([before[0], before[1] ^ 0x80])
        file.seek(at)
        file.write(after)
    print(f"{name}: byte {at + 1:,}: {tensor}[{middle // entry['shape'][1]}][{middle % entry['shape'][1]}]: "
          f"{bfloat16(before):.6f} -> {bfloat16(after):.6f}")


def main(arguments):
    match arguments:
        case ["make", folder]:
            make(Path(folder))
        case ["flip", folder, tensor]:
            flip(Path(folder), tensor)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
