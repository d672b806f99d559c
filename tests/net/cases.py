"""The conversions that the net holds: every type of every format, and every option that changes a byte."""
import json

import numpy as np

import harness

TINY = ("phi35-tiny", "phi4mini-tiny")

GGUF = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_1", "Q5_K_M", "Q5_K_S", "Q5_0", "Q4_1", "Q4_K_M", "Q4_K_S", "Q3_K_L",
        "IQ4_NL", "Q4_0", "IQ4_XS", "Q3_K_M", "Q3_K_S", "Q2_K")
ONNX = ("fp32", "fp16", "int8", "k_quant_mixed", "k_quant_last", "rtn_last", "int4")
OPENVINO = ("F32", "F16", "BF16", "INT8_ASYM", "INT8_SYM", "INT4_ASYM", "INT4_SYM")
MLX_FLOATS = ("F32", "F16", "BF16")
MLX_AFFINE = ("8bit", "6bit", "5bit", "mixed_4_6", "4bit", "mixed_3_6", "mixed_3_4", "3bit", "mixed_2_6", "2bit")
MLX_SMALL_FLOATS = ("mxfp8", "nvfp4", "mxfp4")
TORCH = ("W8A16", "GPTQ-Int8", "W8A8", "W4A16", "GPTQ-Int4", "AWQ")
SAFETENSORS = ("F32", "as-is", "BF16", "F16")
LITERT = ("fp32", "int8", "int4_attention8", "int4", "int4_all")
TYPES = {"gguf": GGUF, "onnx": ONNX, "openvino": OPENVINO, "mlx": MLX_FLOATS + MLX_AFFINE + MLX_SMALL_FLOATS,
         "torch": TORCH, "litert": LITERT, "safetensors": SAFETENSORS}

# Several formats in one run: each output is what it is alone.
TOGETHER = {("--format gguf,onnx --precision int8"): ("--type Q8_0", "--format onnx --type int8"),
            ("--format torch,gguf --precision int8"): ("--format torch --type W8A8", "--type Q8_0"),
            ("--format mlx,openvino --precision int4"): ("--format mlx --type 4bit", "--format openvino --type INT4_SYM"),
            ("--format gguf,onnx,openvino,mlx --precision int4"): (
                "--type Q4_K_M", "--format onnx --type int4", "--format openvino --type INT4_SYM",
                "--format mlx --type 4bit"),
            ("--format mlx,openvino,onnx,gguf --precision fp16"): (
                "--format mlx --type F16", "--format openvino --type F16", "--format onnx --type fp16", "--type F16")}


def gguf():
    yield from (f"--type {type}" for type in GGUF)
    for rule in ("lm_head=Q8_0", "embed_tokens=Q4_0", "down_proj=Q2_K --tensor-type layers.2.=Q8_0",
                 "qkv_proj=IQ4_XS", "gate_up_proj=F32"):
        yield f"--type Q4_K_M --tensor-type {rule}"
    yield "--type Q4_K_M --split-max-size 1M"
    yield "--type F16 --split-max-size 2M"


def onnx_codes(type):
    """Method, group size, zero points."""
    for group in ("", " --group-size 16", " --group-size 64", " --group-size 128", " --group-size 256"):
        yield f"--type {type}{group}"
        yield f"--type {type}{group} --asym"
        yield f"--type {type}{group} --method rtn"
        yield f"--type {type}{group} --method rtn --asym"
        yield f"--type {type}{group} --method k_quant"


def onnx_graphs(tied):
    """Provider, runtime, activations, and what becomes of embedding and head."""
    for ep in ("", "--ep cuda ", "--ep webgpu ", "--ep dml "):
        for type in ONNX:
            if type != "fp32" or ep in ("", "--ep webgpu "):
                yield f"{ep}--type {type}"
        yield f"{ep}--type int4 --asym"
        yield f"{ep}--type int4 --tensor-type embed_tokens=int4"
        yield f"{ep}--type int4 --tensor-type embed_tokens=float --tensor-type lm_head=float"
        yield f"{ep}--type int4 --tensor-type lm_head=int8"
        yield f"{ep}--type int4 --max-length 128"
    for version in ("1.20", "1.22", "1.24", "current"):
        yield f"--type int4 --min-onnxruntime {version}"
        yield f"--type int4 --min-onnxruntime {version} --asym"
    for version in ("1.22", "1.24"):
        yield f"--type int8 --min-onnxruntime {version}"
        yield f"--type k_quant_mixed --min-onnxruntime {version}"
    for level in range(5):
        yield f"--type int4 --accuracy-level {level}"
    yield "--type int8 --accuracy-level 0"
    for rule in ("embed_tokens=int8", "embed_tokens=int4", "down_proj=int8", "qkv_proj=float"):
        yield f"--type int4 --tensor-type {rule} --asym"
        yield f"--type int8 --tensor-type {rule}"
        yield f"--type fp32 --tensor-type {rule.replace('float', 'int4')}"
    yield "--type int8 --activations dynamic"
    yield "--type int8 --activations dynamic --tensor-type lm_head=float"
    if tied:
        yield "--type int8 --tensor-type embed_tokens=int8 --asym"
        yield "--type k_quant_mixed --tensor-type embed_tokens=float"


