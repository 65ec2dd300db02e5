"""A picture with transparent parts as IDEFICS prepares it.

usage: python tests/golden/make_on_white.py [OUT]     (OUT: tests/golden/flamingo/on-white.safetensors)

rgba [20, 28, 4] i32, every transparency among them, and what transformers'
IdeficsImageProcessor makes of it for 16 pixels a side: pixels [1, 3, 16, 16].
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import IdeficsImageProcessor


def main():
    default = Path(__file__).parent / "flamingo/on-white.safetensors"
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    rgba = np.random.default_rng(1).integers(0, 256, (20, 28, 4), dtype=np.uint8)
    rgba[:, :, 3] = np.resize(np.arange(256), (20, 28))
    picture = Image.fromarray(rgba, "RGBA")
    pixels = IdeficsImageProcessor(image_size=16)(picture, return_tensors="pt")
    pixels = torch.as_tensor(pixels).reshape(1, 3, 16, 16)
    save_file({"rgba": torch.from_numpy(rgba.astype(np.int32)), "pixels": pixels.contiguous()}, out)


if __name__ == "__main__":
    main()
