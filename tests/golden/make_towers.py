"""Small models of the other families, and what their references compute: CLIP's
ResNets (open_clip, also under timm's names), SigLIP (transformers, and open_clip
with timm's image tower), single towers (transformers, timm), an NFNet (timm).

usage: python tests/golden/make_towers.py [OUT]     (OUT: tests/golden/clip)

Folders are as `make_clip.py` writes them; in io.safetensors
  pixels                        f16, whose numbers the reference computed with
  vision.states.0 … 4           ResNet, NFNet: [n, channels, h, w] after the stem and each
                                layer
  vision.states, text.states    vision transformer and text tower, as there
  logit_bias                    SigLIP: [1]
and what belongs to a tower that is not there is left out. Where a publisher's
configuration cannot say such small sizes, config.json is in Plume's own form.
"""

import json
import sys
from pathlib import Path

import timm
import torch
from open_clip.model import CLIP as OpenClip
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file
from timm.models.byobnet import _convert_openai_clip
from timm.models.nfnet import NfCfg, NormFreeNet
from torch import nn
from torch.nn import functional as F
from transformers import (CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig,
                          CLIPVisionModelWithProjection, SiglipConfig, SiglipModel)

from make_clip import M, MEAN, N, STD, randomize, record, texts, tower, write

SOT, EOT, VOCAB = 46, 47, 48
ROWS = [[SOT, 5, 2, 30, EOT], [SOT, 7, 1, 44, 0, 19, 33, 8, 21, 12, 3, EOT], [SOT, EOT]]
# SigLIP's texts have no start; their end is also what they are filled up with.
END = 1
SIGLIP_ROWS = [[5, 2, 30, END], [7, 20, 44, 3, 19, 33, 8, 21, 12, 3, 40, END], [END]]


