"""Small Flamingos of random weights, and what their references compute.

usage: python tests/golden/make_flamingo.py [OUT]     (OUT: tests/golden/flamingo)

mini/     flamingo-mini's names and sums (its `perceiver_resampler.py` and
          `gated_cross_attention.py`, whose sums are those of OpenFlamingo's),
          written again below; the language model is transformers' OPT, the vision
          tower transformers' CLIP. io.safetensors has
  pixels      [5, 3, side, side]
  input_ids   [1, t]  i32; tokens 7 and 8 both stand for a picture
  features    [5, tokens, width]  of the vision tower
  CASE.visual [media, tokens, width]  of the resampler
  CASE.states [L + 1, t, width], CASE.logits [t, vocab]
          for CASE `base` and for each of the paper's ablations (Flamingo, Table 3
          and Table 10), for which no public code exists: they are written from the
          paper, with the same weights. `two` and `five` are videos of so many
          frames, of which three have learned embeddings.
idefics/, idefics-vector/
          transformers' IdeficsForVisionText2Text: the same, one case.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import (CLIPVisionConfig, CLIPVisionModel, IdeficsConfig,
                          IdeficsForVisionText2Text, OPTConfig, OPTForCausalLM)

VOCAB, T, SIDE = 40, 12, 16
WIDTH, VISUAL, LAYERS, HEADS, HEAD = 24, 16, 4, 2, 10
LATENTS, DEPTH, TIMES = 3, 2, 3
MARKS = (7, 8)

torch.set_grad_enabled(False)
torch.set_num_threads(1)


def randomize(model, seed):
    """Weights that keep the residual stream of order one, with norms, biases and
    gates far from their initial values: each of them must count."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter, std, mean=0.0):
        parameter.copy_(mean + std * torch.randn(parameter.shape, generator=generator))

    for name, parameter in sorted(model.named_parameters()):
        if "embed" in name and "patch" not in name or "latents" in name or "time_pos" in name:
            normal(parameter, 0.4)
        elif "alpha" in name:
            normal(parameter, 0.3, mean=0.7)
        elif parameter.ndim >= 2:
            normal(parameter, 1.3 * parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            normal(parameter, 0.2)
        else:
            normal(parameter, 0.2, mean=1.0)


class SquaredRelu(nn.Module):
    def forward(self, x):
        return F.relu(x) ** 2


def feed_forward(width):
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width, bias=False),
                         SquaredRelu(), nn.Linear(2 * width, width, bias=False))


