"""Why another program is faster than ours in a row, in words for the page. A text is shown only when it is faster; where one is
needed and is not here, the page says so and a test fails.

Rows are named as in `Row.name`, the others as in `Case.name`.
"""

SAME_BLAKE3 = (
    "Both hash by the same code, that of the crate `blake3`, which is nearly all that there is to do for so large a file. Around it, ours "
    "takes a lease on the file, maps it window by window and looks whether it has changed, so that memory stays bounded and a file that is written to "
    "is no answer; `b3sum` maps the file whole."
)
SAME_SHA256 = (
    "One stream of SHA-256 has no parts that could be hashed at the same time: both wait for the same instructions of one processor, so that there is "
    "nothing to win but what lies between disk and hash."
)
SMALL_PARTS = (
    "The list of names was made and cut into parts beforehand, outside of the time, and each `b3sum` runs alone on one processor. Ours walks the "
    "folders first, sorts what it finds, and checks each file before and after reading it."
)
GIVEN_NAMES = (
    "It is given the names of all files, and reads each of them once. Ours finds them first, and looks before and after reading a file whether it is "
    "still the same: that takes processor time for each, which so small a file does not outweigh."
)
PYTHON_CALL = (
    "Of a library of Python only the call is timed, and of ours the whole process, with its start and end. The code that hashes is the same, "
    "that of the crate `blake3`."
)
START = "Both do next to nothing but start. Ours is the larger program, walks the folder, and sorts what it finds."
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
_COLD_OTHER = (
    "Both wait for the same disk, and the times of all programs that load from it differ from round to round by as much as they do from each other: see "
    "the least and the most of each in the table below. Why, was not found out."
)
_PASSES = ("safetensors-blake3", "model-signing-blake3", "torch-mmap-blake3", "torch-blake3")

WHY: dict[str, dict[str, str]] = {
    "digest-4g-blake3-all": {"digest-4g/b3sum": SAME_BLAKE3},
    "digest-4g-blake3-1": {"digest-4g/b3sum-1": SAME_BLAKE3},
    "digest-2g-blake3": {"digest-2g/b3sum": SAME_BLAKE3, "digest-2g/model_signing-blake3": PYTHON_CALL},
    "digest-2g-sha256": {"digest-2g/openssl": SAME_SHA256, "digest-2g/sha256sum": SAME_SHA256, "digest-2g/model_signing-sha256": SAME_SHA256},
    "digest-10k-blake3": {"digest-10k/b3sum": GIVEN_NAMES, "digest-10k/b3sum-xargs": SMALL_PARTS},
    "digest-10k-sha256": {"digest-10k/openssl": GIVEN_NAMES, "digest-10k/sha256sum": GIVEN_NAMES},
    "mixed-50k-digest-blake3": {"mixed-50k/b3sum": GIVEN_NAMES, "mixed-50k/b3sum-xargs": SMALL_PARTS},
    "ten-digest-blake3": {"ten/b3sum": START},
    "load-warm": {f"load-warm/{name}": _WARM for name in _PASSES},
    "load-cold": {
        **{f"load-cold/{name}": _COLD for name in _PASSES},
        **{f"load-cold/{name}": _COLD_OTHER for name in ("xet", "tensorizer-verify", "fastsafetensors-blake3", "runai-blake3", "model-signing-sha256")},
    },
}
