"""Checkpoints as OpenAI publishes them, small and of random weights, and what
open_clip computes after reading them itself: TorchScript archives without any
configuration, convolutions and linear maps in f16, the rest in f32, and beside
the weights the numbers input_resolution, context_length and vocab_size.

usage: python tests/golden/make_openai.py [OUT]     (OUT: tests/golden/openai)

  vit/model.pt, rn/model.pt   the archives: a ViT and a ResNet
  */io.safetensors            pixels, input_ids, image_embeds, text_embeds (of length one)
  vit/picture.png             a picture
  vit/published.json          what a publisher would say of it: the probabilities
                              of three texts, by open_clip's preparation of the
                              picture and the tokenizer in www/demo/clip
"""

import json
import sys
import warnings
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP, convert_weights_to_fp16
from open_clip.openai import load_openai_model
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tokenizers import Tokenizer

from make_clip import MEAN, STD, randomize
from make_towers import random_norms

HERE = Path(__file__).parent
TOKENIZER = HERE.parent.parent / "www" / "demo" / "clip" / "tokenizer.json"
TEXTS = ["a diagram", "a dog", "a cat"]
# As OpenAI's code has them: heads of 64, and 32 pixels to a cell of a ResNet.
VIT = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2},
    "text_cfg": {"context_length": 12, "vocab_size": 846, "width": 64, "heads": 1, "layers": 1},
}
RN = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 4},
    "text_cfg": {"context_length": 8, "vocab_size": 48, "width": 64, "heads": 1, "layers": 1},
}

torch.set_grad_enabled(False)
torch.set_num_threads(1)


def archive(config, folder, seed):
    """Writes the archive; the model as open_clip reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = CLIP(**config, quick_gelu=True).eval()
    randomize(model, seed, 3.0)
    random_norms(model, seed)
    convert_weights_to_fp16(model)
    numbers = {"input_resolution": config["vision_cfg"]["image_size"],
               "context_length": config["text_cfg"]["context_length"],
               "vocab_size": config["text_cfg"]["vocab_size"]}
    for name, number in numbers.items():
        model.__dict__.pop(name, None)  # open_clip's own, which is no tensor
        model.register_buffer(name, torch.tensor(number))
    # Theirs is no buffer either.
    model.attn_mask = model._buffers.pop("attn_mask")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), folder / "model.pt")
        return load_openai_model(str(folder / "model.pt"), precision="fp32", device="cpu")


def io(model, folder, seed, row):
    """What the model gives for pictures and for a text of these ids."""
    side = model.visual.image_size
    side = side[0] if isinstance(side, tuple) else side
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))
    ids = torch.zeros(1, model.context_length, dtype=torch.int64)
    ids[0, : len(row)] = torch.tensor(row)
    image, text = model.encode_image(pixels, normalize=True), model.encode_text(ids, normalize=True)
    save_file({"pixels": pixels, "input_ids": ids[:, : len(row)].to(torch.int32).contiguous(),
               "image_embeds": image, "text_embeds": text}, folder / "io.safetensors")
    print(f"{folder.name}: image std {image.std():.3f}, text std {text.std():.3f}")


def published(model, folder):
    picture = Image.new("RGB", (60, 40), (250, 245, 235))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((6, 8, 30, 32), fill=(200, 40, 50))
    draw.ellipse((28, 4, 56, 34), fill=(30, 90, 190))
    picture.save(folder / "picture.png")
    prepare = open_clip.image_transform(32, is_train=False, mean=tuple(MEAN), std=tuple(STD))
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    ids = torch.zeros(len(TEXTS), model.context_length, dtype=torch.int64)
    for row, text in zip(ids, TEXTS):
        encoded = tokenizer.encode(text).ids
        row[: len(encoded)] = torch.tensor(encoded)
    image, text, scale = model(prepare(picture)[None], ids)
    probabilities = (scale * image @ text.T).softmax(-1)[0].tolist()
    record = {"model": "a stand-in for OpenAI's ViT-B/32", "picture": "picture.png beside it",
              "file": "picture.png", "texts": TEXTS, "probabilities": probabilities}
    (folder / "published.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{folder.name}: {probabilities}")


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "openai"
    vit = archive(VIT, out / "vit", 11)
    io(vit, out / "vit", 12, [844, 5, 320, 71, 845])
    published(vit, out / "vit")
    io(archive(RN, out / "rn", 13), out / "rn", 14, [46, 5, 2, 30, 47])


if __name__ == "__main__":
    main()
