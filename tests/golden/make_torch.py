"""PyTorch files as publishers make them, of the weights in clip/oc-quick, and
tensors that lie in their storages in every way: what Plume's reader of such
files is held against.

usage: python tests/golden/make_torch.py [OUT]     (OUT: tests/golden/torch)

state.bin      torch.save of the state dictionary
archive.pt     TorchScript, as OpenAI publishes: the model of open_clip, scripted
training.pt    what a training run saves: epoch, and the weights below state_dict
               under the names that parallel training gives them
sharded/       the weights in two files beside an index, as transformers saved them
views.bin      slices, transposed and scalar tensors, of every float type;
               views.safetensors holds their numbers in f32
old.bin        the format before PyTorch 1.6, which is refused
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "torch"
    out.mkdir(parents=True, exist_ok=True)
    source = HERE / "clip" / "oc-quick"
    state = load_file(source / "open_clip_model.safetensors")
    torch.save(state, out / "state.bin")
    torch.save({"epoch": 3, "name": "run", "loss": 0.25, "steps": (1, [2, None, True]),
                "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
               out / "training.pt")
    torch.save({"x": torch.ones(2)}, out / "old.bin", _use_new_zipfile_serialization=False)

    sharded = out / "sharded"
    sharded.mkdir(exist_ok=True)
    weight_map = {}
    for part in range(2):
        file = f"pytorch_model-{part + 1:05}-of-00002.bin"
        names = sorted(state)[part::2]
        torch.save({name: state[name] for name in names}, sharded / file)
        weight_map |= {name: file for name in names}
    size = sum(tensor.nbytes for tensor in state.values())
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(
        {"metadata": {"total_size": size}, "weight_map": weight_map}, indent=2) + "\n")

    config = json.loads((source / "open_clip_config.json").read_text())["model_cfg"]
    model = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"],
                 quick_gelu=config.get("quick_gelu", False)).eval()
    model.load_state_dict(state)
    # As OpenAI's archives have them, beside the weights.
    for name in ("input_resolution", "context_length", "vocab_size"):
        if not hasattr(model, name):
            model.register_buffer(name, torch.tensor(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), out / "archive.pt")

    base = torch.randn(6, 8, 5, generator=torch.Generator().manual_seed(1))
    views = {
        "whole": base,
        "slice": base[2:4],
        "column": base[:, 3],
        "turned": base.permute(2, 0, 1),
        "steps": base[::2, 1::3],
        "scalar": base[1, 2, 3],
        "parameter": torch.nn.Parameter(base[0]),
        "half": base.half()[:, :, 1:],
        "bfloat": base.bfloat16().transpose(0, 1),
        "double": base.double()[3],
        "empty": base[:0],
    }
    torch.save({**views, "whole_numbers": torch.arange(4)}, out / "views.bin")
    save_file({name: tensor.detach().float().contiguous().clone()
               for name, tensor in views.items()}, out / "views.safetensors")


if __name__ == "__main__":
    main()
