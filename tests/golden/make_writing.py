"""What every kind of Flamingo writes, by the code of those who made them.

usage: python tests/golden/make_writing.py [OUT [KIND …]]   (OUT: tests/golden/writing)

Each folder KIND holds a small model of random weights, in f16, under the names of
its publisher, with the configurations that are published with it:

  mpt, mpt-1b, neox, opt, llama    open_flamingo's `Flamingo` on each of its language
                  models (MPT-1B's norm of queries and keys as in make_lm.py), with
                  config.json of the language model and open_clip_config.json
  idefics         transformers' IdeficsForVisionText2Text
  mini            flamingo-mini, whose sums are OpenFlamingo's with squared ReLU, an
                  embedding of the frame, and the class token; on an OPT as opt-350m is.
                  What it publishes names its parts: config.json is Plume's own

and io.safetensors, where N is 0, 1, 5 and 32, the pictures of a prompt:
  prompt.N        i32; its i-th picture is `picture(100 · N + i)`
  logits.N        [t, vocab] of the whole prompt, of the last rows where it is long
  states          [L + 1, t, width]: prompt.5 before the first block and after each
  greedy          [64] i32: what follows prompt.5, each token the likeliest
  greedy.repeated [64] i32: the same with a repetition penalty of 1.3
  beams           [n, 3]: what each search has: length penalty, repetition penalty, how
                  many of `ends` end a text
  beams.I         i32: what the I-th search with three beams finds after prompt.5, up to
                  24 tokens, without the one that ended it
  ended           [n] i32: whether one did
  answer.I        i32; likelihoods [4, 2]: the log-likelihood of each after prompt.5,
                  and that of a token of it, on average
  batch           [2, vocab]: the last logits of prompt.5 and prompt.1 read together, the
                  second filled up on the left, and its pictures with zeros
  chances         [vocab]: of the first token after prompt.5, with a temperature of 0.7,
                  the 12 likeliest, and 0.8 of their probability
  marks, ends     i32: tokens that stand for a picture; that end a text

lm.safetensors has NAME.prompt, NAME.ends, NAME.beams, NAME.beams.I and NAME.ended, as
above, of each language model of ../lm.

Seeds are taken until no decision is close: greedy, in a search, or at the edge of
`chances`, nothing else lies within 1e-2 (language models alone: 2e-3). Every search is
made a second time, without a cache, by the rule as it is written below.
"""

import functools
import itertools
import json
import logging
import sys
from pathlib import Path

import open_clip
import torch
from open_flamingo.src.flamingo import Flamingo
from open_flamingo.src.flamingo_lm import FlamingoLMMixin
from open_flamingo.src.helpers import GatedCrossAttentionBlock, PerceiverResampler
from open_flamingo.src.utils import extend_instance
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel, GPTNeoXConfig,
                          GPTNeoXForCausalLM, IdeficsConfig, IdeficsForVisionText2Text,
                          LlamaConfig, LlamaForCausalLM, LogitsProcessorList, MptConfig,
                          MptForCausalLM, OPTConfig, OPTForCausalLM, StoppingCriteria,
                          StoppingCriteriaList, TemperatureLogitsWarper, TopKLogitsWarper,
                          TopPLogitsWarper)
from transformers.models.idefics.processing_idefics import (
    image_attention_mask_for_packed_input_ids, incremental_to_binary_attention_mask)

from make_flamingo import SquaredRelu
from make_lm import QkNorm, mosaic_name

SIDE, PATCH, VISUAL, WIDTH, CONTEXT = 16, 8, 32, 32, 160
ROWS, PADDED = 96, 128
EOC, IMAGE = 93, 94
PROMPTS, LAST = (0, 1, 5, 32), 8
GREEDY, BEAMS, WRITTEN, CLOSE = 64, 3, 24, 1e-2
# Length penalty, repetition penalty, how many ends count.
SEARCHES = [(0.0, 1.0, 1), (1.0, 1.0, 1), (2.0, 1.0, 1), (1.0, 1.3, 1), (1.0, 1.0, 2)]

torch.set_grad_enabled(False)
torch.set_num_threads(1)
logging.getLogger("transformers").setLevel(logging.ERROR)


def picture(number):
    """[3, side, side]: `Drawn(number).read("picture", [side, side, 3])` of the tests."""
    bits = (1 << 64) - 1
    hashed = number
    for byte in b"picture":
        hashed = ((hashed ^ byte) * 0x100000001B3) & bits

    def one(i):
        z = ((hashed + i) * 0x9E3779B97F4A7C15) & bits
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & bits
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & bits
        return (z >> 40) / (1 << 23) - 1.0

    numbers = torch.tensor([one(i) for i in range(SIDE * SIDE * 3)])
    return numbers.reshape(SIDE, SIDE, 3).permute(2, 0, 1)


