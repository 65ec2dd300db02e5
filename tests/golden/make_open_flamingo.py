"""A small OpenFlamingo of random weights as its parts are published, and what the
reference code computes with it.

usage: python tests/golden/make_open_flamingo.py [OUT]   (OUT: tests/golden/open-flamingo)

  vision/         a CLIP of open_clip: open_clip_model.safetensors, open_clip_config.json
  lm/             a GPT-NeoX of transformers, in several .bin files with an index; its
                  tables have more rows than its tokenizer has tokens, as RedPajama's
  checkpoint.pt   what training leaves: resampler, gated layers, both tables after
                  OpenFlamingo's tokens were added; nested and with the prefix `module.`
  io.safetensors  pixels [images, 3, side, side], input_ids [t] i32, logits [t, vocab];
                  added [2, tokens, width]: the rows of the added tokens in both tables

All but the added rows is stored in f16, and the numbers are those of the stored weights,
computed in f32.
"""

import copy
import json
import sys
from pathlib import Path

import open_clip
import torch
from open_flamingo.src.flamingo import Flamingo
from open_flamingo.src.flamingo_lm import FlamingoLMMixin
from open_flamingo.src.utils import extend_instance
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

WORDS, PADDED, SIDE, WIDTH = 94, 128, 16, 32

torch.set_grad_enabled(False)
torch.set_num_threads(1)


def randomize(module, seed):
    """Weights of order one over the square root of the inputs, gates well open, norms
    away from one and biases from zero; all of them numbers that f16 has."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("logit_scale"):
            continue
        if parameter.ndim >= 2:
            noise = noise * parameter[0].numel() ** -0.5
        elif "norm" in name or "ln_" in name or name.endswith(".0.weight"):
            noise = noise * 0.2 + name.endswith("weight")
        else:
            noise = noise * 0.5
        parameter.copy_(noise.half().float())


def vision(out):
    config = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": SIDE, "patch_size": 8, "width": WIDTH, "layers": 1, "head_width": 16,
        },
        "text_cfg": {
            "context_length": 4, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1,
        },
    }
    clip = open_clip.model.CLIP(**config)
    randomize(clip, 1)
    state = {name: tensor.half().contiguous() for name, tensor in clip.state_dict().items()}
    save_file(state, out / "open_clip_model.safetensors")
    preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    whole = {"model_cfg": config, "preprocess_cfg": preprocess}
    (out / "open_clip_config.json").write_text(json.dumps(whole))
    # As open_clip was when OpenFlamingo was trained: tokens are not normalised.
    clip.visual.ln_post = nn.Identity()
    clip.visual.output_tokens = True
    return clip


def language_model(out):
    config = GPTNeoXConfig(
        vocab_size=PADDED, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, rotary_pct=1.0, max_position_embeddings=64,
        use_parallel_residual=False, tie_word_embeddings=False, hidden_act="gelu",
        bos_token_id=0, eos_token_id=0,
    )
    lm = GPTNeoXForCausalLM(config)
    randomize(lm, 2)
    # A copy: buffers must not be rounded.
    half = copy.deepcopy(lm).half()
    half.save_pretrained(out, safe_serialization=False, max_shard_size="24KB")
    (out / "generation_config.json").unlink(missing_ok=True)
    vocabulary = {f"w{i}": i for i in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    return lm


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "open-flamingo"
    for part in ("vision", "lm"):
        (out / part).mkdir(parents=True, exist_ok=True)
    clip = vision(out / "vision")
    lm = language_model(out / "lm")
    # As factory.py goes on: <|endofchunk|>, <image>, and a padding token.
    eoc, image, rows = WORDS, WORDS + 1, WORDS + 3
    lm.resize_token_embeddings(rows)
    extend_instance(lm, FlamingoLMMixin)
    lm.set_decoder_layers_attr_name("gpt_neox.layers")
    model = Flamingo(clip, lm, eoc, image, vis_dim=WIDTH, cross_attn_every_n_layers=2)
    model.perceiver.layers = model.perceiver.layers[:1]
    randomize(model.perceiver, 3)
    randomize(model.lang_encoder.gated_cross_attn_layers, 4)
    generator = torch.Generator().manual_seed(5)
    tables = [lm.gpt_neox.embed_in.weight, lm.embed_out.weight]
    for table in tables:
        # Numbers that f16 does not have: they must not be rounded.
        table[WORDS:] = torch.randn(3, WIDTH, generator=generator) * 0.3

    # `train_utils.filter_state_dict_to_trainable` of OpenFlamingo.
    state = {}
    for name, tensor in model.state_dict().items():
        aliases = ("vision_encoder.", "lang_encoder.old_decoder_blocks.",
                   "lang_encoder.gated_cross_attn_layers.")
        if name.startswith(aliases):
            continue
        if not any(part in name for part in ("perceiver", "gated_cross_attn", "embed")):
            continue
        exact = "embed" in name
        state["module." + name] = tensor.clone() if exact else tensor.half()
    torch.save({"epoch": 1, "model_state_dict": state}, out / "checkpoint.pt")

    pixels = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    ids = torch.tensor([5, image, 7, 9, eoc, image, 5, 93, 0, eoc])
    logits = model(pixels[None, :, None], ids[None], torch.ones_like(ids)[None]).logits
    save_file(
        {
            "pixels": pixels,
            "input_ids": ids.int(),
            "logits": logits[0].contiguous(),
            "added": torch.stack([table[WORDS:] for table in tables]),
        },
        out / "io.safetensors",
    )


if __name__ == "__main__":
    main()
