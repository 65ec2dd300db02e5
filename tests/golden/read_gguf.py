"""Prints what the ecosystem's own `gguf` package finds in a file, as JSON: the
metadata (long texts by their length), and of each tensor its type, shape,
and the sum and sum of squares of its numbers.

usage: python tests/golden/read_gguf.py FILE
"""

import json
import sys

import gguf
import numpy as np


def value(field):
    found = field.contents()
    return len(found) if isinstance(found, str) and len(found) > 100 else found


def main():
    reader = gguf.GGUFReader(sys.argv[1])
    tensors = {}
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
        tensors[tensor.name] = {
            "type": tensor.tensor_type.name,
            # Innermost first, as in the file.
            "shape": [int(n) for n in tensor.shape],
            "sum": float(numbers.sum()),
            "squares": float((numbers**2).sum()),
        }
    metadata = {key: value(field) for key, field in reader.fields.items()}
    print(json.dumps({"metadata": metadata, "tensors": tensors}))


if __name__ == "__main__":
    main()
