"""Digests by Python's blake3 of what memory.c and cuda.c take digests of."""

import sys

import blake3

data = open(sys.argv[2], "rb").read()
rows = b"".join(data[5 + row * 1001 :][:700] for row in range(3000))
if sys.argv[1] == "memory":
    parts = [data[3 : 3 + cut] for cut in (0, 1, 63, 1024, 1025, 70000, 3000001)]
    strings = [*parts, b"".join(parts), b"", rows, data]
else:
    strings = [data, data[7:100_007], rows, b"on the host, then " + data[9:5000] + b", then again", data]
for string in strings:
    print(blake3.blake3(string).hexdigest())
