"""Small language models of random weights, and what transformers computes with
them: the numbers that Plume's decoder is held against.

usage: python tests/golden/make_lm.py [OUT]     (OUT: tests/golden/lm)

Each folder NAME holds a checkpoint as it would be published, and
io.safetensors (n texts of t tokens, L layers):
  input_ids   [n, t]  i32
  states      [L + 1, n, t, width]  before the first block, after each
  logits      [n, t, vocab]
  padded_ids  [2, t]  i32: the first text, and a shorter one, filled up on the left
  padding     [2]  i32: how many tokens of each are none
  padded_logits [2, vocab]  of the last token of each
  greedy      [64]  i32: what follows the first text, each token the likeliest
  beams       [8]  i32: what follows it by a search with three beams

llama has a tokenizer too: its words are w0, w1, ….
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

N, T, VOCAB, NEW, CONTEXT = 2, 9, 60, 64, 96

torch.set_grad_enabled(False)
torch.set_num_threads(1)


def randomize(model, seed):
    """Weights that keep the residual stream of order one, with norms and biases
    far from their initial ones and zeros: each of them must count."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter, std, mean=0.0):
        parameter.copy_(mean + std * torch.randn(parameter.shape, generator=generator))

    for name, parameter in sorted(model.named_parameters()):
        if "wte" in name or "embed_tokens" in name or "embed_in" in name:
            normal(parameter, 0.3)
        elif "embed_positions" in name:
            normal(parameter, 0.3)
        elif parameter.ndim >= 2:
            normal(parameter, 1.5 * parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            normal(parameter, 0.2)
        else:
            normal(parameter, 0.2, mean=1.0)


def record(layers):
    """Collects the residual stream before the first of `layers` and after each."""
    states = []

    def before(_, args, kwargs):
        states.clear()
        states.append((args[0] if args else kwargs["hidden_states"]).clone())

    def after(_, __, out):
        states.append((out[0] if isinstance(out, tuple) else out).clone())

    layers[0].register_forward_pre_hook(before, with_kwargs=True)
    for layer in layers:
        layer.register_forward_hook(after)
    return states


class QkNorm(nn.Module):
    """MPT-1B's norm of queries and keys over the whole width (`attn_qk_ln` of
    MosaicML's examples), which transformers' MPT lacks: it is put after the
    fused projection."""

    def __init__(self, projection, width):
        super().__init__()
        self.projection = projection
        self.q_ln = nn.LayerNorm(width, bias=False)
        self.k_ln = nn.LayerNorm(width, bias=False)

    def forward(self, x):
        q, k, v = self.projection(x).chunk(3, dim=-1)
        return torch.cat([self.q_ln(q), self.k_ln(k), v], dim=-1)


def mosaic_name(name):
    """transformers' names of MPT → MosaicML's of MPT-1B."""
    for ours, theirs in [("attn.Wqkv.projection.", "attn.Wqkv."), ("attn.Wqkv.q_ln", "attn.q_ln"),
                         ("attn.Wqkv.k_ln", "attn.k_ln"), (".norm_1.", ".ln_1."),
                         (".norm_2.", ".ln_2."), (".norm_f.", ".ln_f."),
                         ("ffn.up_proj", "mlp.mlp_up"), ("ffn.down_proj", "mlp.mlp_down")]:
        name = name.replace(ours, theirs)
    return name


def save(out, name, model, layers, config, rename=lambda name: name):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(len(name))
    ids = torch.randint(3, VOCAB, (N, T), generator=generator)
    states = record(layers)
    logits = model(ids, use_cache=False).logits
    states = torch.stack(states)

    cut = 4
    padded = ids.clone()
    padded[1] = torch.cat([torch.full((cut,), 1), ids[1, : T - cut]])
    mask = torch.ones_like(padded)
    mask[1, :cut] = 0
    positions = {}
    if model.config.model_type in ("gpt_neox", "llama"):
        positions["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    padded_logits = model(padded, attention_mask=mask, use_cache=False, **positions).logits[:, -1]
    alone = model(ids[1:, : T - cut], use_cache=False).logits[0, -1]
    assert torch.allclose(padded_logits[1], alone, atol=1e-4), name

    row = ids[:1]
    for _ in range(NEW):
        row = torch.cat([row, model(row, use_cache=False).logits[:, -1].argmax(-1)[:, None]], 1)
    options = dict(do_sample=False, eos_token_id=VOCAB, pad_token_id=1,
                   attention_mask=torch.ones_like(ids[:1]))
    cached = model.generate(ids[:1], max_new_tokens=NEW, num_beams=1, **options)
    assert torch.equal(cached, row), f"{name}: the reference differs with a cache"
    beams = model.generate(ids[:1], max_new_tokens=8, num_beams=3, length_penalty=0.0, **options)

    tensors = {
        "input_ids": ids.to(torch.int32),
        "states": states,
        "logits": logits,
        "padded_ids": padded.to(torch.int32),
        "padding": torch.tensor([0, cut], dtype=torch.int32),
        "padded_logits": padded_logits,
        "greedy": row[0, T:].to(torch.int32),
        "beams": beams[0, T:].to(torch.int32),
    }
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, folder / "io.safetensors")
    state = {rename(k): v.clone().contiguous() for k, v in model.state_dict().items()
             if k != "lm_head.weight" or not model.config.tie_word_embeddings}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    sure = logits.softmax(-1).max(-1).values.mean()
    print(f"{name:14} logits std {logits.std():.2f}, likeliest {sure:.2f}, "
          f"{len(set(row[0, T:].tolist()))} different tokens")


def build(kind, config, seed):
    config._attn_implementation = "eager"
    model = kind(config).eval()
    randomize(model, seed)
    return model


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "lm"

    # Six heads are no power of two: ALiBi's slopes are interleaved.
    mpt = dict(d_model=30, n_heads=6, n_layers=2, expansion_ratio=4, max_seq_len=CONTEXT,
               vocab_size=VOCAB, no_bias=True, layer_norm_epsilon=1e-5,
               attn_config=dict(alibi=True, alibi_bias_max=8, attn_type="multihead_attention"))
    model = build(MptForCausalLM, MptConfig(**mpt), 1)
    save(out, "mpt", model, model.transformer.blocks, {"model_type": "mpt", **mpt})

    mpt = dict(mpt, d_model=32, n_heads=4)
    model = MptForCausalLM(MptConfig(**mpt)).eval()
    for layer in model.transformer.blocks:
        layer.attn.Wqkv = QkNorm(layer.attn.Wqkv, 32)
    randomize(model, 11)
    published = dict(model_type="mosaic_gpt", d_model=32, n_heads=4, n_layers=2, mlp_ratio=4,
                     max_seq_len=CONTEXT, vocab_size=VOCAB, no_bias=True, alibi=True,
                     alibi_bias_max=8, attn_qk_ln=True)
    save(out, "mosaic-gpt", model, model.transformer.blocks, published, mosaic_name)

    neox = dict(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=64,
                max_position_embeddings=CONTEXT, vocab_size=VOCAB, hidden_act="gelu",
                layer_norm_eps=1e-5, tie_word_embeddings=False, rotary_emb_base=10000)
    for name, parallel, part in [("neox-parallel", True, 0.25), ("neox", False, 1.0)]:
        neox |= dict(use_parallel_residual=parallel, rotary_pct=part)
        model = build(GPTNeoXForCausalLM, GPTNeoXConfig(**neox), 3)
        save(out, name, model, model.gpt_neox.layers, {"model_type": "gpt_neox", **neox})

    opt = dict(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, ffn_dim=64,
               max_position_embeddings=CONTEXT, vocab_size=VOCAB, activation_function="relu",
               do_layer_norm_before=True, word_embed_proj_dim=32, dropout=0.0, pad_token_id=1)
    for name, before, embed in [("opt", True, 32), ("opt-post", False, 20)]:
        opt |= dict(do_layer_norm_before=before, word_embed_proj_dim=embed)
        model = build(OPTForCausalLM, OPTConfig(**opt), 13)
        save(out, name, model, model.model.decoder.layers, {"model_type": "opt", **opt})

    llama = dict(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=40,
                 max_position_embeddings=CONTEXT, vocab_size=VOCAB, hidden_act="silu",
                 rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False)
    model = build(LlamaForCausalLM, LlamaConfig(**llama), 5)
    words = {f"w{i}": i for i in range(VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    save(out, "llama", model, model.model.layers, {"model_type": "llama", **llama})
    tokenizer.save(str(out / "llama/tokenizer.json"))


if __name__ == "__main__":
    main()