@functools.cache
def pictures(count):
    """[count, 3, side, side]: those of `prompt.count`; one of zeros for none."""
    if count == 0:
        return torch.zeros(1, 3, SIDE, SIDE)
    return torch.stack([picture(100 * count + i) for i in range(count)])


def randomize(module, generator, end=ROWS, marks=(), maps=2.0, table=0.8, positions=0.3,
              last=1.0):
    """Weights that keep the residual stream of order one and the logits well apart, norms
    and biases away from one and zero, gates well open; all of them numbers of f16. Of
    tokens, `end` is likely more often or not at all, and `marks` are seldom. Where the
    head is the `table`, it is small and the `last` norm large, or each token would call
    for itself."""
    tables = ("wte", "embed_tokens.weight", "embed_in", "embed_out", "lm_head", "additional")

    def normal(parameter, std, mean=0.0):
        numbers = mean + std * torch.randn(parameter.shape, generator=generator)
        parameter.copy_(numbers.half().float())

    for name, parameter in sorted(module.named_parameters()):
        if any(table in name for table in tables) and "vision" not in name:
            normal(parameter, table)
            for row, times in [(end, 2.0), *((mark, 0.25) for mark in marks)]:
                if row < len(parameter):
                    parameter[row] *= times
        elif "embed_positions" in name:
            normal(parameter, positions)
        elif name.endswith(("norm_f.weight", "model.decoder.final_layer_norm.weight")):
            normal(parameter, 0.2, mean=last)
        elif "q_ln" in name or "k_ln" in name:
            normal(parameter, 0.4, mean=1.8)
        elif "latents" == name.split(".")[-1] or "frame_embs" in name or "class_embedding" in name:
            normal(parameter, 0.6)
        elif "gate" in name and parameter.ndim == 1 or "alpha" in name:
            normal(parameter, 0.3, mean=0.9)
        elif name.endswith("project_out.weight"):
            normal(parameter, last * parameter[0].numel() ** -0.5)
        elif parameter.ndim >= 2:
            normal(parameter, maps * parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            normal(parameter, 0.2)
        else:
            normal(parameter, 0.2, mean=1.0)


class OpenClip:
    """An image tower of open_clip, as it was when OpenFlamingo was trained: tokens are
    not normalised."""

    config = {
        "embed_dim": 16, "quick_gelu": True,
        "vision_cfg": {"image_size": SIDE, "patch_size": PATCH, "width": VISUAL, "layers": 1,
                       "head_width": 16, "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 4, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1},
    }

    def __init__(self, generator):
        self.visual = open_clip.model.CLIP(**self.config).visual.eval()
        randomize(self.visual, generator)
        self.norm = {f"vision_encoder.ln_post.{name}": tensor
                     for name, tensor in self.visual.ln_post.state_dict().items()}
        self.visual.ln_post = nn.Identity()
        self.visual.output_tokens = True


class Clip:
    """An image tower of transformers, all of whose tokens are seen."""

    class Visual(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = CLIPVisionModel(CLIPVisionConfig(
                hidden_size=VISUAL, intermediate_size=48, num_hidden_layers=1,
                num_attention_heads=2, image_size=SIDE, patch_size=PATCH, hidden_act="quick_gelu"))

        def forward(self, pixels):
            return None, self.model(pixels).last_hidden_state

    def __init__(self, generator):
        self.visual, self.norm = Clip.Visual().eval(), {}
        randomize(self.visual, generator)


class AnyOf:
    """Is equal to each of several tokens, for code that compares with one."""

    def __init__(self, ids):
        self.ids = torch.tensor(ids)

    def __eq__(self, other):
        return torch.isin(other, self.ids)


class OpenFlamingo:
    """The reference, with sizes of ours for what its own classes fix."""

    marks, ends, words = [IMAGE], [EOC, 0], range(3, EOC)
    # How its weights are drawn.
    drawn, settled = {}, False

    def __init__(self, generator, lm, layers, gated, tower=OpenClip, frames=None, act=None):
        self.tower = tower(generator)
        extend_instance(lm, FlamingoLMMixin)
        lm.set_decoder_layers_attr_name(layers)
        mark = self.marks[0] if len(self.marks) == 1 else AnyOf(self.marks)
        self.model = Flamingo(self.tower, lm, EOC, mark, vis_dim=VISUAL).eval()
        self.lm = lm
        count = len(lm._get_decoder_layers())
        block = dict(dim=WIDTH, dim_visual=VISUAL, dim_head=4, heads=8, ff_mult=2)
        lm.gated_cross_attn_layers = nn.ModuleList(
            GatedCrossAttentionBlock(**block) if i in gated else None for i in range(count))
        lm.init_flamingo_layers(False)
        self.model.perceiver = PerceiverResampler(
            dim=VISUAL, depth=1, dim_head=4, heads=8, num_latents=6, ff_mult=2,
            max_num_frames=frames)
        if act:
            for layer in lm.gated_cross_attn_layers:
                if layer is not None:
                    layer.ff[2] = act()
            self.model.perceiver.layers[0][1][2] = act()
        lm.eval()
        randomize(lm, generator, EOC, self.marks, **self.drawn)
        randomize(self.model.perceiver, generator)
        self.blocks = list(lm._get_decoder_layers())

    def logits(self, ids, pixels, mask=None, prompt=None):
        """Of whole texts, of which the first tokens are a prompt."""
        mask = torch.ones_like(ids) if mask is None else mask
        return self.model(pixels[:, :, None], ids, mask).logits

    def generate(self, ids, pixels, **options):
        return self.model.generate(pixels[None, :, None], ids[None], torch.ones_like(ids)[None],
                                   **options)

    def settle(self, ids):
        """Takes out of a head that is the table what all rows of a prompt have in common,
        or one token would be the likeliest everywhere."""
        if not self.settled:
            return
        table, seen = self.lm.get_input_embeddings().weight, []
        hook = self.lm.get_output_embeddings().register_forward_pre_hook(
            lambda _, args: seen.append(args[0]))
        for _ in range(3):
            self.logits(torch.tensor([ids]), pictures(5)[None])
            shared = nn.functional.normalize(seen[-1].mean((0, 1)), dim=0)
            table.copy_((table - (table @ shared)[:, None] * shared).half().float())
        hook.remove()

    def prompt(self, count, draw):
        """Words, then pictures, each with words of its own."""
        ids = draw(2) + ([EOC] + draw(4) if count == 0 else [])
        for i in range(count):
            ids += [self.marks[i % len(self.marks)], *draw(2 + (count == 5 and i % 2))]
            ids += [EOC] if i + 1 < count else []
        return ids

    def state(self):
        """As the model holds it, each tensor once."""
        second = ("lang_encoder.old_decoder_blocks.", "lang_encoder.gated_cross_attn_layers.")
        tied = self.lm.config.tie_word_embeddings
        state = {name: tensor for name, tensor in self.model.state_dict().items()
                 if not name.startswith(second) and not name.endswith("position_ids")
                 and not (tied and name == "lang_encoder.lm_head.weight")}
        return {**state, **self.tower.norm}

    def configs(self):
        preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN),
                      "std": list(open_clip.OPENAI_DATASET_STD)}
        # Tables are published with more rows than are used.
        return {"config.json": {**self.config, "vocab_size": PADDED},
                "open_clip_config.json": {"model_cfg": OpenClip.config,
                                          "preprocess_cfg": preprocess}}


def eager(kind, config):
    config._attn_implementation = "eager"
    return kind(config)


class Mpt(OpenFlamingo):
    drawn, settled = dict(table=0.2, last=4.0), True
    config = dict(model_type="mpt", d_model=WIDTH, n_heads=4, n_layers=4, expansion_ratio=4,
                  max_seq_len=CONTEXT, vocab_size=ROWS, no_bias=True, layer_norm_epsilon=1e-5,
                  attn_config=dict(alibi=True, alibi_bias_max=8, attn_type="multihead_attention"))

    def __init__(self, generator):
        lm = eager(MptForCausalLM, MptConfig(**self.config))
        super().__init__(generator, lm, "transformer.blocks", [3])


class Mpt1b(OpenFlamingo):
    drawn, settled = dict(table=0.2, last=6.0), True
    config = dict(model_type="mosaic_gpt", d_model=WIDTH, n_heads=4, n_layers=2, mlp_ratio=4,
                  max_seq_len=CONTEXT, vocab_size=ROWS, no_bias=True, alibi=True,
                  alibi_bias_max=8, attn_qk_ln=True)

    def __init__(self, generator):
        lm = eager(MptForCausalLM, MptConfig(**dict(Mpt.config, n_layers=2)))
        for layer in lm.transformer.blocks:
            layer.attn.Wqkv = QkNorm(layer.attn.Wqkv, WIDTH)
        super().__init__(generator, lm, "transformer.blocks", [0, 1])

    def state(self):
        return {mosaic_name(name): tensor for name, tensor in super().state().items()}


class Neox(OpenFlamingo):
    config = dict(model_type="gpt_neox", hidden_size=WIDTH, num_attention_heads=4,
                  num_hidden_layers=4, intermediate_size=64, max_position_embeddings=CONTEXT,
                  vocab_size=ROWS, hidden_act="gelu", layer_norm_eps=1e-5, rotary_pct=1.0,
                  rotary_emb_base=10000, use_parallel_residual=False, tie_word_embeddings=False)

    def __init__(self, generator):
        lm = eager(GPTNeoXForCausalLM, GPTNeoXConfig(**self.config))
        super().__init__(generator, lm, "gpt_neox.layers", [1, 3])


class Opt(OpenFlamingo):
    drawn = dict(table=0.2, positions=0.2, last=4.0)
    config = dict(model_type="opt", hidden_size=WIDTH, num_attention_heads=4, num_hidden_layers=2,
                  ffn_dim=64, max_position_embeddings=CONTEXT, vocab_size=ROWS, dropout=0.0,
                  activation_function="relu", do_layer_norm_before=True,
                  word_embed_proj_dim=WIDTH, pad_token_id=1)

    def __init__(self, generator):
        lm = eager(OPTForCausalLM, OPTConfig(**self.config))
        super().__init__(generator, lm, "model.decoder.layers", [1])


class Llama(OpenFlamingo):
    drawn = dict(maps=1.4)
    config = dict(model_type="llama", hidden_size=WIDTH, num_attention_heads=4,
                  num_hidden_layers=4, intermediate_size=40, max_position_embeddings=CONTEXT,
                  vocab_size=ROWS, hidden_act="silu", rms_norm_eps=1e-6, rope_theta=10000.0,
                  tie_word_embeddings=False)

    def __init__(self, generator):
        lm = eager(LlamaForCausalLM, LlamaConfig(**self.config))
        super().__init__(generator, lm, "model.layers", [3])


class Mini(OpenFlamingo):
    marks, words = [7, 8], range(9, EOC)
    drawn, settled = dict(maps=1.4, table=0.4, positions=0.8, last=5.0), True
    config = dict(Opt.config, num_hidden_layers=4, do_layer_norm_before=False,
                  word_embed_proj_dim=24)

    def __init__(self, generator):
        lm = eager(OPTForCausalLM, OPTConfig(**self.config))
        super().__init__(generator, lm, "model.decoder.layers", [0, 2], Clip, 3, SquaredRelu)

    def state(self):
        state = {}
        for name, tensor in super().state().items():
            for old, new in [("vision_encoder.model.", "vision_encoder."),
                             ("perceiver.frame_embs", "perceiver.time_pos_emb"),
                             ("perceiver.", "flamingo.resampler."),
                             ("lang_encoder.model.", "flamingo.lm."),
                             ("gated_cross_attn_layer.", "xattn_block."),
                             ("decoder_layer.", "lm_block."),
                             ("xattn_block.ff.", "xattn_block.ffw."),
                             ("attn_gate", "alpha_attn"), ("ff_gate", "alpha_ffw")]:
                name = name.replace(old, new)
            if name.endswith("time_pos_emb"):
                tensor = tensor[:, None]
            if name.startswith("flamingo.resampler.") and name.endswith("to_kv.weight"):
                for part, rows in zip("kv", tensor.chunk(2)):
                    state[name.replace("to_kv", f"to_{part}")] = rows
            else:
                state[name] = tensor
        return state

    def configs(self):
        block = dict(heads=8, head_dim=4, mlp_width=2 * WIDTH, activation="squared_relu",
                     norm_eps=1e-5)
        tower = dict(width=VISUAL, layers=1, heads=2, mlp_width=48, activation="quick_gelu",
                     layer_norm_eps=1e-5)
        return {"config.json": dict(
            model_type="plume_flamingo",
            vision=dict(image_size=SIDE, stem=dict(kind="patch", size=PATCH), transformer=tower,
                        pool=dict(kind="class"), ln_pre=True),
            features=dict(class_token=True, ln_post=False),
            resampler=dict(block, kind=dict(kind="perceiver", latents=6), depth=1,
                           time_embeddings=3),
            xattn=dict(block, layers=[0, 2], gated_mlp=False, norm="layer", gate="scalar",
                       all_previous=False),
            lm=dict(vocab_size=ROWS, context=CONTEXT, width=WIDTH, embed_width=24, layers=4,
                    heads=4, mlp_width=64, activation="relu", gated_mlp=False, norm="layer",
                    norm_eps=1e-5, residual="post_norm", final_norm=False, qk_norm=False,
                    positions=dict(kind="learned", offset=2), bias=True, tied=True),
            image_token=7, more_image_tokens=[8], end_of_chunk=EOC)}


class Idefics:
    """As IDEFICS-9B-instruct: three tokens are added, the last ends an utterance."""

    BASE, BOS, EOS = 90, 1, 2
    AROUND, IMAGE, UTTERANCE = 90, 91, 92
    image_token, eos_token_id = IMAGE, EOS
    marks, ends, words = [IMAGE], [UTTERANCE, EOS], range(3, 90)
    config = dict(
        model_type="idefics", vocab_size=BASE, additional_vocab_size=3, hidden_size=WIDTH,
        intermediate_size=40, num_hidden_layers=4, num_attention_heads=4, hidden_act="silu",
        rms_norm_eps=1e-6, max_position_embeddings=CONTEXT + 64, tie_word_embeddings=False,
        cross_layer_interval=2, use_resampler=True, dropout=0.0, pad_token_id=0, bos_token_id=BOS,
        eos_token_id=EOS, alpha_type="float", qk_layer_norms=True,
        vision_config=dict(embed_dim=VISUAL, image_size=SIDE, patch_size=PATCH,
                           intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                           hidden_act="gelu"),
        perceiver_config=dict(use_resampler=True, resampler_n_latents=6, resampler_depth=1,
                              resampler_n_heads=4, resampler_head_dim=8,
                              qk_layer_norms_perceiver=True))

    def __init__(self, generator):
        config = {key: value for key, value in self.config.items() if key != "model_type"}
        self.model = eager(IdeficsForVisionText2Text, IdeficsConfig(**config)).eval()
        randomize(self.model, generator, self.EOS, maps=1.4)
        tables = (self.model.model.embed_tokens.additional_embedding,
                  self.model.lm_head.additional_fc)
        for table in tables:
            table.weight[self.IMAGE - self.BASE] *= 0.25
            table.weight[self.UTTERANCE - self.BASE] *= 2.0
        # Its beam search takes the columns of the logits from here.
        self.model.config.vocab_size = self.BASE + 3
        self.blocks = self.model.model.layers
        self.first = self.model.model.gated_cross_attn_layers[0]

    def convert_tokens_to_ids(self, _):
        """As the tokenizer that the processor asks."""
        return self.IMAGE

    def seen(self, ids, count):
        """As the processor has it: which picture each token sees."""
        numbers, _ = image_attention_mask_for_packed_input_ids(ids, self, "pt")
        return incremental_to_binary_attention_mask(numbers, "pt", num_classes=count)

    def logits(self, ids, pixels, mask=None, prompt=None):
        mask = torch.ones_like(ids) if mask is None else mask
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        seen = self.seen(ids[:, :prompt], pixels.shape[1])
        # What is written sees what the prompt's last token sees, whatever it is.
        written = ids.shape[1] - seen.shape[1]
        seen = torch.cat([seen, seen[:, -1:].expand(-1, written, -1)], dim=1)
        return self.model(input_ids=ids, attention_mask=mask, position_ids=positions,
                          pixel_values=pixels, image_attention_mask=seen, use_cache=False).logits

    def generate(self, ids, pixels, **options):
        return self.model.generate(
            input_ids=ids[None], attention_mask=torch.ones_like(ids)[None],
            pixel_values=pixels[None], image_attention_mask=self.seen(ids[None], len(pixels)),
            **options)

    def settle(self, _):
        """Its head is no table."""

    def prompt(self, count, draw):
        """In the one of five pictures a text ends after the second, and another begins."""
        ids = [self.BOS] + draw(2 if count else 5)
        for i in range(count):
            around = [] if ids[-1] == self.AROUND else [self.AROUND]
            ids += [*around, self.IMAGE, self.AROUND]
            # The middle mark of neighbours is shared.
            ids += [] if count == 32 and i % 4 == 1 else draw(1 if count == 32 else 2 + i % 2)
            ids += [self.EOS, self.BOS, *draw(2)] if (count, i) == (5, 1) else []
        return ids

    def state(self):
        return self.model.state_dict()

    def configs(self):
        return {"config.json": self.config}


class Close(Exception):
    """A decision that rounding might turn."""


def search(logits, prompt, penalty, repetition, ends, seen):
    """Beam search as `GenerationMixin._beam_search`, written again, over logits that are
    computed anew for every step → the text, whether a token ended it, how close the
    closest decision was, steps."""
    beams, finished, closest = [(0.0, [])], [], float("inf")
    for length in range(1, WRITTEN + 1):
        texts = torch.tensor([prompt + ids for _, ids in beams])
        scores = logits(texts)[:, -1].double().log_softmax(-1)
        for row, text in zip(scores, texts):
            known = text.unique()
            row[known] = torch.where(row[known] < 0, row[known] * repetition,
                                     row[known] / repetition)
        candidates = sorted(((score + row[id].item(), ids + [id]) for (score, ids), row
                             in zip(beams, scores) for id in range(len(row))),
                            key=lambda c: -c[0])
        going_on = [c for c in candidates if c[1][-1] not in ends]
        stopped = [(rank, c) for rank, c in enumerate(candidates[:40]) if c[1][-1] in ends]
        closest = min(closest, going_on[BEAMS - 1][0] - going_on[BEAMS][0])
        for rank, (score, _) in stopped:
            edge = candidates[BEAMS if rank < BEAMS else BEAMS - 1][0]
            closest = min(closest, abs(score - edge))
        over = candidates[:BEAMS] if length == WRITTEN else [
            c for rank, c in stopped if rank < BEAMS]
        finished += [(score / length ** penalty, ids) for score, ids in over]
        finished = sorted(finished, key=lambda f: -f[0])[:BEAMS]
        beams = going_on[:BEAMS]
        if len(finished) == BEAMS and length < WRITTEN:
            hope, worst = beams[0][0] / length ** penalty, finished[-1][0]
            closest = min(closest, abs(hope - worst) * length ** penalty)
            if hope <= worst:
                break
    (first, best), (second, _) = finished[:2]
    closest = min(closest, (first - second) * len(best) ** penalty)
    ended = best[-1] in ends
    seen.update(id for _, ids in finished + beams for id in ids)
    return best[:len(best) - ended], ended, closest, length


class Apart(StoppingCriteria):
    """Stops a text where two tokens were close, or where it says the same again."""

    def __call__(self, ids, scores, **_):
        over = margin(scores[-1]) < CLOSE or len(ids[0, -24:].unique()) < 4
        return torch.full((len(ids),), over)


def searches(generate, logits, prompt, ends, marks=(), apart=CLOSE, differ=True):
    """What each of `SEARCHES` finds, by the reference and again; how close its closest
    decision was; its tokens and steps."""
    found, ended, closest, lengths, seen = {}, [], [], [], set()
    for i, (penalty, repetition, count) in enumerate(SEARCHES):
        *again, close, steps = search(logits, prompt, penalty, repetition, ends[:count], seen)
        if close < apart:
            raise Close(f"beams.{i}")
        if seen & set(marks):
            raise Close("writes a picture")
        ids = generate(num_beams=BEAMS, max_new_tokens=WRITTEN, do_sample=False,
                       length_penalty=penalty, eos_token_id=ends[:count],
                       repetition_penalty=repetition, pad_token_id=1)
        ids = ids[0, len(prompt):].tolist()
        over = ids[-1] in ends[:count]
        ids = ids[:len(ids) - over]
        assert [ids, over] == again, f"a search differs: {ids}, {again}"
        found[f"beams.{i}"] = torch.tensor(ids)
        ended.append(over)
        closest.append(close)
        lengths.append((len(ids), steps))
    if not ended[0] or min(lengths)[0] == 0:
        raise Close("no text ends early")
    if differ and lengths[0][0] == lengths[2][0]:
        raise Close("penalties change nothing")
    if differ and all(steps == WRITTEN for _, steps in lengths):
        raise Close("no search ends early")
    found["beams"], found["ended"] = torch.tensor(SEARCHES), torch.tensor(ended)
    return found, closest, lengths


def margin(logits):
    first, second = logits.topk(2).values.unbind(-1)
    return (first - second).min().item()


def chances(logits):
    """→ probabilities, and how close the first that is left out was to the last kept."""
    tools = LogitsProcessorList([TemperatureLogitsWarper(0.7), TopKLogitsWarper(12),
                                 TopPLogitsWarper(0.8)])
    kept = tools(None, logits[None].clone())[0].softmax(-1)
    likely = (logits / 0.7).topk(12).values.softmax(-1).cumsum(-1)
    return kept, (likely - 0.8).abs().min().item()


def record(model):
    """Collects the residual stream before the first block and after each."""
    states = []

    def before(_, args, kwargs):
        if not states:
            states.append((args[0] if args else kwargs["hidden_states"]).clone())

    def after(_, __, out):
        states.append((out[0] if isinstance(out, tuple) else out).clone())

    first = getattr(model, "first", model.blocks[0])
    hooks = [first.register_forward_pre_hook(before, with_kwargs=True)]
    hooks += [block.register_forward_hook(after) for block in model.blocks]
    return states, hooks


def rounding(model, ids, single):
    """How far states and logits are from those of twice the precision."""
    torch.set_default_dtype(torch.float64)
    model.model.double()
    states, hooks = record(model)
    logits = model.logits(torch.tensor([ids]), pictures(5)[None].double())[0]
    double = torch.cat(states), logits
    [hook.remove() for hook in hooks]
    model.model.float()
    torch.set_default_dtype(torch.float32)
    return [(a - b).abs().max().item() for a, b in zip(double, single)]


def attempt(kind, seed):
    """All that is written down, or `Close`."""
    generator = torch.Generator().manual_seed(seed)
    model = kind(generator)

    def draw(count):
        words = torch.randint(len(model.words), (count,), generator=generator)
        return [model.words[i] for i in words]

    prompts = {count: model.prompt(count, draw) for count in PROMPTS}
    model.settle(prompts[5])
    answers = [draw(1), draw(2), draw(4), draw(6) + model.ends[:1]]
    prompt, five = prompts[5], pictures(5)
    far = {}

    def check(what, by):
        far[what] = by
        if by < CLOSE:
            raise Close(what)

    tensors = {"marks": torch.tensor(model.marks), "ends": torch.tensor(model.ends)}
    options = dict(do_sample=False, max_new_tokens=GREEDY, eos_token_id=PADDED, pad_token_id=1,
                   return_dict_in_generate=True, output_scores=True,
                   stopping_criteria=StoppingCriteriaList([Apart()]))
    for name, penalty in [("greedy", 1.0), ("greedy.repeated", 1.3)]:
        result = model.generate(torch.tensor(prompt), five, repetition_penalty=penalty, **options)
        check(name, margin(torch.cat(result.scores)))
        ids = result.sequences[0, len(prompt):]
        if len(ids) < GREEDY:
            raise Close("the same over and over")
        if set(ids.tolist()) & set(model.marks):
            raise Close("writes a picture")
        tensors[name] = ids
    # Without a cache.
    text = torch.tensor([prompt + tensors["greedy"].tolist()])
    whole = model.logits(text, five[None], prompt=len(prompt))[0, len(prompt) - 1:-1]
    assert torch.equal(whole.argmax(-1), tensors["greedy"]), "differs with a cache"
    check("greedy without a cache", margin(whole))
    last = model.logits(torch.tensor([prompt]), five[None])[0, -1]
    tensors["chances"], far_off = chances(last)
    check("chances", far_off)

    found, closest, lengths = searches(
        lambda **options: model.generate(torch.tensor(prompt), five, **options),
        lambda ids: model.logits(ids, five[None].expand(len(ids), -1, -1, -1, -1),
                                 prompt=len(prompt)), prompt, model.ends, model.marks)
    far.update({f"beams.{i}": by for i, by in enumerate(closest)})
    tensors.update(found)

    for count, ids in prompts.items():
        shown = pictures(count)
        if count == 5:
            states, hooks = record(model)
        logits = model.logits(torch.tensor([ids]), shown[None])[0]
        if count == 5:
            [hook.remove() for hook in hooks]
            assert len(states) == len(model.blocks) + 1
            tensors["states"] = torch.cat(states)
            off = rounding(model, ids, (tensors["states"], logits))
            if off[0] > 4e-5 or off[1] > 2e-4:
                raise Close(f"rounding counts: {off}")
            far["states by rounding"], far["logits by rounding"] = off
        if count:
            other = shown.clone()
            other[-1] = picture(1)
            change = (model.logits(torch.tensor([ids]), other[None])[0, -1] - logits[-1]).abs()
            far[f"another picture, {count}"] = change.max().item()
            assert change.max() > 0.1, "a picture is not seen"
        tensors[f"prompt.{count}"] = torch.tensor(ids)
        tensors[f"logits.{count}"] = logits[-LAST:] if count == 32 else logits
    sums = []
    for i, answer in enumerate(answers):
        tensors[f"answer.{i}"] = torch.tensor(answer)
        rows = model.logits(torch.tensor([prompt + answer]), five[None], prompt=len(prompt))
        rows = rows[0, len(prompt) - 1:-1]
        each = rows.double().log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])
        sums.append([each.sum().item(), each.mean().item()])
    tensors["likelihoods"] = torch.tensor(sums)

    cut = len(prompt) - len(prompts[1])
    ids = torch.tensor([prompt, [1] * cut + prompts[1]])
    mask = torch.ones_like(ids)
    mask[1, :cut] = 0
    shown = torch.stack([five, torch.cat([pictures(1), torch.zeros(4, 3, SIDE, SIDE)])])
    tensors["batch"] = model.logits(ids, shown, mask)[:, -1]
    alone = torch.stack([tensors["logits.5"][-1], tensors["logits.1"][-1]])
    assert (tensors["batch"] - alone).abs().max() < 1e-4, "a batch differs"
    return model, tensors, far, lengths


