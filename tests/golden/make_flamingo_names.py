"""The tensors of the published Flamingos, as the libraries name and shape them.
No weights: models are built on the meta device.

usage: python tests/golden/make_flamingo_names.py [OUT]
                                    (OUT: tests/golden/flamingo/names.json)

{"NAME": {"config": {…} or null, "tensors": {"a.*.b": {"[2, 3]": how many}, …}}}
as in `names.json`. MPT-1B, which transformers lacks, is a MPT with a norm of
queries and keys under MosaicML's names (see `make_lm.py`).
"""

import json
import sys
from pathlib import Path

import open_clip
import torch
from open_flamingo.src.flamingo import Flamingo
from open_flamingo.src.flamingo_lm import FlamingoLMMixin
from open_flamingo.src.utils import extend_instance
from transformers import (GPTNeoXConfig, GPTNeoXForCausalLM, IdeficsConfig,
                          IdeficsForVisionText2Text, MptConfig, MptForCausalLM)

from make_lm import QkNorm, mosaic_name
from make_names import collapse

ROWS = 50280  # the tokenizer's 50277 and three that are added
ALIASES = ("lang_encoder.old_decoder_blocks.", "lang_encoder.gated_cross_attn_layers.")
IDEFICS = dict(
    vocab_size=32000, additional_vocab_size=2, hidden_size=4096, intermediate_size=11008,
    num_hidden_layers=32, num_attention_heads=32, cross_layer_interval=4, qk_layer_norms=True,
    use_resampler=True, tie_word_embeddings=False,
    vision_config=dict(embed_dim=1280, image_size=224, intermediate_size=5120, patch_size=14,
                       num_hidden_layers=32, num_attention_heads=16, hidden_act="gelu"),
    perceiver_config=dict(use_resampler=True, resampler_n_latents=64, resampler_depth=6,
                          resampler_n_heads=16, resampler_head_dim=96,
                          qk_layer_norms_perceiver=True))


def mpt(width, layers, heads):
    config = MptConfig(d_model=width, n_heads=heads, n_layers=layers, vocab_size=ROWS)
    return MptForCausalLM(config)


def mpt_1b():
    model = mpt(2048, 24, 16)
    for block in model.transformer.blocks:
        block.attn.Wqkv = QkNorm(block.attn.Wqkv, 2048)
    return model


def redpajama():
    return GPTNeoXForCausalLM(GPTNeoXConfig(
        hidden_size=2560, num_attention_heads=32, num_hidden_layers=32, intermediate_size=10240,
        vocab_size=ROWS, rotary_pct=1.0, use_parallel_residual=False, tie_word_embeddings=False))


def open_flamingo(lm, layers, every, rename=lambda name: name):
    clip = open_clip.CLIP(**{k: v for k, v in open_clip.get_model_config("ViT-L-14").items()})
    extend_instance(lm, FlamingoLMMixin)
    lm.set_decoder_layers_attr_name(layers)
    model = Flamingo(clip, lm, 50277, 50278, 1024, cross_attn_every_n_layers=every)
    tied = lm.config.tie_word_embeddings
    return {rename(name): t for name, t in model.state_dict().items()
            if not name.startswith(ALIASES) and not (tied and name.endswith("lm_head.weight"))}


def main():
    default = Path(__file__).parent / "flamingo" / "names.json"
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    torch.set_grad_enabled(True)
    with torch.device("meta"):
        models = {
            "OpenFlamingo-3B": (None, open_flamingo(mpt_1b(), "transformer.blocks", 1,
                                                    mosaic_name)),
            "OpenFlamingo-4B": (None, open_flamingo(redpajama(), "gpt_neox.layers", 2)),
            "OpenFlamingo-9B": (None, open_flamingo(mpt(4096, 32, 32), "transformer.blocks", 4)),
            "IDEFICS-9B": ({"model_type": "idefics"} | IDEFICS,
                           IdeficsForVisionText2Text(IdeficsConfig(**IDEFICS)).state_dict()),
        }
    lines = []
    for name, (config, state) in models.items():
        rows = ",\n".join(f"   {json.dumps(pattern)}: {json.dumps(shapes)}"
                          for pattern, shapes in collapse(state).items())
        lines.append(f' {json.dumps(name)}: {{"config": {json.dumps(config)},\n'
                     f'  "tensors": {{\n{rows}}}}}')
        print(f"{name:16} {sum(t.numel() for t in state.values()) / 1e6:9.1f} million")
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