def openvino():
    yield from (f"--type {type}" for type in OPENVINO)
    for type in ("INT4_ASYM", "INT4_SYM"):
        for group in ("4", "6", "32", "64", "256", "row"):
            yield f"--type {type} --ratio 1 --group-size {group}"
        for ratio in ("0.2", "0.4", "0.8", "1"):
            yield f"--type {type} --ratio {ratio}"
        yield f"--type {type} --ratio 0.5 --group-size 32"
    for rule in ("lm_head=INT4_SYM", "embed_tokens=F16", "down_proj=BF16", "qkv_proj=INT8_SYM"):
        yield f"--type INT4_ASYM --tensor-type {rule}"
    yield "--type F32 --tensor-type down_proj=INT4_ASYM --group-size 64"


def mlx():
    yield from (f"--type {type}" for type in MLX_FLOATS)
    for rounding in ("", " --mlx-rounding metal"):
        for type in MLX_AFFINE:
            yield from (f"--type {type}{group}{rounding}" for group in ("", " --group-size 32", " --group-size 128"))
        yield from (f"--type {type}{rounding}" for type in MLX_SMALL_FLOATS)
    for rule in ("lm_head=8bit", "embed_tokens=F16", "down_proj=mxfp8", "layers.0.=3bit", "qkv_proj=nvfp4"):
        yield f"--type 4bit --tensor-type {rule}"
    yield "--type mixed_3_6 --tensor-type embed_tokens=8bit"
    yield "--type BF16 --tensor-type down_proj=5bit"
    yield "--type mxfp4 --tensor-type lm_head=6bit --group-size 32"


def torch(tied):
    yield from (f"--type {type}" for type in TORCH)
    for group in ("32", "64", "row"):
        yield from (f"--type {type} --group-size {group}" for type in TORCH if type != "W8A8")
        yield f"--type W4A16 --group-size {group} --asym"
        yield f"--type AWQ --group-size {group} --sym"
    yield "--type W4A16 --tensor-type down_proj=W8A16 --tensor-type layers.1.self_attn.o_proj=float"
    if not tied:
        yield "--type W4A16 --tensor-type lm_head=W4A16"
        yield "--type W4A16 --group-size 32 --tensor-type lm_head=W8A16"
        yield "--type W8A8 --tensor-type lm_head=W8A8"


def litert():
    yield from (f"--type {type}" for type in LITERT)
    for group in ("64", "128", "row"):
        yield f"--type int4 --group-size {group}"
        yield f"--type int4_all --group-size {group}"
    for length in ("16", "512", "1024"):
        yield f"--type int4 --max-length {length}"
    for rule in ("lm_head=int4", "embed_tokens=float", "down_proj=int8", "layers.0.=float"):
        yield f"--type int4 --tensor-type {rule}"
    yield "--type fp32 --tensor-type down_proj=int4 --group-size 64"