def language_models(out):
    """For those of golden/lm: searches in which texts end early, after whichever prompt
    and with whichever two tokens that brings about."""
    lms, tensors = Path(__file__).parent / "lm", {}
    for folder in sorted(path for path in lms.iterdir() if path.is_dir()):
        name, config = folder.name, json.loads((folder / "config.json").read_text())
        if name == "mosaic-gpt":
            config = dict(json.loads((lms / "mpt/config.json").read_text()), d_model=32, n_heads=4)
            model = eager(MptForCausalLM, MptConfig(**config))
            for layer in model.transformer.blocks:
                layer.attn.Wqkv = QkNorm(layer.attn.Wqkv, 32)
            state = load_file(folder / "model.safetensors")
            for key, parameter in model.named_parameters():
                parameter.copy_(state[mosaic_name(key)])
            model.eval()
        else:
            model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
        golden = load_file(folder / "io.safetensors")
        logits = model(golden["input_ids"].long(), use_cache=False).logits
        assert (logits - golden["logits"]).abs().max() < 1e-5, name

        def generate(**options):
            ids = torch.tensor([prompt])  # of the loop below
            return model.generate(ids, attention_mask=torch.ones_like(ids), **options)

        texts = [text[:count].tolist() for count in (9, 7, 5) for text in golden["input_ids"]]
        likely = logits.mean((0, 1)).argsort(descending=True).tolist()[:24]
        tries = itertools.product((True, False), likely[:1], texts, likely[1:])
        for differ, other, prompt, end in tries:
            ends = [end, other]
            try:
                found, far, lengths = searches(
                    generate, lambda ids: model(ids, use_cache=False).logits, prompt, ends,
                    apart=CLOSE / 5, differ=differ)
                break
            except Close:
                pass
        else:
            raise ValueError(f"{name}: no search is sure")
        found.update(prompt=torch.tensor(prompt), ends=torch.tensor(ends))
        tensors.update({f"{name}.{key}": value for key, value in found.items()})
        print(f"{name}: tokens and steps of the searches {lengths}, apart by {min(far):.3f}")
    save_file({key: whole(value) for key, value in tensors.items()}, out / "lm.safetensors")


