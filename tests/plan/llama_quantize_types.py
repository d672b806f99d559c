"""Writes llama_quantize_types.json: which type `llama-quantize --dry-run` gives each matrix of
phi3 models of many depths, head groups and widths, for each file type; and with an importance
matrix, where that makes a difference.

usage: llama_quantize_types.py PATH_OF_LLAMA_QUANTIZE > ../data/plan/llama_quantize_types.json
needs: the Python package gguf
"""

import json
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np

FILE_TYPES = """F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0
                IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K""".split()
KEYS = ("hidden", "intermediate", "layers", "heads", "kv_heads", "vocab", "tied")
SHAPES = [
    (256, 512, 4, 4, 4, 512, False),
    (256, 512, 4, 4, 2, 512, True),
    (256, 512, 7, 8, 2, 512, False),
    (768, 512, 32, 6, 2, 512, True),
    (256, 512, 32, 8, 8, 512, False),
    (256, 512, 40, 8, 2, 512, False),
    (256, 256, 17, 4, 1, 512, True),
    (288, 100, 9, 6, 2, 512, False),
    (288, 544, 8, 6, 6, 512, True),
    (100, 256, 5, 5, 5, 512, True),
    (100, 256, 5, 5, 5, 512, False),
]
LINE = re.compile(r"\[ *\d+/ *\d+\] +(\S+) +- \[.*?\], type = +(\w+), +size.*?(?:-> .*\((\w+)\))?$")


def write_model(path, shape):
    """A phi3 file of zeros in F32; returns its matrices in the order of a checkpoint."""
    writer = gguf.GGUFWriter(path, "phi3")
    writer.add_context_length(512)
    writer.add_embedding_length(shape["hidden"])
    writer.add_feed_forward_length(shape["intermediate"])
    writer.add_block_count(shape["layers"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    head_dim = shape["hidden"] // shape["heads"]
    writer.add_rope_dimension_count(head_dim)
    matrices = []

    def add(name, *dims):
        writer.add_tensor(name, np.zeros(dims, np.float32))
        if len(dims) > 1:
            matrices.append(name)

    hidden, inner = shape["hidden"], shape["intermediate"]
    add("token_embd.weight", shape["vocab"], hidden)
    for i in range(shape["layers"]):
        add(f"blk.{i}.attn_norm.weight", hidden)
        add(f"blk.{i}.attn_qkv.weight", hidden + 2 * shape["kv_heads"] * head_dim, hidden)
        add(f"blk.{i}.attn_output.weight", hidden, hidden)
        add(f"blk.{i}.ffn_norm.weight", hidden)
        add(f"blk.{i}.ffn_up.weight", 2 * inner, hidden)
        add(f"blk.{i}.ffn_down.weight", hidden, inner)
    add("output_norm.weight", hidden)
    if not shape["tied"]:
        add("output.weight", shape["vocab"], hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return matrices


def write_importance_matrix(path):
    """One that llama-quantize takes: what it is of does not matter to the types."""
    writer = gguf.GGUFWriter(path, arch="")
    writer.kv_data[0].clear()  # general.architecture
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["text"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 1)
    writer.add_tensor("blk.0.attn_qkv.weight.in_sum2", np.ones((1, 256), np.float32))
    writer.add_tensor("blk.0.attn_qkv.weight.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types_of(quantize, path, file_type, *options):
    run = subprocess.run([quantize, "--dry-run", *options, path, file_type], check=True, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = {}
    for line in run.stdout.splitlines():
        match = LINE.match(line.strip())
        if match:
            found[match[1]] = (match[3] or match[2]).upper()
    return found


def main():
    golden = {}
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file, tempfile.NamedTemporaryFile() as matrix:
        write_importance_matrix(matrix.name)
        for values in SHAPES:
            shape = dict(zip(KEYS, values))
            matrices = write_model(file.name, shape)
            types, with_matrix = {}, {}
            for file_type in FILE_TYPES:
                found = types_of(sys.argv[1], file.name, file_type)
                types[file_type] = " ".join(found[name] for name in matrices)
                found = types_of(sys.argv[1], file.name, file_type, "--imatrix", matrix.name)
                words = " ".join(found[name] for name in matrices)
                if words != types[file_type]:
                    with_matrix[file_type] = words
            golden[" ".join(f"{key}={value}" for key, value in shape.items())] = {
                "shape": shape, "types": types, "with_matrix": with_matrix}
    json.dump(golden, sys.stdout, indent=1)
    print()


main()
