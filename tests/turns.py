"""open_clip with torch on the CPU, one turn whenever it is asked: what Plume is
measured beside, turn by turn, so that whatever else the machine does slows both.

usage: python tests/turns.py MODEL THREADS     (MODEL: as in tests/golden/full_size.py)

Reads lines, `picture` or `text`, and answers each with the milliseconds that one
took. open_clip pads a text to its context and computes all of it.
"""

import logging
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
sys.path.insert(0, str(Path(__file__).parent / "golden"))

import open_clip
import torch
from full_size import OPEN_CLIP

torch.set_num_threads(int(sys.argv[2]))
model = open_clip.CLIP(**open_clip.get_model_config(OPEN_CLIP[sys.argv[1]])).eval()
side = model.visual.image_size
side = side[0] if isinstance(side, tuple) else side
pixels = torch.full((1, 3, side, side), 0.1)
ids = torch.zeros(1, model.context_length, dtype=torch.long)
ids[:, :8] = torch.arange(1, 9)
runs = {"picture": lambda: model.encode_image(pixels), "text": lambda: model.encode_text(ids)}

with torch.inference_mode():
    for run in runs.values():
        run()
    print("ready", flush=True)
    for line in sys.stdin:
        run = runs[line.strip()]
        start = time.perf_counter()
        run()
        print(1e3 * (time.perf_counter() - start), flush=True)
