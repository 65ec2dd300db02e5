"""Times open_clip with torch on the CPU, on the ViT-B/32 of random weights that
`plume bench` takes: what a person with Python has.

usage: python tests/peer.py THREADS

Prints what `plume bench --json` prints (see `plume bench --help`). Needs
open_clip_torch; `cargo xtask bench` leaves this out where it is missing.
"""

import json
import logging
import statistics
import sys
import time
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import open_clip
import torch

BATCHES, BUDGET, TEXT = (1, 4, 16), 1.5, 8

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(1)
model = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).eval()


def row(batch, run):
    run()
    begun, turns = time.perf_counter(), []
    while len(turns) < 3 or time.perf_counter() - begun < BUDGET:
        start = time.perf_counter()
        run()
        turns.append(1e3 * (time.perf_counter() - start))
    return {
        "batch": batch,
        "least": min(turns),
        "median": statistics.median(turns),
        "most": max(turns),
    }


with torch.inference_mode():
    images, texts = [], []
    for batch in BATCHES:
        pixels = torch.full((batch, 3, 224, 224), 0.1)
        images.append(row(batch, lambda: model.encode_image(pixels)))
        # open_clip pads every text to its context and computes all of it.
        ids = torch.zeros(batch, model.context_length, dtype=torch.long)
        ids[:, :TEXT] = torch.arange(1, TEXT + 1)
        texts.append(row(batch, lambda: model.encode_text(ids)))
    x, weight = torch.full((512, 768), 0.5), torch.full((3072, 768), 0.5)
    roof = row(1, lambda: torch.nn.functional.linear(x, weight))

print(
    json.dumps(
        {
            "model": "ViT-B/32",
            "device": f"CPU · open_clip {open_clip.__version__}, torch {torch.__version__}",
            # Of open_clip's docs/model_profile.csv.
            "image_flops": 8.82e9,
            "text_flops": 5.96e9,
            "images": images,
            "texts": texts,
            "roof": 2 * 512 * 768 * 3072 / roof["least"] / 1e6,
        }
    )
)
