"""A small GGUF file made by the ecosystem's own `gguf` package, and what that
package says of it: what Plume's reader is held against.

usage: python tests/golden/make_gguf.py [OUT]     (OUT: tests/golden/gguf)

small.gguf has a value of every kind in its metadata and a tensor of every type
that Plume reads. values.safetensors holds the numbers of each tensor in f32,
taken out of their blocks by the package.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

Q = gguf.GGMLQuantizationType


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "gguf"
    out.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(out / "small.gguf", "kinds")
    writer.add_uint8("kinds.u8", 200)
    writer.add_int8("kinds.i8", -100)
    writer.add_uint16("kinds.u16", 60_000)
    writer.add_int16("kinds.i16", -30_000)
    writer.add_uint32("kinds.u32", 4_000_000_000)
    writer.add_int32("kinds.i32", -2_000_000_000)
    writer.add_uint64("kinds.u64", 10**19)
    writer.add_int64("kinds.i64", -(10**18))
    writer.add_float32("kinds.f32", 1e-5)
    writer.add_float64("kinds.f64", 0.48145466)
    writer.add_bool("kinds.yes", True)
    writer.add_string("kinds.text", "träumerei")
    writer.add_array("kinds.numbers", [3, 4, 6, 3])
    writer.add_array("kinds.floats", [0.5, 0.25])
    writer.add_array("kinds.texts", ["a", "", "cat"])

    random = np.random.default_rng(1)
    numbers = {}
    kinds = {"f32": Q.F32, "f16": Q.F16, "bf16": Q.BF16, "q8_0": Q.Q8_0, "q4_0": Q.Q4_0}
    for name, kind in kinds.items():
        weights = random.standard_normal((3, 64)).astype(np.float32)
        stored = gguf.quantize(weights, kind)
        numbers[name] = gguf.dequantize(stored, kind).astype(np.float32).reshape(3, 64)
        # The package wants f16 as numbers of numpy's, the others as bytes.
        if kind == Q.F16:
            writer.add_tensor(name, weights.astype(np.float16))
        else:
            writer.add_tensor(name, stored, raw_dtype=kind)
    odd = random.standard_normal((2, 3, 5)).astype(np.float32)
    writer.add_tensor("odd", odd)
    numbers["odd"] = odd
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(numbers, out / "values.safetensors")


if __name__ == "__main__":
    main()
