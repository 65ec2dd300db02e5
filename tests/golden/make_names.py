"""The tensors of every published size in every layout, as the libraries name
and shape them, beside the configuration as it is published. No weights: models
are built on the meta device.

usage: python tests/golden/make_names.py [OUT]     (OUT: tests/golden/names.json)

{"LAYOUT NAME": {"config": {…},
                 "tensors": {"a.*.b": {"[2, 3]": how many}, …}}}
where * stands for the numbers of a path.
"""

import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import open_clip
import timm
import torch
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

OPEN_CLIP = ["RN50-quickgelu", "RN101-quickgelu", "RN50x4-quickgelu", "RN50x16-quickgelu",
             "RN50x64-quickgelu", "ViT-B-32-quickgelu", "ViT-B-16-quickgelu",
             "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu", "ViT-B-32", "ViT-B-16", "ViT-L-14",
             "ViT-H-14", "ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP-384"]

# model_configs of microsoft/Cream, TinyCLIP.
TINYCLIP = {
    "TinyCLIP-ResNet-19M-Text-19M": (dict(layers=[3, 4, 6, 3], width=44), 1024, (512, 8, 6)),
    "TinyCLIP-ResNet-30M-Text-29M": (dict(layers=[3, 4, 6, 3], width=56), 1024, (512, 8, 9)),
    "TinyCLIP-ViT-8M-16-Text-3M": (dict(layers=10, width=256, patch_size=16), 512, (256, 4, 3)),
    "TinyCLIP-ViT-39M-16-Text-19M": (dict(layers=12, width=512, patch_size=16), 512, (512, 8, 6)),
    "TinyCLIP-ViT-61M-32-Text-29M": (dict(layers=12, width=640, patch_size=32), 512, (512, 8, 9)),
}


def tinyclip(name):
    vision, embed, (width, heads, layers) = TINYCLIP[name]
    return dict(
        embed_dim=embed, vision_cfg=dict(image_size=224, patch_size=None) | vision,
        text_cfg=dict(context_length=77, vocab_size=49408, width=width, heads=heads,
                      layers=layers))


QUICK = {"hidden_act": "quick_gelu"}
GELU = {"hidden_act": "gelu"}


def blocks(width, layers, heads, **more):
    return dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                num_attention_heads=heads, **more)


B, L = blocks(768, 12, 12), blocks(1024, 24, 16)
TEXT_B, TEXT_L = blocks(512, 12, 8), blocks(768, 12, 12)
TRANSFORMERS = {
    "ViT-B/32": (512, B | QUICK | {"patch_size": 32}, TEXT_B | QUICK),
    "ViT-B/16": (512, B | QUICK | {"patch_size": 16}, TEXT_B | QUICK),
    "ViT-L/14": (768, L | QUICK | {"patch_size": 14}, TEXT_L | QUICK),
    "ViT-L/14@336px": (768, L | QUICK | {"patch_size": 14, "image_size": 336}, TEXT_L | QUICK),
    "ViT-H-14": (1024, blocks(1280, 32, 16, patch_size=14) | GELU, blocks(1024, 24, 16) | GELU),
    "TinyCLIP-ViT-8M-16-Text-3M": (
        512, blocks(256, 10, 4, patch_size=16) | GELU, blocks(256, 3, 4) | GELU),
}

SO400M = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27,
              num_attention_heads=16)
SIGLIP = {
    "ViT-B-16-SigLIP": ({}, {}),
    "ViT-SO400M-14-SigLIP-384": (SO400M | {"patch_size": 14, "image_size": 384}, SO400M),
}

TIMM = {
    "resnet50_clip": 1024, "resnet101_clip": 512, "resnet50x4_clip": 640,
    "resnet50x16_clip": 768, "resnet50x64_clip": 1024,
    "vit_base_patch32_clip_quickgelu_224": 512, "vit_base_patch16_clip_quickgelu_224": 512,
    "vit_large_patch14_clip_quickgelu_224": 768, "vit_large_patch14_clip_quickgelu_336": 768,
    "vit_huge_patch14_clip_224": 1024, "vit_base_patch16_siglip_224": 0,
    "dm_nfnet_f0": 1000, "dm_nfnet_f6": 1000,
}


def collapse(state):
    patterns = defaultdict(Counter)
    for name, tensor in state.items():
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
        patterns[pattern][str(list(tensor.shape))] += 1
    return {pattern: dict(shapes) for pattern, shapes in sorted(patterns.items())}


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "names.json"
    models = {}

    def add(name, config, state):
        models[name] = {"config": config, "tensors": collapse(state)}

    with torch.device("meta"):
        for name in OPEN_CLIP:
            config = open_clip.get_model_config(name)
            cls = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
            text = {k: v for k, v in config["text_cfg"].items()
                    if not k.startswith("hf_tokenizer") and k != "tokenizer_kwargs"}
            model = cls(**config | {"text_cfg": text})
            if cls is open_clip.CustomTextCLIP:
                config["custom_text"] = True
            add(f"open_clip {name}", {"model_cfg": config}, model.state_dict())
        for name in TINYCLIP:
            config = tinyclip(name)
            add(f"open_clip {name}", {"model_cfg": config},
                open_clip.CLIP(**config).state_dict())
        for name, (embed, vision, text) in TRANSFORMERS.items():
            config = dict(projection_dim=embed, vision_config=vision, text_config=text)
            add(f"transformers {name}", {"model_type": "clip"} | config,
                CLIPModel(CLIPConfig(**config)).state_dict())
        for name, (vision, text) in SIGLIP.items():
            config = dict(vision_config=vision, text_config=text)
            add(f"transformers {name}", {"model_type": "siglip"} | config,
                SiglipModel(SiglipConfig(**config)).state_dict())
        for name, embed in TIMM.items():
            model = timm.create_model(name, num_classes=embed)
            state = model.state_dict()
            if not embed:  # SigLIP's tower ends in its pooling
                state = {k: v for k, v in state.items() if not k.startswith("head.")}
            add(f"timm {name}", {"architecture": name, "num_classes": embed,
                                 "pretrained_cfg": {"input_size": model.pretrained_cfg["input_size"]}},
                state)

    lines = []
    for name, model in models.items():
        rows = ",\n".join(f"   {json.dumps(pattern)}: {json.dumps(shapes)}"
                          for pattern, shapes in model["tensors"].items())
        lines.append(f' {json.dumps(name)}: {{"config": {json.dumps(model["config"])},\n'
                     f'  "tensors": {{\n{rows}}}}}')
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