# With the seeds at which looking begins: those that were found.
KINDS = {"mpt": (Mpt, 21), "mpt-1b": (Mpt1b, 1167), "neox": (Neox, 75), "opt": (Opt, 26),
         "llama": (Llama, 23), "idefics": (Idefics, 21), "mini": (Mini, 1139)}


def whole(tensor):
    """As it is kept."""
    return (tensor if tensor.is_floating_point() else tensor.int()).clone().contiguous()


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "writing"
    for name in sys.argv[2:] or [*KINDS, "lm"]:
        if name == "lm":
            language_models(out)
            continue
        kind, first = KINDS[name]
        for seed in itertools.count(first):
            try:
                model, tensors, far, lengths = attempt(kind, seed)
                break
            except Close as close:
                print(f"{name}: seed {seed}: {close}", flush=True)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: whole(value) for key, value in tensors.items()},
                  folder / "io.safetensors")
        state = {key: value.half().contiguous().clone() for key, value in model.state().items()}
        assert all(torch.equal(value.float(), model.state()[key]) for key, value in state.items())
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        for file, config in model.configs().items():
            (folder / file).write_text(json.dumps(config, indent=2) + "\n")
        print(f"{name}: seed {seed}; tokens and steps of the searches {lengths}; apart by "
              + ", ".join(f"{what} {by:.2g}" for what, by in far.items()), flush=True)


if __name__ == "__main__":
    main()