def all_cases():
    """(checkpoint, options), each once, in the order of the table."""
    cases = {}

    def add(model, format, options):
        for line in options:
            cases[(model, line if format == "gguf" else f"--format {format} {line}")] = None

    for model in TINY:
        add(model, "gguf", gguf())
        add(model, "onnx", onnx_graphs(tied=model == "phi4mini-tiny"))
        add(model, "onnx", onnx_codes("int4"))
        add(model, "onnx", onnx_codes("int8"))
        add(model, "openvino", openvino())
        add(model, "mlx", mlx())
        add(model, "torch", torch(tied=model == "phi4mini-tiny"))
        add(model, "litert", litert())
        add(model, "safetensors", (f"--type {type}" for type in SAFETENSORS))
        add(model, "safetensors", ("--type F16 --tensor-type embed_tokens=F32",))
    # Rows of 672: whole blocks of 32 only, an odd number of groups.
    add("narrow", "gguf", (f"--type {type}" for type in GGUF))
    add("narrow", "onnx", (f"{ep}--type {type}" for ep in ("", "--ep dml ") for type in ONNX[1:]))
    add("narrow", "onnx", onnx_codes("int4"))
    add("narrow", "onnx", onnx_codes("int8"))
    add("narrow", "openvino", openvino())
    add("narrow", "mlx", (f"--type {type}{group}" for type in MLX_AFFINE for group in ("", " --group-size 32")))
    add("narrow", "mlx", (f"--type {type}" for type in MLX_SMALL_FLOATS))
    add("narrow", "torch", ("--type W4A16", "--type W4A16 --group-size 32 --asym", "--type W8A8", "--type AWQ --group-size 32",
                            "--type GPTQ-Int8 --group-size 32"))
    add("narrow", "litert", ("--type int4", "--type int4 --group-size 64", "--type int4 --group-size row"))
    # The type that the checkpoint is in.
    for model in ("in-f32", "in-f16"):
        add(model, "gguf", ("--type Q4_K_M", "--type BF16", "--type F16"))
        add(model, "onnx", ("--type fp32", "--type int4", "--ep cuda --type k_quant_mixed"))
        add(model, "openvino", ("--type BF16", "--type INT4_SYM", "--type INT4_ASYM --ratio 1", "--type INT8_ASYM"))
        add(model, "mlx", (f"--type {type}{rounding}" for type in MLX_AFFINE[:5] + MLX_SMALL_FLOATS
                           for rounding in ("", " --mlx-rounding metal")))
        add(model, "mlx", ("--type BF16",))
        add(model, "torch", ("--type W4A16", "--type W4A16 --asym", "--type W8A8", "--type AWQ"))
        add(model, "litert", ("--type fp32", "--type int8", "--type int4"))
        add(model, "safetensors", ("--type as-is",))
    # Short and long factors none, a window.
    for format, types in (("gguf", ("Q4_K_M",)), ("onnx", ("fp32", "int4")), ("openvino", ("INT4_SYM",)),
                          ("mlx", ("4bit",)), ("torch", ("W4A16",)), ("litert", ("int4",))):
        add("window", format, (f"--type {type}" for type in types))
    add("window", "onnx", ("--ep dml --type int4",))
    # NaN, and weights beyond half floats.
    add("odd", "gguf", ("--type Q8_0 --nan zero --overflow clamp", "--type F16 --nan zero --overflow clamp",
                        "--type F16 --nan zero --overflow f32", "--type BF16 --nan zero",
                        "--type Q4_K_M --nan zero --overflow clamp"))
    add("odd", "onnx", ("--type fp32 --nan zero", "--type int4 --nan zero", "--type fp16 --nan zero --overflow clamp",
                        "--ep cuda --type int4 --nan zero --overflow clamp"))
    add("odd", "openvino", ("--type INT4_SYM --nan zero --overflow clamp", "--type F16 --nan zero --overflow clamp",
                            "--type BF16 --nan zero"))
    add("odd", "mlx", ("--type 4bit --nan zero", "--type F16 --nan zero --overflow clamp", "--type mxfp4 --nan zero"))
    add("odd", "torch", ("--type W4A16 --nan zero", "--type W8A8 --nan zero"))
    add("odd", "litert", ("--type int4 --nan zero --overflow clamp", "--type fp32 --nan zero"))
    # Experts; in GGUF with the weights that llama.cpp is given, and with its own tool's.
    add("phimoe-tiny", "gguf", (f"--type {type}{method}" for type in ("F16", "Q4_K_M", "IQ4_XS")
                                for method in ("", " --method reference")))
    for format, types in (("onnx", ("fp32", "int8", "int4")), ("openvino", ("F32", "INT8_ASYM", "INT4_SYM")),
                          ("mlx", ("BF16", "4bit", "mixed_3_6")), ("safetensors", ("as-is",))):
        add("phimoe-tiny", format, (f"--type {type}" for type in types))
    return list(cases)


# --- checkpoints, all made from a trained one without arithmetic that depends on a library ------

def changed_tensors(change):
    tensors = harness.read_safetensors(harness.DATA / "phi35-tiny" / "model.safetensors")
    found = {}
    for name, (_, shape, content) in tensors.items():
        result = change(name, np.frombuffer(content, "<u2").reshape(shape))
        if result is not None:
            dtype, values = result
            found[name] = (dtype, values.shape, values.tobytes())
    return found


def narrow(name, bits):
    if "gate_up_proj" in name:
        return "BF16", np.concatenate([bits[:672], bits[768:768 + 672]])
    return ("BF16", np.ascontiguousarray(bits[:, :672])) if "down_proj" in name else None


def as_f32(bits):
    return (bits.astype("<u4") << 16).view("<f4")


def odd(name, bits):
    bits = bits.copy()
    if name.endswith("layers.1.mlp.down_proj.weight"):
        bits[3, 5] = bits[200, 700] = 0x7FC0  # NaN
    elif name.endswith("layers.2.self_attn.o_proj.weight"):
        bits[7, 11] = 0x47C3  # 99840, which half floats do not hold
        bits[9, 200] = 0xC7C3
    else:
        return None
    return "BF16", bits


def make_checkpoints(folder):
    """name -> folder of each checkpoint that cases name."""
    def make(name, change=None, config=None):
        made[name] = harness.make_checkpoint(folder / name, config_updates=config,
                                             tensors_update=changed_tensors(change) if change else None)

    made = {model: harness.DATA / model for model in (*TINY, "phimoe-tiny")}
    make("narrow", narrow, {"intermediate_size": 672})
    make("in-f32", lambda name, bits: ("F32", as_f32(bits)), {"torch_dtype": "float32"})
    make("in-f16", lambda name, bits: ("F16", as_f32(bits).astype("<f2")), {"torch_dtype": "float16"})
    make("window", None, {"rope_scaling": None, "original_max_position_embeddings": 4096, "sliding_window": 100})
    make("odd", odd)
    return made


def types_of_the_program():
    """format -> the types that it says it has."""
    return {format: tuple(entry["name"] for entry in entries) for format, entries in
            json.loads(harness.run(["profiles", "--types", "--json"]).ok().out).items()}
