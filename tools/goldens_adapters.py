#!/usr/bin/env python3
"""Makes LoRA adapters for a tiny checkpoint and merges them with PEFT.

  OUT/adapters/NAME/             adapter_config.json and adapter_model.safetensors, as PEFT saves them
  OUT/adapters/NAME.safetensors  some rows of each weight that the merge changes, in float32, named
                                 WEIGHT:FIRST_ROW

Names: `plain` changes every projection of two layers; `patterns` has rslora, ranks and alphas of its
own for some modules, and the embedding; `split` was trained on the model as LlamaForCausalLM has it, its
q, v and gate projections apart, and its rows are those of the fused weights; `both` is `plain` merged first
and then `patterns`.

Needs a Python with torch, transformers and peft:
  python3 -m venv VENV
  VENV/bin/pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6 safetensors

  VENV/bin/python tools/goldens_adapters.py --out DIR

tools/goldens does all that.
"""

import argparse
import json
import pathlib
import shutil
import tempfile
import warnings

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "tests/data/phi35-tiny"
SOME_ROWS = 2

ADAPTERS = {
    "plain": dict(r=4, lora_alpha=8, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
                  layers_to_transform=[0, 3]),
    "patterns": dict(r=2, lora_alpha=3, use_rslora=True, target_modules=["down_proj", "o_proj", "embed_tokens"],
                     layers_to_transform=None, rank_pattern={"layers.1.mlp.down_proj": 3, "o_proj": 1},
                     alpha_pattern={"layers.1.mlp.down_proj": 16, "embed_tokens": 5}),
    "split": dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "gate_proj"], layers_to_transform=[2]),
}


def split_model(folder):
    """The checkpoint as LlamaForCausalLM, without rope scaling: the adapter does not look at it."""
    config = json.loads((MODEL / "config.json").read_text())
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_scaling": None}
    config.pop("original_max_position_embeddings")
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    key = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    tensors = {}
    for name, weight in load_file(MODEL / "model.safetensors").items():
        if "qkv_proj" in name:
            parts = zip("qkv", weight.split([hidden, key, key]))
            tensors |= {name.replace("qkv_proj", f"{letter}_proj"): rows.clone() for letter, rows in parts}
        elif "gate_up_proj" in name:
            parts = zip(("gate", "up"), weight.split([inner, inner]))
            tensors |= {name.replace("gate_up_proj", f"{part}_proj"): rows.clone() for part, rows in parts}
        else:
            tensors[name] = weight
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def make_adapter(base, settings, folder):
    torch.manual_seed(0)
    model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", **settings))
    random = np.random.default_rng(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.from_numpy(random.normal(0, 0.05, parameter.shape).astype(np.float32))
    model.save_pretrained(folder, save_embedding_layers=False)  # 2 MB that say nothing new
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"  # where the base stood on this machine says nothing
    config = json.loads(path.read_text()) | {"base_model_name_or_path": "phi35-tiny"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def merged(base, adapters):
    model = load(base)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return before, model.state_dict()


def fused_place(name, config):
    """The weight of the fused model, and its first row, that a split weight's rows are."""
    hidden = config["hidden_size"]
    key = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    for part, weight, row in (("q_proj", "qkv_proj", 0), ("k_proj", "qkv_proj", hidden),
                              ("v_proj", "qkv_proj", hidden + key), ("gate_proj", "gate_up_proj", 0)):
        if f".{part}." in name:
            return name.replace(f".{part}.", f".{weight}."), row
    return name, 0


def write_rows(before, after, config, path):
    rows = {}
    for name, weight in after.items():
        if torch.equal(weight, before[name]):
            continue
        fused, first = fused_place(name, config)
        for row in (0, weight.shape[0] // 2, weight.shape[0] - SOME_ROWS):
            rows[f"{fused}:{first + row}"] = weight[row:row + SOME_ROWS].clone()
    save_file(rows, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out / "adapters"
    warnings.simplefilter("ignore")
    config = json.loads((MODEL / "config.json").read_text())
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        split = split_model(pathlib.Path(temporary) / "split")
        for name, settings in ADAPTERS.items():
            base = split if name == "split" else MODEL
            make_adapter(base, settings, out / name)
            write_rows(*merged(base, [out / name]), config, out / f"{name}.safetensors")
    write_rows(*merged(MODEL, [out / "plain", out / "patterns"]), config, out / "both.safetensors")


main()
