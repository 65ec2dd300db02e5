"""One model of a published size with random weights, and what open_clip (or, for
SigLIP's own layout, transformers; for NFNets timm) computes with it: for `tests/tests/nightly.rs`,
which runs this and compares. The files are large and not kept.

usage: python tests/golden/full_size.py NAME OUT      (NAME: as in `MODELS`)
"""

import json
import sys
from pathlib import Path

import open_clip
import timm
import torch
from safetensors.torch import save_file
from transformers import SiglipConfig, SiglipModel

from make_clip import randomize
from make_names import SIGLIP, TINYCLIP, tinyclip

torch.set_grad_enabled(False)

OPENAI = {"RN50": "RN50", "RN101": "RN101", "RN50x4": "RN50x4", "RN50x16": "RN50x16",
          "RN50x64": "RN50x64", "ViT-B/32": "ViT-B-32", "ViT-B/16": "ViT-B-16",
          "ViT-L/14": "ViT-L-14", "ViT-L/14@336px": "ViT-L-14-336"}
OPEN_CLIP = {name: f"{config}-quickgelu" for name, config in OPENAI.items()} | {
    name: name for name in ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14")}
# The pictures that they are measured on (Brock et al. 2021, Table 1).
NFNET = {f"dm_nfnet_f{i}": side for i, side in enumerate((256, 320, 352, 416, 512, 544, 576))}
MODELS = [*OPEN_CLIP, *TINYCLIP, *SIGLIP, *NFNET]


def pictures(count, side, generator):
    """Noise of all sizes from the whole picture to a pixel, as photographs have it:
    white noise alone looks the same everywhere to a deep network, whose batch norms
    then magnify what little differs, rounding included."""
    scales = [2**i for i in range(side.bit_length()) if 2**i < side] + [side]
    parts = [torch.nn.functional.interpolate(
        torch.randn(count, 3, scale, scale, generator=generator), side, mode="bilinear")
        for scale in scales]
    return sum(parts) / len(parts) ** 0.5


def settle(model, seed):
    """Batch norms as training leaves them: with the statistics of what reaches
    them, so that 60 layers neither blow up nor fade, and blocks that add a part of
    what they pass on (those of a ResNet start at nothing): where each adds as much
    again, rounding grows from layer to layer until it is all there is."""
    randomize(model, seed, 2.6593)
    for name, norm in model.named_modules():
        if name.endswith(".bn3") and "layer" in name:
            norm.weight.mul_(0.25)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None  # the mean of what is seen
        norm.reset_running_stats()
    if norms:
        side = model.visual.image_size
        side = side[0] if isinstance(side, tuple) else side
        generator = torch.Generator().manual_seed(seed + 2)
        model.encode_image(pictures(4, side, generator))
        model.eval()


def siglip(name, generator):
    """Model, configuration, texts and place of their end."""
    vision, text = SIGLIP[name]
    config = {"vision_config": vision, "text_config": text}
    model = SiglipModel(SiglipConfig(**config)).eval()
    randomize(model, 1, 2.0)
    ids = torch.ones(1, 64, dtype=torch.int64)
    ids[0, :9] = torch.randint(3, 32000, (9,), generator=generator)
    return model, {"model_type": "siglip"} | config, ids, 9


def clip(name, generator):
    config = tinyclip(name) if name in TINYCLIP else open_clip.get_model_config(OPEN_CLIP[name])
    model = open_clip.CLIP(**config).eval()
    settle(model, 1)
    ids = torch.zeros(1, 77, dtype=torch.int64)
    ids[0, 0], ids[0, 10] = 49406, 49407
    ids[0, 1:10] = torch.randint(1, 49000, (9,), generator=generator)
    return model, {"model_cfg": config}, ids, 10


def nfnet(name, out, generator):
    """An image tower alone, whose classes stand for the shared space."""
    model = timm.create_model(name).eval()
    randomize(model, 1, 0.0)
    for key, parameter in sorted(model.named_parameters()):
        if key.endswith("gain"):
            parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    f = int(name[-1]) + 1
    config = {"image_size": NFNET[name], "stem_width": 128,
              "depths": [f, 2 * f, 6 * f, 3 * f], "widths": [256, 512, 1536, 1536],
              "group_width": 128, "final_width": 3072, "activation": "gelu", "alpha": 0.2}
    pixels = pictures(1, NFNET[name], generator)
    image = model(pixels)
    save_file({key: t.contiguous() for key, t in model.state_dict().items()},
              out / "model.safetensors")
    config = {"model_type": "plume_clip", "embed_dim": image.shape[1], "vision": config}
    (out / "config.json").write_text(json.dumps(config))
    save_file({"pixels": pixels, "image_embeds": image}, out / "io.safetensors")
    print(f"{name}: image std {image.std():.3f}")


def main():
    name, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(2)
    if name in NFNET:
        return nfnet(name, out, generator)
    if name in SIGLIP:
        model, config, ids, eot = siglip(name, generator)
        side, files = model.config.vision_config.image_size, ("model.safetensors", "config.json")
        encode = model.get_image_features, model.get_text_features
    else:
        model, config, ids, eot = clip(name, generator)
        side = config["model_cfg"]["vision_cfg"]["image_size"]
        files = "open_clip_model.safetensors", "open_clip_config.json"
        encode = model.encode_image, model.encode_text
    pixels = pictures(1, side, generator)
    image, text = encode[0](pixels), encode[1](ids)
    save_file({key: t.contiguous() for key, t in model.state_dict().items()}, out / files[0])
    (out / files[1]).write_text(json.dumps(config))
    save_file({"pixels": pixels, "input_ids": ids[:, :eot + 1].to(torch.int32).contiguous(),
               "image_embeds": image, "text_embeds": text}, out / "io.safetensors")
    print(f"{name}: image std {image.std():.3f}, text std {text.std():.3f}")


if __name__ == "__main__":
    main()
