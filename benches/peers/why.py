"""Why another program is faster than ours in a row, in words for the page. A text is shown only when it is faster; where one is
needed and is not here, the page says so and a test fails.

Rows are named as in `Row.name`, the others as in `Case.name`.
"""

# What a copy from the page cache, and a pass before it, have in common with ours.
_WARM = (
    "Both copy the model out of the page cache once, into memory that is touched for the first time; on a virtual machine that may be a fault of the "
    "host, and from run to run it differs by more than the two do. The pass reads mapped pages and copies nothing. It is over before the copy "
    "begins: what was copied, nobody has hashed."
)
_COLD = (
    "Both wait for the same disk. The pass brings the file into the page cache, and the load copies from there; ours reads into the memory that it "
    "hands out. Which is ahead depends on how the disk takes the one and the other. What the load copied, nobody has hashed."
)
_PASSES = ("safetensors-blake3", "model-signing-blake3", "torch-mmap-blake3", "torch-blake3")

WHY: dict[str, dict[str, str]] = {
    "load-warm": {f"load-warm/{name}": _WARM for name in _PASSES},
    "load-cold": {f"load-cold/{name}": _COLD for name in _PASSES},
}
