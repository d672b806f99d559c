#!/usr/bin/env python3
"""Lists what onnxruntime-genai's own builder writes for the tiny checkpoints.

  OUT/onnx/weights/MODEL.json      a digest of every initializer, for each build of WEIGHT_BUILDS
  OUT/onnx/graphs/MODEL-EP-TYPE.json    nodes, inputs, outputs and genai_config.json of GRAPH_BUILDS
  OUT/onnx/rope/MODEL.json         some rows of the rotary tables
  OUT/onnx/quality/MODEL.json      divergence of each build for cpu from fp32, as onnxruntime runs it
  OUT/onnx/window.safetensors      Hugging Face's logits of phi35-tiny with sliding_window 100

Needs a Python with torch, transformers, onnxruntime, onnxruntime-genai, onnx and onnx-ir:
  python3 -m venv VENV
  VENV/bin/pip install torch==2.13.0 transformers==5.23.0 sentencepiece safetensors numpy==2.4.6 \\
    onnxruntime==1.31.1 onnxruntime-genai==0.18.0 onnx==1.23.2 onnx-ir==1.1.0

  VENV/bin/python tools/goldens_onnx.py --out DIR

tools/goldens does all that.
"""

import argparse
import contextlib
import io
import json
import logging
import pathlib
import shutil
import sys
import tempfile

from goldens_json import write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tests" / "peers" / "onnx"), str(ROOT / "tests" / "peers")]
import listing  # lists and measures folders, the builder's here and ours in the tests
from quality import Quality
import runtime

MODELS = ("phi35-tiny", "phi4mini-tiny")

# name: (precision, execution provider, extra options). tests/peers/onnx/outputs.py has phiq's
# options for each.
WEIGHT_BUILDS = {
    "fp32": ("fp32", "cpu", {}),
    "int4": ("int4", "cpu", {}),
    "int4-bs16": ("int4", "cpu", {"block_size": 16}),
    "int4-bs64": ("int4", "cpu", {"block_size": 64}),
    "int4-bs128": ("int4", "cpu", {"block_size": 128}),
    "int4-bs256": ("int4", "cpu", {"block_size": 256}),
    "int4-acc1": ("int4", "cpu", {"accuracy_level": 1}),
    "int4-asym": ("int4", "cpu", {"is_symmetric": "false"}),
    "int4-asym-bs64": ("int4", "cpu", {"is_symmetric": "false", "block_size": 64}),
    "int4-unshared": ("int4", "cpu", {"shared_embeddings": "false"}),
    "int4-asym-unshared": ("int4", "cpu", {"is_symmetric": "false", "shared_embeddings": "false"}),
    "int4-gather": ("int4", "cpu", {"op_types_to_quantize": "MatMul/Gather"}),
    "int4-gather-unshared": ("int4", "cpu", {"op_types_to_quantize": "MatMul/Gather", "shared_embeddings": "false"}),
    "int4-rtn": ("int4", "cpu", {"algo_config": "rtn"}),
    "int4-k_quant": ("int4", "cpu", {"algo_config": "k_quant"}),
    "int4-last-int8": ("int4", "cpu", {"matmul_mixed_precision": "last_matmul:int8"}),
    "k_quant_mixed": ("int4", "cpu", {"algo_config": "k_quant_mixed"}),
    "k_quant_last": ("int4", "cpu", {"algo_config": "k_quant_last"}),
    "rtn_last": ("int4", "cpu", {"algo_config": "rtn_last"}),
    "int8": ("int8", "cpu", {}),
    "int8-bs128": ("int8", "cpu", {"block_size": 128}),
    "int8-asym": ("int8", "cpu", {"is_symmetric": "false"}),
    "int8-rtn": ("int8", "cpu", {"algo_config": "rtn"}),
    "int8-k_quant": ("int8", "cpu", {"algo_config": "k_quant"}),
    "cuda-fp16": ("fp16", "cuda", {}),
    "cuda-int4": ("int4", "cuda", {}),
    "cuda-int8": ("int8", "cuda", {}),
    "dml-int4": ("int4", "dml", {}),
}

# Where the embedding is tied, it is shared by default; the other names would say the same twice.
FOR_TIED = {"int4-unshared", "int4-asym-unshared", "int4-gather-unshared"}
FOR_UNTIED = {"int4-gather"}

# The builder's graph for fp16 on cpu and fp32 on cuda is not ours (it does not run as it should).
GRAPH_BUILDS = [("cpu", "fp32"), ("cpu", "int8"), ("cpu", "int4"),
                ("cuda", "fp16"), ("cuda", "int8"), ("cuda", "int4"),
                ("dml", "fp16"), ("dml", "int4"),
                ("webgpu", "fp16"), ("webgpu", "int4"), ("webgpu", "fp32")]

# Rows of the rotary tables, both ends and the limit of the short factors among them.
ROPE_ROWS = [0, 1, 2, 3, 5, 17, 100, 255, 510, 511, 512, 513, 1000, 2047, 3000, 4094, 4095]


