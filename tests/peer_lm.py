"""Times a language model with transformers and torch on the CPU, as `plume bench
--model DIR` does: what a person with Python has.

usage: python tests/peer_lm.py DIR THREADS
       python tests/peer_lm.py --make DIR

DIR is as published: config.json and weights. --make writes one of random weights: a
LLaMA of 12 layers and a width of 768, 135 million parameters, with a tokenizer of no
meaning. Prints what `plume bench --json` prints of a model that writes (see `plume
bench --help`). Needs torch and transformers.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

PROMPT, BUDGET = 256, 1.5


def make(out):
    config = LlamaConfig(
        vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
        num_attention_heads=12, max_position_embeddings=1024,
    )
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(out)
    vocabulary = {f"w{i}": i for i in range(100)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}
    tokenizer = {"version": "1.0", "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    (Path(out) / "tokenizer.json").write_text(json.dumps(tokenizer))


def row(run):
    run()
    begun, turns = time.perf_counter(), []
    while len(turns) < 3 or time.perf_counter() - begun < BUDGET:
        start = time.perf_counter()
        run()
        turns.append(1e3 * (time.perf_counter() - start))
    return {
        "batch": 1, "least": min(turns), "median": statistics.median(turns), "most": max(turns),
    }


def main(folder, threads):
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    length = min(PROMPT, model.config.max_position_embeddings // 2)
    prompt, step = torch.ones(1, length, dtype=torch.long), torch.ones(1, 1, dtype=torch.long)
    with torch.inference_mode():
        cache = model(prompt, use_cache=True).past_key_values

        def token():
            model(step, past_key_values=cache, use_cache=True)
            cache.crop(length)

        prefill = row(lambda: model(prompt, use_cache=True, logits_to_keep=1))
        token = row(token)
    head = model.get_output_embeddings().weight
    blocks = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name)
    print(json.dumps({
        "model": folder, "device": f"CPU · torch {torch.__version__}", "prompt": length,
        "prefill": prefill, "token": token, "bytes": 4 * (blocks + head.numel()),
    }))


if __name__ == "__main__":
    make(sys.argv[2]) if sys.argv[1] == "--make" else main(*sys.argv[1:])
