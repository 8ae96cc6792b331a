"""The files that are measured: always the same bytes, which no file system can shorten."""

import json
import math
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Callable

from cases import MIB, Disagreement
from install import openssl, say

SEED = 20251122


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """Makes the file or folder under a temporary name first: what is there under its own name is whole."""
    if not path.exists():
        say(f"making {path.name}")
        part = path.with_name(path.name + ".part")
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
        make(part)
        part.rename(path)
    return path


def fill(file: BinaryIO, size: int) -> None:
    """Writes an AES keystream, and waits until it is on the disk: what is dirty cannot be dropped from the page cache."""
    key = f"{SEED:032x}"
    stream = subprocess.Popen(
        [openssl(), "enc", "-aes-128-ctr", "-K", key, "-iv", "0" * 32, "-in", "/dev/zero"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert stream.stdout is not None
    while size:
        piece = stream.stdout.read(min(size, MIB))
        if not piece:
            raise Disagreement("openssl ended before the file was full")
        size -= file.write(piece)
    stream.stdout.close()
    stream.wait()
    file.flush()
    os.fsync(file.fileno())


def big_file(work: Path, size: int) -> Path:
    def make(part: Path) -> None:
        with part.open("wb") as file:
            fill(file, size)

    return once(work / f"big-{size}.bin", make)


def spread_over_folders(part: Path, sizes: list[int]) -> None:
    generator = random.Random(SEED)
    for i in range(min(100, len(sizes))):
        (part / f"{i:02}").mkdir(parents=True)
    for i, size in enumerate(sizes):
        (part / f"{i % 100:02}" / f"{i:05}.bin").write_bytes(generator.randbytes(size))


def equal_files(work: Path, count: int, size: int = 4096) -> Path:
    """So many files of one size in 100 folders."""
    return once(work / f"equal-{count}-{size}", lambda part: spread_over_folders(part, [size] * count))


def mixed_files(work: Path, count: int) -> Path:
    """So many files of 20 B to 20 kB in 100 folders: as many between 20 and 200 B as between 2 and 20 kB."""
    generator = random.Random(SEED)
    sizes = [round(math.exp(generator.uniform(math.log(20), math.log(20_000)))) for _ in range(count)]
    return once(work / f"mixed-{count}", lambda part: spread_over_folders(part, sizes))


def ten_files(work: Path) -> Path:
    def make(part: Path) -> None:
        generator = random.Random(SEED)
        part.mkdir()
        for i in range(10):
            (part / f"{i}.bin").write_bytes(generator.randbytes(1000 * (i + 1)))

    return once(work / "ten", make)


def tensors_of(size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a small language model in BF16, with as many layers as `size` bytes hold."""
    # Below 256 MiB the words alone would be more than that.
    hidden, wide, words = (1024, 2816, 32000) if size >= 256 * MIB else (256, 704, 2000)
    yield "model.embed_tokens.weight", (words, hidden)
    left, layer = size - 2 * words * hidden * 2, 0
    while left > 0:
        at = f"model.layers.{layer}."
        for name, shape in [
            ("input_layernorm.weight", (hidden,)),
            ("mlp.down_proj.weight", (hidden, wide)),
            ("mlp.gate_proj.weight", (wide, hidden)),
            ("mlp.up_proj.weight", (wide, hidden)),
            ("post_attention_layernorm.weight", (hidden,)),
            ("self_attn.k_proj.weight", (hidden // 4, hidden)),
            ("self_attn.o_proj.weight", (hidden, hidden)),
            ("self_attn.q_proj.weight", (hidden, hidden)),
            ("self_attn.v_proj.weight", (hidden // 4, hidden)),
        ]:
            yield at + name, shape
            left -= 2 * math.prod(shape)
        layer += 1
    yield "lm_head.weight", (words, hidden)


def model(work: Path, size: int) -> Path:
    """A folder with `model.safetensors`: random BF16 numbers of about this size."""

    def make(part: Path) -> None:
        header: dict[str, object] = {}
        at = 0
        for name, shape in tensors_of(size):
            end = at + 2 * math.prod(shape)
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, end]}
            at = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        part.mkdir()
        with (part / "model.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            fill(file, at)

    return once(work / f"model-{size}", make)


def bytes_in(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