def attend(q, k, v, heads, seen=None):
    """A row that sees nothing gives zeros."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.finfo(scores.dtype).max)
    shares = scores.softmax(-1)
    if seen is not None:
        shares = shares.masked_fill(~seen.any(-1, keepdim=True), 0.0)
    return (shares @ v).transpose(1, 2).flatten(-2)


class PerceiverAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_media, self.norm_latents = nn.LayerNorm(VISUAL), nn.LayerNorm(VISUAL)
        for name in ("to_q", "to_k", "to_v"):
            setattr(self, name, nn.Linear(VISUAL, HEADS * HEAD, bias=False))
        self.to_out = nn.Linear(HEADS * HEAD, VISUAL, bias=False)

    def forward(self, latents, media=None):
        """Without media the rows attend to one another alone, as in a Transformer."""
        latents = self.norm_latents(latents)
        rows = latents if media is None else torch.cat([self.norm_media(media), latents], 1)
        return self.to_out(attend(self.to_q(latents), self.to_k(rows), self.to_v(rows), HEADS))


class Resampler(nn.Module):
    def __init__(self):
        super().__init__()
        self.latents = nn.Parameter(torch.empty(LATENTS, VISUAL))
        self.time_pos_emb = nn.Parameter(torch.empty(TIMES, 1, VISUAL))
        self.layers = nn.ModuleList(nn.ModuleList([PerceiverAttention(), feed_forward(VISUAL)])
                                    for _ in range(DEPTH))
        self.norm = nn.LayerNorm(VISUAL)

    def forward(self, frames, kind="perceiver"):
        """[n, frames, features, width] → [n, tokens, width]"""
        count = frames.shape[1]
        times = self.time_pos_emb[:count]
        if count > TIMES:  # App. B.1.2: linearly interpolated
            table = self.time_pos_emb[:, 0].T[None]
            times = F.interpolate(table, count, mode="linear", align_corners=True)[0].T[:, None]
        media = (frames + times).flatten(1, 2)
        x = media
        if kind == "perceiver":
            x = self.latents.expand(len(frames), -1, -1)
        for attention, ffw in self.layers:
            if kind != "mlp":
                x = x + attention(x, media if kind == "perceiver" else None)
            x = x + ffw(x)
        return self.norm(x)


class CrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.to_q = nn.Linear(WIDTH, HEADS * HEAD, bias=False)
        self.to_kv = nn.Linear(VISUAL, 2 * HEADS * HEAD, bias=False)
        self.to_out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)

    def forward(self, x, visual, time, previous):
        """`time`: the number of the picture that each token sees."""
        number = torch.arange(len(visual)).repeat_interleave(visual.shape[1]) + 1
        seen = time[:, None] >= number if previous else time[:, None] == number
        k, v = self.to_kv(visual.flatten(0, 1)[None]).chunk(2, -1)
        return self.to_out(attend(self.to_q(self.norm(x)), k, v, HEADS, seen))


class GatedCrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = CrossAttention()
        self.alpha_attn = nn.Parameter(torch.empty(1))
        self.ffw = feed_forward(WIDTH)
        self.alpha_ffw = nn.Parameter(torch.empty(1))

    def forward(self, x, visual, time, gated, previous):
        open_attn, open_ffw = 1.0, 1.0
        if gated:
            open_attn, open_ffw = self.alpha_attn.tanh(), self.alpha_ffw.tanh()
        x = x + open_attn * self.attn(x, visual, time, previous)
        return x + open_ffw * self.ffw(x)


class Layer(nn.Module):
    """A layer of OPT and the one before it."""

    def __init__(self, lm_block):
        super().__init__()
        self.xattn_block, self.lm_block = GatedCrossAttention(), lm_block

    def forward(self, x, visual, time, *, there=True, kind="gated", gated=True, previous=False):
        lm = self.lm_block
        if there and kind == "gated":
            x = self.xattn_block(x, visual, time, gated, previous)
        mask = torch.full((x.shape[1],) * 2, torch.finfo(x.dtype).min).triu(1)[None, None]
        normed = lm.self_attn_layer_norm(x)
        x = x + lm.self_attn(hidden_states=normed, attention_mask=mask)[0]
        if there and kind == "vanilla":  # Vaswani et al. 2017: between the two
            x = x + self.xattn_block.attn(x, visual, time, previous)
        return x + lm.fc2(F.relu(lm.fc1(lm.final_layer_norm(x))))


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        config = OPTConfig(hidden_size=WIDTH, num_attention_heads=3, num_hidden_layers=LAYERS,
                           ffn_dim=40, max_position_embeddings=32, vocab_size=VOCAB,
                           word_embed_proj_dim=WIDTH, dropout=0.0, pad_token_id=1)
        config._attn_implementation = "eager"
        opt = OPTForCausalLM(config)
        self.lm, self.lm_head, self.resampler = opt.model, opt.lm_head, Resampler()
        layers = self.lm.decoder.layers
        for i in range(LAYERS):
            layers[i] = Layer(layers[i])

    def forward(self, ids, visual, layers=range(LAYERS), **how):
        decoder = self.lm.decoder
        places = torch.arange(ids.shape[1]) + 2
        x = decoder.embed_tokens(ids) + decoder.embed_positions.weight[places]
        time = sum(ids[0] == mark for mark in MARKS).cumsum(0)
        states = [x]
        for i, layer in enumerate(decoder.layers):
            states.append(layer(states[-1], visual, time, there=i in layers, **how))
        logits = self.lm_head(decoder.final_layer_norm(states[-1]))
        return torch.cat(states), logits[0]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        config = CLIPVisionConfig(hidden_size=VISUAL, intermediate_size=24, num_hidden_layers=2,
                                  num_attention_heads=2, image_size=SIDE, patch_size=8,
                                  hidden_act="quick_gelu")
        config._attn_implementation = "eager"
        self.vision_encoder, self.flamingo = CLIPVisionModel(config), Inner()


def mini(out):
    folder = out / "mini"
    folder.mkdir(parents=True, exist_ok=True)
    model = Model().eval()
    randomize(model, 21)
    generator = torch.Generator().manual_seed(22)
    pixels = torch.randn(5, 3, SIDE, SIDE, generator=generator).half()
    ids = torch.randint(10, VOCAB, (1, T), generator=generator)
    ids[0, 2], ids[0, 6] = MARKS
    features = model.vision_encoder(pixels.float()).last_hidden_state
    tensors = {"pixels": pixels, "input_ids": ids.to(torch.int32), "features": features}
    two = features[:2, None]

    def case(name, frames, resampler="perceiver", **how):
        visual = model.flamingo.resampler(frames, resampler)
        states, logits = model.flamingo(ids, visual, **how)
        tensors.update({f"{name}.visual": visual, f"{name}.states": states,
                        f"{name}.logits": logits})
        print(f"{name:12} visual std {visual.std():.2f}, logits std {logits.std():.2f}")

    case("base", two)
    case("no_gate", two, gated=False)
    case("vanilla", two, kind="vanilla")
    case("grafting", two, layers=[2, 3])
    case("middle", two, layers=[2])
    case("second", two, layers=[0, 2])
    case("fourth", two, layers=[0])
    case("previous", two, previous=True)
    case("mlp", two, resampler="mlp")
    case("transformer", two, resampler="transformer")
    case("two", features[:4].reshape(2, 2, *features.shape[1:]))
    one = ids.clone()
    one[0, 6] = 11
    visual = model.flamingo.resampler(features[None])
    states, logits = model.flamingo(one, visual)
    tensors.update({"five.input_ids": one.to(torch.int32), "five.visual": visual,
                    "five.states": states, "five.logits": logits})
    for name in [n for n in tensors if n.endswith(".visual")]:
        if name.split(".")[0] not in ("base", "mlp", "transformer", "two", "five"):
            del tensors[name]  # as in the base
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, folder / "io.safetensors")
    state = {k: v.clone().contiguous() for k, v in model.state_dict().items()
             if k != "flamingo.lm_head.weight" and not k.endswith("position_ids")}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def idefics(out, name, seed, **options):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(
        vocab_size=VOCAB, additional_vocab_size=2, hidden_size=WIDTH, intermediate_size=40,
        num_hidden_layers=LAYERS, num_attention_heads=3, hidden_act="silu", rms_norm_eps=1e-6,
        max_position_embeddings=32, tie_word_embeddings=False, cross_layer_interval=2,
        use_resampler=True, dropout=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        vision_config=dict(embed_dim=VISUAL, image_size=SIDE, patch_size=8, intermediate_size=24,
                           num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu"),
        perceiver_config=dict(use_resampler=True, resampler_n_latents=LATENTS,
                              resampler_depth=DEPTH, resampler_n_heads=HEADS,
                              resampler_head_dim=HEAD, qk_layer_norms_perceiver=True),
        **options)
    built = IdeficsConfig(**config)
    built._attn_implementation = "eager"
    model = IdeficsForVisionText2Text(built).eval()
    randomize(model, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=generator).half()
    ids = torch.randint(3, VOCAB, (1, T), generator=generator)
    around, image = VOCAB, VOCAB + 1
    ids[0, 1:4] = torch.tensor([around, image, around])
    ids[0, 6:9] = torch.tensor([around, image, around])
    time = (ids[0] == image).cumsum(0)
    seen = (time[:, None] == torch.arange(1, 3)).long()[None]
    states = []

    def before(_, args, kwargs):
        if not states:
            states.append((args[0] if args else kwargs["hidden_states"]).clone())

    def after(_, __, result):
        states.append((result[0] if isinstance(result, tuple) else result).clone())

    inner = model.model
    visual = []
    inner.perceiver_resampler.register_forward_hook(lambda _, __, result: visual.append(result))
    inner.gated_cross_attn_layers[0].register_forward_pre_hook(before, with_kwargs=True)
    for layer in inner.layers:
        layer.register_forward_hook(after)
    result = model(input_ids=ids, attention_mask=torch.ones_like(ids),
                   pixel_values=pixels.float()[None], image_attention_mask=seen, use_cache=False)
    features = inner.vision_model(pixel_values=pixels.float()).last_hidden_state
    assert len(states) == LAYERS + 1
    tensors = {"pixels": pixels, "input_ids": ids.to(torch.int32), "features": features,
               "base.visual": visual[0], "base.states": torch.cat(states),
               "base.logits": result.logits[0]}
    print(f"{name:14} visual std {visual[0].std():.2f}, logits std {result.logits.std():.2f}")
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, folder / "io.safetensors")
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "idefics", **config}, indent=2)
                                        + "\n")


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "flamingo"
    mini(out)
    idefics(out, "idefics", 31, alpha_type="float", qk_layer_norms=True)
    idefics(out, "idefics-vector", 41, alpha_type="vector", qk_layer_norms=False)


if __name__ == "__main__":
    main()