def build(checkpoint, out, precision, provider, extra):
    """Runs the builder; raises what it raises."""
    from onnxruntime_genai.models import builder
    pairs = [f"{key}={value}" for key, value in extra.items()]
    logging.disable(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), \
            tempfile.TemporaryDirectory() as cache:
        options = builder.parse_extra_options("", str(checkpoint), str(out), precision, provider, cache, pairs)
        builder.create_model("", str(checkpoint), str(out), precision, provider, cache, **options)
    return out


def reason_not_to_load(folder):
    """onnxruntime's message if it refuses the folder, or None."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    except Exception as error:  # pybind's classes have no common base
        return str(error).splitlines()[0].replace(str(folder) + "/", "").removeprefix("[ONNXRuntimeError] : ")
    return None


def rope_tables_of(model):
    """Some rows of the four tables, which the builder keeps inside the two branches of an If."""
    from onnx import numpy_helper
    tables = {}
    for node in model.graph.node:
        for branch in node.attribute if node.op_type == "If" else ():
            for constant in branch.g.node:
                table = numpy_helper.to_array(constant.attribute[0].t)
                tables[constant.output[0]] = {
                    "dims": list(table.shape),
                    "rows": {row: [float(str(value)) for value in table[row]] for row in ROPE_ROWS if row < len(table)}}
    return tables


def list_builds(name, checkpoint, text, out, scratch):
    import onnx
    tied = json.loads((checkpoint / "config.json").read_text())["tie_word_embeddings"]
    builds = {build_name: description for build_name, description in WEIGHT_BUILDS.items()
              if build_name not in (FOR_UNTIED if tied else FOR_TIED)}
    graphs = {f"{provider}-{precision}": (precision, provider, {}) for provider, precision in GRAPH_BUILDS}
    weights, quality, base, done = {}, {}, None, {}
    for build_name, description in [*builds.items(), *graphs.items()]:
        precision, provider, extra = description
        identity = json.dumps(description)
        if identity not in done:
            folder = scratch / name / build_name
            try:
                build(checkpoint, folder, precision, provider, extra)
                # Only the cpu folders are sure to load on this machine.
                failure = reason_not_to_load(folder) if provider == "cpu" else None
                failure = failure and f"onnxruntime refuses the folder: {failure}"
            except Exception as error:  # the builder raises whatever comes up
                failure = f"the builder fails: {type(error).__name__}: {error}".splitlines()[0]
            done[identity] = failure, None if failure else onnx.load(folder / "model.onnx"), folder
        failure, model, folder = done[identity]
        if build_name in builds:
            weights[build_name] = {"precision": precision, "provider": provider, "options": extra,
                                   **({"failure": failure} if failure else {"initializers": listing.weights_of(model)})}
            if provider == "cpu" and not failure:
                session = runtime.Session(folder)
                base = base or Quality(ids_of(checkpoint, text), session)
                quality[build_name] = {key: float(f"{value:.4g}") for key, value in base.measure(session).items()}
        if build_name in graphs:
            write_json(out / "graphs" / f"{name}-{build_name}.json", listing.listing_of(folder, model), 3)
        if build_name == "cpu-fp32":
            write_json(out / "rope" / f"{name}.json", rope_tables_of(model), 3)
    write_json(out / "weights" / f"{name}.json", weights, 3)
    write_json(out / "quality" / f"{name}.json", quality, 1)


def ids_of(checkpoint, text):
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(checkpoint)(text, add_special_tokens=False)["input_ids"]


def write_window_logits(checkpoint, text, out, scratch):
    """Logits with a sliding window of 100 tokens, at a length below and one above the 512 tokens
    that the short rotary factors serve."""
    import torch
    from safetensors.torch import save_file
    from transformers import Phi3ForCausalLM
    torch.set_grad_enabled(False)
    encoded = ids_of(checkpoint, text)

    def logits(window, ids):
        folder = copy_with_config(checkpoint, scratch / f"window-{window}", sliding_window=window)
        model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        return model(torch.tensor([ids]), use_cache=False).logits[0]

    tensors = {}
    for case, ids, step in [("short", encoded[5000:5300], 8), ("long", encoded[9000:9600], 40)]:
        wanted = logits(100, ids)
        for window in (99, 101):
            assert (logits(window, ids) - wanted).abs().max() > 0.1, "the mask does not depend on the window"
        positions = sorted({*range(0, len(ids), step), *range(len(ids) - 20, len(ids))})
        tensors |= {f"{case}.ids": torch.tensor(ids), f"{case}.positions": torch.tensor(positions),
                    f"{case}.logits": wanted[positions].contiguous()}
    save_file(tensors, out / "window.safetensors")
    (out / "window.safetensors").chmod(0o644)


def copy_with_config(checkpoint, folder, **changes):
    """A copy of a checkpoint without its reference figures, some keys of config.json changed."""
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("reference"), dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}, indent=1))
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "tests/data", help="where the checkpoints are")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    out = options.out / "onnx"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        text = (options.data / "heldout.txt").read_text()
        for name in MODELS:
            list_builds(name, options.data / name, text, out, scratch)
        write_window_logits(options.data / "phi35-tiny", text, out, scratch)


if __name__ == "__main__":
    main()
