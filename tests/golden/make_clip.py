"""Small CLIP models of random weights, and what transformers and open_clip
compute with them: the numbers that Plume's towers are held against.

usage: python tests/golden/make_clip.py [OUT]     (OUT: tests/golden/clip)

Each folder NAME holds a checkpoint as it would be published, and
io.safetensors (f32; n pictures, m texts, L layers):
  pixels               [n, 3, size, size]  prepared pictures, channels first
  input_ids            [m, context]  i32, padded as this family pads
  eot                  [m]  i32, the position at which the text tower is read
  vision.states        [L + 1, n, tokens, width]  before the first block, after each
  text.states          [L + 1, m, context, width]
  image_embeds, text_embeds                        projected, not normalised
  image_embeds_normalized, text_embeds_normalized  of length one
  logits_per_image     [n, m]
  logit_scale          []  the logarithm, as it is stored
"""

import json
import sys
from pathlib import Path

import torch
from open_clip.model import CLIP as OpenClip
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
N, M = 2, 3

torch.set_grad_enabled(False)
torch.set_num_threads(1)


def randomize(model, seed, logit_scale):
    """Weights that keep the residual stream of order one, with norms and
    biases far from their initial ones and zeros: each of them must count."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter, std, mean=0.0):
        parameter.copy_(mean + std * torch.randn(parameter.shape, generator=generator))

    for name, parameter in sorted(model.named_parameters()):
        if name == "logit_scale":
            parameter.fill_(logit_scale)
        elif "embedding" in name and "patch_embedding" not in name:
            normal(parameter, 0.5)
        elif parameter.ndim >= 2:
            # open_clip keeps its two projections as [in, out].
            turned = name in ("visual.proj", "text_projection")
            inputs = parameter.shape[0] if turned else parameter[0].numel()
            normal(parameter, inputs**-0.5)
        elif name.endswith("bias"):
            normal(parameter, 0.2)
        else:
            normal(parameter, 0.2, mean=1.0)


def record(layers):
    """Collects the residual stream before the first of `layers` and after each."""
    states = []

    def before(_, args):
        states.clear()
        states.append(args[0].clone())

    def after(_, __, out):
        states.append((out[0] if isinstance(out, tuple) else out).clone())

    layers[0].register_forward_pre_hook(before)
    for layer in layers:
        layer.register_forward_hook(after)
    return states


def texts(rows, context, pad):
    ids = torch.full((len(rows), context), pad, dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids


def save_io(folder, pixels, ids, eot, states, image, text, logit_scale):
    normal = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    tensors = {
        "pixels": pixels,
        "input_ids": ids.to(torch.int32),
        "eot": torch.as_tensor(eot, dtype=torch.int32),
        "vision.states": torch.stack(states[0]),
        "text.states": torch.stack(states[1]),
        "image_embeds": image,
        "text_embeds": text,
        "image_embeds_normalized": normal[0],
        "text_embeds_normalized": normal[1],
        "logits_per_image": logit_scale.exp() * normal[0] @ normal[1].T,
        "logit_scale": logit_scale,
    }
    tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "io.safetensors")
    for name in ("image_embeds", "text_embeds", "logits_per_image"):
        print(f"{folder.name:10} {name:17} std {tensors[name].std():.3f}")


def write(folder, name, value):
    (folder / name).write_text(json.dumps(value, indent=2) + "\n")


def transformers_model(out, name, seed, *, vision, text, rows, pad, embed=16, scale=2.6593,
                       dtype=torch.float32, buffers=False):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    config = CLIPConfig(projection_dim=embed, vision_config=vision, text_config=text)
    config._attn_implementation = "eager"
    model = CLIPModel(config).eval()
    randomize(model, seed, scale)
    # The golden numbers are of the weights as they are stored.
    model = model.to(dtype).to(torch.float32)

    state = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    if buffers:  # as files of transformers before 4.31 have them
        for part in ("text_model", "vision_model"):
            count = state[f"{part}.embeddings.position_embedding.weight"].shape[0]
            state[f"{part}.embeddings.position_ids"] = torch.arange(count)[None]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    side = vision["image_size"]
    write(folder, "config.json", {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": embed,
        "logit_scale_init_value": 2.6592,
        "vision_config": {"model_type": "clip_vision_model", **vision},
        "text_config": {"model_type": "clip_text_model", **text},
        "torch_dtype": str(dtype).removeprefix("torch."),
    })
    write(folder, "preprocessor_config.json", {
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": side}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": side, "width": side},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": MEAN, "image_std": STD,
    })

    pixels = torch.randn(N, 3, side, side, generator=torch.Generator().manual_seed(seed + 1))
    ids = texts(rows, text["max_position_embeddings"], pad)
    # The rule of modeling_clip.py; the assertion below holds it against the library.
    legacy = text["eos_token_id"] == 2
    eot = ids.argmax(-1) if legacy else (ids == text["eos_token_id"]).int().argmax(-1)
    states = record(model.vision_model.encoder.layers), record(model.text_model.encoder.layers)
    result = model(input_ids=ids, pixel_values=pixels)
    image, words = model.get_image_features(pixels), model.get_text_features(ids)
    last = model.text_model.final_layer_norm(states[1][-1][torch.arange(M), eot])
    assert torch.allclose(model.text_projection(last), words, atol=1e-5), name
    assert torch.allclose(result.text_embeds, F.normalize(words, dim=-1), atol=1e-6), name
    save_io(folder, pixels, ids, eot, states, image, words, model.logit_scale.data)
    logits = load_file(folder / "io.safetensors")["logits_per_image"]
    assert torch.allclose(result.logits_per_image, logits, atol=1e-4), name


def open_clip_model(out, name, seed, *, vision, text, rows, quick_gelu, embed=16, scale=2.6593):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    model = OpenClip(embed, vision, text, quick_gelu=quick_gelu).eval()
    randomize(model, seed, scale)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    model_cfg = {"embed_dim": embed, "vision_cfg": vision, "text_cfg": text}
    if quick_gelu:
        model_cfg["quick_gelu"] = True
    write(folder, "open_clip_config.json", {
        "model_cfg": model_cfg,
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic",
                           "resize_mode": "shortest"},
    })

    side = vision["image_size"]
    pixels = torch.randn(N, 3, side, side, generator=torch.Generator().manual_seed(seed + 1))
    ids = texts(rows, text["context_length"], 0)
    states = record(model.visual.transformer.resblocks), record(model.transformer.resblocks)
    image, words = model.encode_image(pixels), model.encode_text(ids)
    assert states[0][0].shape[0] == N and states[1][0].shape[0] == M, "expected the batch first"
    eot = ids.argmax(-1)
    last = model.ln_final(states[1][-1][torch.arange(M), eot]) @ model.text_projection
    assert torch.allclose(last, words, atol=1e-5), name
    save_io(folder, pixels, ids, eot, states, image, words, model.logit_scale.data)


def tower(width, heads, mlp, act, **more):
    return {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": mlp,
            "num_hidden_layers": 2, "hidden_act": act, "layer_norm_eps": 1e-5, **more}


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "clip"
    sot, eot, vocab = 46, 47, 48  # the end is the highest id, as in CLIP
    rows = [[sot, 5, 2, 30, eot], [sot, 7, 1, 44, 0, 19, 33, 8, 21, 12, 3, eot], [sot, eot]]
    words = dict(vocab_size=vocab, max_position_embeddings=12, bos_token_id=sot,
                 eos_token_id=eot, pad_token_id=eot)
    quick = dict(vision=tower(24, 3, 48, "quick_gelu", image_size=24, patch_size=6),
                 text=tower(16, 2, 64, "quick_gelu", **words), rows=rows, pad=eot)

    transformers_model(out, "hf-quick", 10, **quick)
    # Heads of 20, a text tower of another width, another epsilon, and a
    # picture that is no whole number of patches.
    transformers_model(
        out, "hf-gelu", 20, rows=rows, pad=eot, embed=20, scale=3.5,
        vision=tower(40, 2, 16, "gelu", image_size=27, patch_size=6) | {"layer_norm_eps": 1e-6},
        text=tower(12, 3, 24, "gelu", **words))
    # Old configurations: eos_token_id is 2, which then is an ordinary token of
    # the texts, and the tower is read at the highest id.
    legacy = dict(words, bos_token_id=0, eos_token_id=2, pad_token_id=1)
    transformers_model(
        out, "hf-eos2", 30, rows=rows, pad=1, buffers=True,
        vision=tower(24, 3, 48, "quick_gelu", image_size=24, patch_size=8),
        text=tower(20, 2, 48, "quick_gelu", **legacy))
    # Several ends in one text: the first counts, and what follows does not.
    several = [[sot, 5, eot, 30, eot], [sot, 7, 1, 44, eot, eot, 33, 8, eot, 12, 3, 9],
               [sot, eot, 4, 4]]
    transformers_model(out, "hf-noeos", 40, **dict(quick, rows=several))
    transformers_model(out, "f16", 50, **quick, dtype=torch.float16)
    transformers_model(out, "bf16", 60, **quick, dtype=torch.bfloat16)

    text = dict(context_length=12, vocab_size=vocab, width=16, heads=2, layers=2)
    vision = dict(image_size=24, layers=2, width=24, head_width=8, patch_size=6, mlp_ratio=2.0)
    open_clip_model(out, "oc-quick", 70, rows=rows, quick_gelu=True, vision=vision, text=text)
    vision = dict(image_size=32, layers=2, width=24, head_width=12, patch_size=8, mlp_ratio=1.5)
    text = dict(text, width=20, heads=2, mlp_ratio=2.0)
    open_clip_model(out, "oc-gelu", 80, rows=rows, quick_gelu=False, embed=24, vision=vision,
                    text=text)


if __name__ == "__main__":
    main()