def random_norms(model, seed):
    """Running statistics far from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in sorted(model.named_buffers()):
        if name.endswith("running_mean"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


def pictures(seed, side):
    pixels = torch.randn(N, 3, side, side, generator=torch.Generator().manual_seed(seed + 1))
    return pixels.half()


def save_io(folder, tensors):
    image, text = tensors.get("image_embeds"), tensors.get("text_embeds")
    for name, embeds in (("image_embeds", image), ("text_embeds", text)):
        if embeds is not None:
            tensors[f"{name}_normalized"] = F.normalize(embeds, dim=-1)
            print(f"{folder.name:11} {name:12} std {embeds.std():.3f}")
    if image is not None and text is not None:
        cosine = tensors["image_embeds_normalized"] @ tensors["text_embeds_normalized"].T
        bias = tensors.get("logit_bias", torch.zeros(1))
        tensors["logits_per_image"] = tensors["logit_scale"].exp() * cosine + bias
    save_file({name: t.clone().contiguous() for name, t in tensors.items()},
              folder / "io.safetensors")


def text_io(ids, eot, states, words):
    return {"input_ids": ids.to(torch.int32), "eot": torch.as_tensor(eot, dtype=torch.int32),
            "text.states": torch.stack(states), "text_embeds": words}


def vision_io(pixels, states, image):
    return {"pixels": pixels, "vision.states": torch.stack(states), "image_embeds": image}


def resnet(out, name, seed, *, vision, embed, half=False, renamed=False):
    """As published: `half` stores what OpenAI's archives store in f16; `renamed`
    writes the image tower once more, under timm's names."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    text = dict(context_length=12, vocab_size=VOCAB, width=16, heads=2, layers=1)
    model = OpenClip(embed, vision, text, quick_gelu=True).eval()
    randomize(model, seed, 2.6593)
    random_norms(model, seed)
    lower = [id(p) for m in model.modules()
             if isinstance(m, (nn.Conv2d, nn.Linear)) for p in m.parameters()] if half else []
    for parameter in model.parameters():
        if id(parameter) in lower:
            parameter.copy_(parameter.half().float())
    names = {name for name, p in model.named_parameters() if id(p) in lower}
    state = {name: (t.half() if name in names else t).contiguous()
             for name, t in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    write(folder, "open_clip_config.json", {
        "model_cfg": {"embed_dim": embed, "quick_gelu": True,
                      "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": MEAN, "std": STD},
    })
    stages = []
    visual = model.visual
    for module in (visual.avgpool, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        module.register_forward_hook(lambda _, __, result: stages.append(result))
    pixels, ids = pictures(seed, vision["image_size"]), texts(ROWS, 12, 0)
    states = record(model.transformer.resblocks)
    image, words = model.encode_image(pixels.float()), model.encode_text(ids)
    assert len(stages) == 5
    save_io(folder, {"pixels": pixels, "image_embeds": image,
                     **{f"vision.states.{i}": stage for i, stage in enumerate(stages)},
                     **text_io(ids, ids.argmax(-1), states, words),
                     "logit_scale": model.logit_scale.data})

    if not renamed:
        return
    folder = out / f"{name}-timm"
    folder.mkdir(parents=True, exist_ok=True)
    head = type("Model", (), {"head": timm.layers.AttentionPool2d(64, feat_size=2)})()
    state = _convert_openai_clip(state, head)
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "model.safetensors")
    write(folder, "config.json", {
        "model_type": "plume_clip", "embed_dim": embed,
        "vision": {"image_size": vision["image_size"], "width": vision["width"],
                   "layers": vision["layers"],
                   "heads": 32 * vision["width"] // vision["head_width"]},
    })
    save_io(folder, {"pixels": pixels, "image_embeds": image,
                     **{f"vision.states.{i}": stage for i, stage in enumerate(stages)}})


def vit_timm(out, seed):
    folder = out / "vit-timm"
    folder.mkdir(parents=True, exist_ok=True)
    model = timm.create_model("vit_base_patch32_clip_quickgelu_224", embed_dim=24, depth=2,
                              num_heads=3, img_size=24, patch_size=6, mlp_ratio=2.0,
                              num_classes=16).eval()
    randomize(model, seed, 0.0)
    for name in ("cls_token", "pos_embed"):
        getattr(model, name).normal_(0, 0.5, generator=torch.Generator().manual_seed(seed))
    model.head.bias.zero_()
    save_file({name: t.contiguous() for name, t in model.state_dict().items()},
              folder / "model.safetensors")
    blocks = {"width": 24, "layers": 2, "heads": 3, "mlp_width": 48, "activation": "quick_gelu",
              "layer_norm_eps": 1e-5}
    write(folder, "config.json", {
        "model_type": "plume_clip", "embed_dim": 16,
        "vision": {"image_size": 24, "stem": {"kind": "patch", "size": 6},
                   "transformer": blocks},
    })
    pixels = pictures(seed, 24)
    states = record(model.blocks)
    image = model(pixels.float())
    save_io(folder, vision_io(pixels, states, image))


def siglip_io(pixels, ids, states, image, words, scale, bias):
    ends = (ids == END).int().argmax(-1)
    return {**vision_io(pixels, states[0], image), **text_io(ids, ends, states[1], words),
            "logit_scale": scale, "logit_bias": bias}


def siglip(out, seed):
    folder = out / "siglip"
    folder.mkdir(parents=True, exist_ok=True)
    act, eps = "gelu_pytorch_tanh", {"layer_norm_eps": 1e-6}
    vision = tower(24, 3, 48, act, image_size=24, patch_size=6) | eps
    words = tower(24, 2, 40, act, vocab_size=VOCAB, max_position_embeddings=12,
                  pad_token_id=END, bos_token_id=2, eos_token_id=END) | eps
    config = SiglipConfig(vision_config=vision, text_config=words)
    config._attn_implementation = "eager"
    model = SiglipModel(config).eval()
    randomize(model, seed, 3.0)
    model.logit_bias.fill_(-2.5)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    write(folder, "config.json", {
        "architectures": ["SiglipModel"], "model_type": "siglip",
        "vision_config": {"model_type": "siglip_vision_model", **vision},
        "text_config": {"model_type": "siglip_text_model", **words},
    })
    write(folder, "preprocessor_config.json", {
        "image_processor_type": "SiglipImageProcessor", "do_resize": True,
        "size": {"height": 24, "width": 24}, "resample": 3, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    })
    pixels, ids = pictures(seed, 24), texts(SIGLIP_ROWS, 12, END)
    states = record(model.vision_model.encoder.layers), record(model.text_model.encoder.layers)
    result = model(input_ids=ids, pixel_values=pixels.float())
    image, text = model.get_image_features(pixels.float()), model.get_text_features(ids)
    io = siglip_io(pixels, ids, states, image, text, model.logit_scale.data, model.logit_bias.data)
    save_io(folder, io)
    assert torch.allclose(result.logits_per_image, io["logits_per_image"], atol=1e-4)


def siglip_open_clip(out, seed):
    """`CustomTextCLIP` of open_clip with a small tower of timm's."""
    folder = out / "siglip-oc"
    folder.mkdir(parents=True, exist_ok=True)
    trunk = timm.create_model("vit_base_patch16_siglip_224", embed_dim=24, depth=2, num_heads=3,
                              img_size=24, patch_size=6, mlp_ratio=2.0).eval()
    words = TextTransformer(
        context_length=12, vocab_size=VOCAB, width=24, heads=2, layers=2, mlp_ratio=2.0,
        output_dim=24, no_causal_mask=True, proj_bias=True, pool_type="last",
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6)).eval()
    for model in (trunk, words):
        randomize(model, seed, 0.0)
    trunk.pos_embed.normal_(0, 0.5, generator=torch.Generator().manual_seed(seed))
    scale, bias = torch.tensor(3.0), torch.tensor(-2.5)
    state = {f"visual.trunk.{name}": t for name, t in trunk.state_dict().items()}
    state |= {f"text.{name}": t for name, t in words.state_dict().items()}
    state |= {"logit_scale": scale, "logit_bias": bias}
    save_file({name: t.contiguous() for name, t in state.items()},
              folder / "open_clip_model.safetensors")
    blocks = {"width": 24, "layers": 2, "heads": 3, "mlp_width": 48, "activation": "gelu",
              "layer_norm_eps": 1e-6}
    write(folder, "config.json", {
        "model_type": "plume_clip", "embed_dim": 24, "scoring": "sigmoid",
        "vision": {"image_size": 24, "stem": {"kind": "patch", "size": 6, "bias": True},
                   "transformer": blocks, "pool": {"kind": "map"}, "ln_pre": False},
        "text": {"context": 12, "vocab_size": VOCAB, "transformer": blocks | {"heads": 2},
                 "causal": False, "pool": "last", "proj_bias": True},
    })
    pixels, ids = pictures(seed, 24), texts(SIGLIP_ROWS, 12, END)
    states = record(trunk.blocks), record(words.transformer.resblocks)
    image, text = trunk(pixels.float()), words(ids)
    assert states[1][0].shape[0] == M, "expected the batch first"
    save_io(folder, siglip_io(pixels, ids, states, image, text, scale[None], bias[None]))


def single_towers(out, seed):
    config = CLIPVisionConfig(**tower(24, 3, 48, "quick_gelu", image_size=24, patch_size=6),
                              projection_dim=16)
    config._attn_implementation = "eager"
    model = CLIPVisionModelWithProjection(config).eval()
    randomize(model, seed, 0.0)
    folder = out / "hf-vision"
    model.save_pretrained(folder)
    pixels = pictures(seed, 24)
    states = record(model.vision_model.encoder.layers)
    save_io(folder, vision_io(pixels, states, model(pixels.float()).image_embeds))

    config = CLIPTextConfig(**tower(16, 2, 64, "gelu", vocab_size=VOCAB,
                                    max_position_embeddings=12, bos_token_id=SOT,
                                    eos_token_id=EOT, pad_token_id=EOT), projection_dim=16)
    config._attn_implementation = "eager"
    model = CLIPTextModelWithProjection(config).eval()
    randomize(model, seed + 1, 0.0)
    folder = out / "hf-text"
    model.save_pretrained(folder)
    ids = texts(ROWS, 12, EOT)
    states = record(model.text_model.encoder.layers)
    ends = (ids == EOT).int().argmax(-1)
    save_io(folder, text_io(ids, ends, states, model(ids).text_embeds))


def nfnet(out, seed):
    """`NormFreeNet` as `_dm_nfnet_cfg` makes it, with blocks before whose like the variance
    has grown, and pictures whose sides are no powers of two."""
    folder = out / "nfnet-timm"
    folder.mkdir(parents=True, exist_ok=True)
    depths, widths, group = (1, 2, 2, 1), (16, 16, 32, 32), 8
    config = NfCfg(depths=depths, channels=widths, stem_type="deep_quad", stem_chs=16,
                   group_size=group, ch_div=4, extra_conv=True, gamma_in_act=True,
                   same_padding=True, skipinit=True, num_features=48, act_layer="gelu",
                   attn_layer="se", attn_kwargs=dict(rd_ratio=0.5))
    model = NormFreeNet(config, num_classes=12).eval()
    randomize(model, seed, 0.0)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if name.endswith("gain"):
            parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    save_file({name: t.contiguous() for name, t in model.state_dict().items()},
              folder / "model.safetensors")
    side = 96
    write(folder, "config.json", {
        "model_type": "plume_clip", "embed_dim": 12,
        "vision": {"image_size": side, "stem_width": 16, "depths": depths, "widths": widths,
                   "group_width": group, "final_width": 48, "activation": "gelu", "alpha": 0.2},
    })
    stages = []
    for module in (model.stem, *model.stages):
        module.register_forward_hook(lambda _, __, result: stages.append(result))
    pixels = pictures(seed, side)[:1]
    image = model(pixels.float())
    save_io(folder, {"pixels": pixels, "image_embeds": image,
                     **{f"vision.states.{i}": stage for i, stage in enumerate(stages)}})


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "clip"
    resnet(out, "rn", 100, embed=12, renamed=True, vision=dict(
        image_size=64, layers=[2, 1, 2, 1], width=2, head_width=32, patch_size=None))
    resnet(out, "rn-f16", 110, embed=24, half=True, vision=dict(
        image_size=64, layers=[1, 2, 1, 1], width=2, head_width=16, patch_size=None))
    vit_timm(out, 120)
    siglip(out, 130)
    siglip_open_clip(out, 140)
    single_towers(out, 150)
    nfnet(out, 160)


if __name__ == "__main__":
    main()
