"""Rows 106 and 107 of docs/reliability.md: `inspect`, `verify`, `compare` and `eval` of broken MLX folders.

106: tensors without their partners, of wrong types or shapes; a `quantization` that is absurd in itself or names no
layer. 107: a `quantization` that says otherwise than the tensors.
"""
import json
import os
import re
import shutil

import numpy as np
import pytest

from harness import DATA, RECORD, read_header, read_safetensors, refused, run, warnings, write_index, write_safetensors

TINY = DATA / "phi35-tiny"
TIED = DATA / "phi4mini-tiny"
TYPES = {"4bit": "4bit", "8bit": "8bit", "mxfp4": "mxfp4", "F16": "F16", "mixed": "mixed_4_6"}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DOWN = "model.layers.1.mlp.down_proj"  # 256 x 768
ENTRY = {"group_size": 64, "bits": 4, "mode": "affine"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A right folder of each type."""
    folder = tmp_path_factory.mktemp("mlx")
    for name, type in TYPES.items():
        run(["quantize", TINY, "--format", "mlx", "--type", type, "-o", folder / name, "--no-fsync"]).ok()
    run(["quantize", TIED, "--format", "mlx", "-o", folder / "tied", "--no-fsync"]).ok()
    return folder


@pytest.fixture
def copy(made, tmp_path):
    def copy(name="4bit"):
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)
        return shutil.copytree(made / name, folder)
    return copy


def edit(folder, change):
    """Other tensors; `change` gets name -> (dtype, shape, bytes). The index knows them."""
    tensors = read_safetensors(folder / WEIGHTS)
    change(tensors)
    write_safetensors(folder / WEIGHTS, tensors, read_header(folder / WEIGHTS)[0]["__metadata__"])
    write_index(folder, {name: WEIGHTS for name in tensors}, sum(len(content) for _, _, content in tensors.values()))


def replace(folder, name, dtype=None, shape=None, content=None):
    """Another type, shape or content for one tensor."""
    def change(tensors):
        old = tensors[name]
        tensors[name] = (dtype or old[0], shape or old[1], old[2] if content is None else content)
    edit(folder, change)


def poke(folder, name, offset, new):
    """Changes a few bytes of one tensor in place."""
    header, data = read_header(folder / WEIGHTS)
    first, end = header[name]["data_offsets"]
    assert first + offset + len(new) <= end
    with open(folder / WEIGHTS, "r+b") as file:
        file.seek(data + first + offset)
        assert file.read(len(new)) != new
        file.seek(data + first + offset)
        file.write(new)


def configure(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config, indent=4))


def say(folder, **values):
    """Other values in `quantization`."""
    configure(folder, lambda config: config["quantization"].update(values))


def inspected(folder, code, *needles):
    size = sum(path.stat().st_size for path in folder.iterdir())
    return refused(run(["inspect", folder]), code, *needles, input_size=size)


def broken(folder, *needles, code=3, against=TINY):
    """All four commands refuse the folder, alike."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    lines = {refused(run(args), code, *needles, input_size=size)
             for args in (["inspect", folder], ["inspect", folder, "--check"], ["verify", folder, "--against", against],
                          ["compare", folder, against], ["compare", against, folder],
                          ["eval", folder, "--text", DATA / "heldout.txt", "--ctx", "64", "--chunks", "1"])}
    assert len(lines) == 1
    return lines.pop()


def differs(folder, *needles, against=TINY):
    """`verify` finds what is wrong."""
    done = run(["verify", folder, "--against", against])
    assert done.code == 1, done.err
    for needle in needles:
        assert f"problem: {needle}" in done.text
    return done


def sound(folder, against=TINY):
    run(["inspect", folder, "--check"]).ok()
    run(["verify", folder, "--against", against]).ok()
    run(["compare", folder, against]).ok()


# --- row 106: tensors ------------------------------------------------------------------------

@pytest.mark.parametrize("name, array", [("4bit", "scales"), ("4bit", "biases"), ("mxfp4", "scales"),
                                         ("mixed", "biases")])
def test_row_106_a_partner_is_missing(copy, name, array):
    folder = copy(name)
    edit(folder, lambda tensors: tensors.pop(f"{DOWN}.{array}"))
    broken(folder, WEIGHTS, f"tensor '{DOWN}.weight'", f"has no {DOWN}.{array}")


def test_row_106_the_codes_are_missing(copy):
    folder = copy()
    edit(folder, lambda tensors: tensors.pop(f"{DOWN}.weight"))
    broken(folder, f"{DOWN}.weight is missing")


def test_row_106_a_partner_that_the_index_alone_knows(copy):
    folder = copy()
    index = (folder / INDEX).read_bytes()
    edit(folder, lambda tensors: tensors.pop(f"{DOWN}.scales"))
    (folder / INDEX).write_bytes(index)
    broken(folder, WEIGHTS, f"tensor '{DOWN}.weight'", f"has no {DOWN}.scales")


SHAPES = [
    ("4bit", "weight", (128, 192), "affine4 g64 need [256, 96]"), ("4bit", "weight", (96, 256), "need [256, 96]"),
    ("4bit", "weight", (256, 96, 1), "need [256, 96]"), ("4bit", "weight", (24576,), "need [256, 96]"),
    ("4bit", "scales", (128, 24), "need [256, 12]"), ("4bit", "scales", (3072,), "need [256, 12]"),
    ("4bit", "biases", (12, 256), "need [256, 12]"), ("8bit", "weight", (512, 96), "affine8 g64 need [256, 192]"),
    ("mxfp4", "scales", (128, 48), "mxfp4 need [256, 24]"), ("F16", "weight", (768, 256), "F16 need [256, 768]"),
]


@pytest.mark.parametrize("name, array, shape, wanted", SHAPES)
def test_row_106_wrong_shapes(copy, name, array, shape, wanted):
    folder = copy(name)
    replace(folder, f"{DOWN}.{array}", shape=shape)
    broken(folder, WEIGHTS, f"tensor '{DOWN}.{array}'", f"has shape [{', '.join(map(str, shape))}]",
           "256 x 768 weights in", wanted)


DTYPES = [
    ("4bit", "scales", "I32", (256, 6), "has dtype I32, needs a float"),
    ("4bit", "scales", "U8", (256, 24), "has dtype U8, needs a float"),
    ("4bit", "scales", "F64", (256, 3), "has dtype F64, needs a float"),
    ("4bit", "biases", "F16", (256, 12), "has dtype F16, the scales have BF16"),
    ("4bit", "biases", "U8", (256, 24), "has dtype U8, the scales have BF16"),
    ("4bit", "weight", "I32", (256, 96), "has dtype I32, needs U32 or a float"),
    ("4bit", "weight", "U8", (256, 384), "has dtype U8, needs U32 or a float"),
    ("mxfp4", "scales", "BF16", (256, 12), "has dtype BF16, mode mxfp4 needs U8"),
    ("mxfp4", "scales", "I8", (256, 24), "has dtype I8, mode mxfp4 needs U8"),
    ("F16", "weight", "I16", (256, 768), "has dtype I16, needs U32 or a float"),
    ("F16", "weight", "U32", (256, 384), "has codes, but config.json does not say that it is quantized"),
]


@pytest.mark.parametrize("name, array, dtype, shape, problem", DTYPES)
def test_row_106_wrong_types(copy, name, array, dtype, shape, problem):
    folder = copy(name)
    replace(folder, f"{DOWN}.{array}", dtype, shape)
    broken(folder, WEIGHTS, f"tensor '{DOWN}.{array}'", problem)


def test_row_106_scales_of_another_float_are_read(copy):
    """mlx-lm takes them as they are; the types of a module's two arrays must agree."""
    folder = copy()

    def change(tensors):
        for array in ("scales", "biases"):
            _, shape, content = tensors[f"{DOWN}.{array}"]
            wide = np.frombuffer(content, "<u2").astype("<u4") << 16
            tensors[f"{DOWN}.{array}"] = ("F32", shape, wide.tobytes())
    edit(folder, change)
    sound_weights = run(["compare", folder, TINY, "--json"]).ok().json()["relative_rmse"]
    assert sound_weights == run(["compare", copy(), TINY, "--json"]).ok().json()["relative_rmse"]


@pytest.mark.parametrize("tensor, shape, dtype, problem", [
    ("model.layers.9.mlp.down_proj.weight", (4,), "BF16", "has no role in a phi3 model of 4 layers"),
    ("model.layers.0.self_attn.rotary_emb.inv_freq", (8,), "F32", "has no role in a phi3 model of 4 layers"),
    ("model.layers.0.self_attn.qkv_proj.bias", (768,), "BF16", "has no role in a phi3 model of 4 layers"),
    ("model.layers.0.self_attn.qkv_proj.lora_a", (8, 8), "BF16", "has no role in a phi3 model of 4 layers"),
    ("model.norm.scales", (4,), "BF16", "belongs to no weight in BF16"),
])
def test_row_106_extra_tensors(copy, tensor, shape, dtype, problem):
    folder = copy()
    content = bytes(int(np.prod(shape)) * {"BF16": 2, "F32": 4}[dtype])
    edit(folder, lambda tensors: tensors.update({tensor: (dtype, shape, content)}))
    broken(folder, WEIGHTS, f"tensor '{tensor}'", problem)


@pytest.mark.parametrize("name, array, problem", [("mxfp4", "biases", "belongs to no weight in mxfp4"),
                                                  ("F16", "scales", "belongs to no weight in F16")])
def test_row_106_partners_of_nothing(copy, name, array, problem):
    folder = copy(name)
    edit(folder, lambda tensors: tensors.update({f"{DOWN}.{array}": ("BF16", (256, 24), bytes(256 * 48))}))
    broken(folder, WEIGHTS, f"tensor '{DOWN}.{array}'", problem)


def test_row_106_a_head_in_a_tied_model(copy):
    folder = copy("tied")
    edit(folder, lambda tensors: tensors.update({f"lm_head.{array}": tensors[f"model.embed_tokens.{array}"]
                                                 for array in ("weight", "scales", "biases")}))
    broken(folder, WEIGHTS, "tensor 'lm_head.weight'", "no role", "with a tied head", against=TIED)


# --- row 106: config.json --------------------------------------------------------------------

NO_NUMBERS = {"-1": -1, '"4"': "4", "1000000000": 10**9, "[4]": [4], "4.5": 4.5, "true": True, "{}": {},
              "1025": 1025, "1.8446744073709552e+19": 2**64}


@pytest.mark.parametrize("shown", NO_NUMBERS)
@pytest.mark.parametrize("key", ["group_size", "bits"])
def test_row_106_bits_and_groups_that_are_no_numbers(copy, key, shown):
    folder = copy()
    say(folder, **{key: NO_NUMBERS[shown]})
    inspected(folder, 3, "config.json", f"'quantization': '{key}' is {shown}, needs a small whole number")
    folder = copy()
    say(folder, **{DOWN: {**ENTRY, key: NO_NUMBERS[shown]}})
    inspected(folder, 3, "config.json", f"'quantization' of '{DOWN}': '{key}' is {shown}")


@pytest.mark.parametrize("key, value", [("group_size", 0), ("group_size", 7), ("group_size", 48), ("group_size", 1024),
                                        ("bits", 0), ("bits", 1), ("bits", 7), ("bits", 16), ("bits", 48)])
def test_row_106_bits_and_groups_that_mlx_does_not_have(copy, key, value):
    values = {**ENTRY, key: value}
    problem = f"has {values['bits']} bits and groups of {values['group_size']}, which mode affine does not have"
    folder = copy()
    say(folder, **values)
    broken(folder, "config.json", f"'quantization' {problem}")
    folder = copy()
    say(folder, **{DOWN: values})
    inspected(folder, 3, "config.json", f"'quantization' of '{DOWN}' {problem}")


@pytest.mark.parametrize("mode, bits, group_size", [("mxfp4", 4, 64), ("mxfp4", 8, 32), ("mxfp8", 4, 32),
                                                    ("nvfp4", 4, 32), ("nvfp4", 8, 16)])
def test_row_106_modes_have_one_width(copy, mode, bits, group_size):
    folder = copy("mxfp4")
    say(folder, mode=mode, bits=bits, group_size=group_size)
    inspected(folder, 3, "config.json", f"has {bits} bits and groups of {group_size}, which mode {mode} does not have")


@pytest.mark.parametrize("shown, mode", [('"awq"', "awq"), ("4", 4), ('["affine"]', ["affine"]), ('""', ""),
                                         ('"Affine"', "Affine"), ('"\\u001b[31m"', "\x1b[31m")])
def test_row_106_unknown_modes(copy, shown, mode):
    folder = copy()
    say(folder, mode=mode)
    inspected(folder, 3, "config.json", f"'quantization' has mode {shown}, known are affine, mxfp4, mxfp8 and nvfp4")


@pytest.mark.parametrize("key", ["group_size", "bits"])
def test_row_106_quantization_lacks_a_number(copy, key):
    folder = copy()
    configure(folder, lambda config: config["quantization"].pop(key))
    broken(folder, "config.json", f"'quantization' lacks '{key}'")
    folder = copy()
    say(folder, **{key: None})
    inspected(folder, 3, "config.json", f"'quantization' lacks '{key}'")


@pytest.mark.parametrize("shown, value", [("4", 4), ('"x"', "x"), ("[]", []), ("false", False), ("true", True)])
def test_row_106_quantization_is_no_object(copy, shown, value):
    folder = copy()
    configure(folder, lambda config: config.update(quantization=value))
    inspected(folder, 3, "config.json", f"'quantization' is {shown}, needs an object")


@pytest.mark.parametrize("shown, value", [("true", True), ("null", None), ("4", 4), ('"x"', "x"), ("[]", [])])
def test_row_106_an_entry_is_no_object(copy, shown, value):
    folder = copy()
    say(folder, **{DOWN: value})
    broken(folder, "config.json", f"'quantization' of '{DOWN}' is {shown}, needs an object or false")


@pytest.mark.parametrize("module", ["model.layers.9.mlp.down_proj", "nosuch", "model.norm", f"{DOWN}.weight", "",
                                    "lm_head", "model.layers.0.input_layernorm"])
@pytest.mark.parametrize("value", [ENTRY, False])
def test_row_106_entries_that_name_no_layer(copy, module, value):
    folder = copy("tied")
    say(folder, **{module: value})
    inspected(folder, 3, "config.json", f"'quantization' has an entry for '{module}', which this model does not have")


def test_row_106_names_reach_no_terminal_raw(copy):
    folder = copy()
    say(folder, **{"a\x1b[31m\n": ENTRY})
    broken(folder, "config.json", "entry for 'a\\x1b[31m\\x0a'")


# --- row 107 ---------------------------------------------------------------------------------

@pytest.mark.parametrize("name, values, tensor, found, needed", [
    ("8bit", {"bits": 4}, "model.embed_tokens.weight", "[2112, 64]", "affine4 g64 need [2112, 32]"),
    ("4bit", {"bits": 8}, "model.embed_tokens.weight", "[2112, 32]", "affine8 g64 need [2112, 64]"),
    ("4bit", {"bits": 3}, "model.embed_tokens.weight", "[2112, 32]", "affine3 g64 need [2112, 24]"),
    ("4bit", {"group_size": 32}, "model.embed_tokens.scales", "[2112, 4]", "affine4 g32 need [2112, 8]"),
    ("4bit", {"group_size": 128}, "model.embed_tokens.scales", "[2112, 4]", "affine4 g128 need [2112, 2]"),
    ("mxfp4", {"mode": "nvfp4", "group_size": 16}, "model.embed_tokens.scales", "[2112, 8]", "nvfp4 need [2112, 16]"),
    ("mxfp4", {"mode": "mxfp8", "bits": 8}, "model.embed_tokens.weight", "[2112, 32]", "mxfp8 need [2112, 64]"),
    ("4bit", {DOWN: {**ENTRY, "bits": 8}}, f"{DOWN}.weight", "[256, 96]",
     "256 x 768 weights in affine8 g64 need [256, 192]"),
    ("4bit", {DOWN: {**ENTRY, "group_size": 32}}, f"{DOWN}.scales", "[256, 12]", "affine4 g32 need [256, 24]"),
    ("mixed", {"lm_head": ENTRY}, "lm_head.weight", "[2112, 48]", "affine4 g64 need [2112, 32]"),
])
def test_row_107_widths_disagree(copy, name, values, tensor, found, needed):
    folder = copy(name)
    say(folder, **values)
    broken(folder, WEIGHTS, f"tensor '{tensor}'", f"has shape {found}", needed)


def test_row_107_an_entry_that_recipes_need_is_missing(copy):
    """The values for all are 4 bits, which the head does not have."""
    folder = copy("mixed")
    configure(folder, lambda config: config["quantization"].pop("lm_head"))
    broken(folder, WEIGHTS, "tensor 'lm_head.weight'", "has shape [2112, 48]", "need [2112, 32]")


@pytest.mark.parametrize("name, values, array, problem", [
    ("4bit", {"mode": "mxfp4", "group_size": 32}, "scales", "has dtype BF16, mode mxfp4 needs U8"),
    ("4bit", {"mode": "nvfp4", "group_size": 16}, "scales", "has dtype BF16, mode nvfp4 needs U8"),
    ("mxfp4", {"mode": "affine"}, "weight", "has no model.embed_tokens.biases"),
])
def test_row_107_modes_disagree(copy, name, values, array, problem):
    folder = copy(name)
    say(folder, **values)
    broken(folder, WEIGHTS, f"tensor 'model.embed_tokens.{array}'", problem)


def test_row_107_codes_that_config_json_does_not_tell(copy):
    folder = copy()
    say(folder, **{DOWN: False})
    broken(folder, WEIGHTS, f"tensor '{DOWN}.weight'", "has codes, but config.json does not say that it is quantized")
    for change in (lambda config: config.pop("quantization"), lambda config: config.update(quantization=None)):
        folder = copy()
        configure(folder, change)  # quantization_config stays: mlx-lm does not read it
        broken(folder, WEIGHTS, "tensor 'model.embed_tokens.weight'", "has codes, but config.json does not say")


def test_row_107_floats_where_an_entry_says_codes(copy):
    folder = copy("F16")
    configure(folder, lambda config: config.update(quantization={**ENTRY, DOWN: ENTRY}))
    broken(folder, WEIGHTS, f"tensor '{DOWN}.weight'", "is F16, but config.json says that it has 4 bits")


def test_row_107_codes_of_a_norm(copy):
    folder = copy()
    replace(folder, "model.norm.weight", "U32", (128,))
    broken(folder, WEIGHTS, "tensor 'model.norm.weight'", "has codes, but config.json does not say")


@pytest.mark.parametrize("change, tensor, needles", [
    ({"num_hidden_layers": 3}, "model.layers.3.self_attn.qkv_proj.weight", ["no role in a phi3 model of 3 layers"]),
    ({"num_hidden_layers": 5}, "model.layers.4.input_layernorm.weight", ["is missing"]),
    ({"num_key_value_heads": 2}, "model.layers.0.self_attn.qkv_proj.weight", ["[768, 32]", "need [512, 32]"]),
    ({"tie_word_embeddings": True}, "lm_head.weight", ["with a tied head"]),
    ({"intermediate_size": 700}, "model.layers.0.mlp.gate_up_proj.weight", ["[1536, 32]", "need [1400, 32]"]),
])
def test_row_107_another_model(copy, change, tensor, needles):
    folder = copy()
    configure(folder, lambda config: config.update(change))
    inspected(folder, 3, tensor, *needles)


def test_row_107_rows_that_are_no_whole_groups(copy):
    folder = copy()
    configure(folder, lambda config: config.update(intermediate_size=760))
    replace(folder, "model.layers.0.mlp.gate_up_proj.weight", shape=(1520, 32), content=bytes(1520 * 32 * 4))
    for array in ("scales", "biases"):
        replace(folder, f"model.layers.0.mlp.gate_up_proj.{array}", shape=(1520, 4), content=bytes(1520 * 4 * 2))
    inspected(folder, 3, "tensor 'model.layers.0.mlp.down_proj.weight'",
              "rows of 760 weights are no whole groups of 64")


# --- files -----------------------------------------------------------------------------------

def test_truncated_and_trailing_weights(copy):
    folder = copy()
    size = (folder / WEIGHTS).stat().st_size
    os.truncate(folder / WEIGHTS, size + 1)
    broken(folder, WEIGHTS, "1 trailing bytes", f"{size}")
    os.truncate(folder / WEIGHTS, 1_000_000)
    broken(folder, WEIGHTS, "truncated", "the file has 1000000 bytes")
    os.truncate(folder / WEIGHTS, 100)
    broken(folder, WEIGHTS)


def shards(folder):
    """The folder's weights in two files."""
    tensors = read_safetensors(folder / WEIGHTS)
    metadata = read_header(folder / WEIGHTS)[0]["__metadata__"]
    names, where = list(tensors), {}
    for k, part in enumerate((names[:20], names[20:])):  # in the middle of a module
        shard = f"model-{k + 1:05d}-of-00002.safetensors"
        write_safetensors(folder / shard, {name: tensors[name] for name in part}, metadata)
        where.update({name: shard for name in part})
    write_index(folder, where, sum(len(content) for _, _, content in tensors.values()))
    (folder / WEIGHTS).unlink()
    return names


def test_a_missing_shard(copy):
    folder = copy()
    n_tensors = len(shards(folder))
    run(["inspect", folder, "--check"]).ok()
    assert run(["compare", folder, copy("8bit"), "--json"]).ok().json()["relative_rmse"] > 0
    (folder / "model-00002-of-00002.safetensors").unlink()
    broken(folder, INDEX, "1 of 2 shards missing", f"model-00002-of-00002.safetensors ({n_tensors - 20} tensors)",
           code=4)


def test_a_file_that_only_mlx_lm_would_read(copy):
    for name in ("model-00001-of-00002.safetensors", "model_old.safetensors"):
        folder = copy()
        shutil.copyfile(folder / WEIGHTS, folder / name)
        broken(folder, name, "belongs to no model in this folder, but mlx-lm loads every model*.safetensors")
    folder = copy()
    shutil.copyfile(folder / WEIGHTS, folder / "adapters.safetensors")
    sound(folder)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_files_without_which_there_is_no_model(copy, name):
    folder = copy()
    (folder / name).unlink()
    inspected(folder, 4, name)
    refused(run(["compare", folder, TINY]), 4, name)
    refused(run(["eval", folder, "--text", DATA / "heldout.txt"]), 4, name)


def test_another_architecture(copy):
    folder = copy()
    configure(folder, lambda config: config.update(model_type="gpt2", architectures=["GPT2LMHeadModel"]))
    broken(folder, "config.json", "GPT2LMHeadModel", code=6)


# --- what verify and inspect --check find ----------------------------------------------------

@pytest.mark.parametrize("name, tensor, new", [
    ("4bit", f"{DOWN}.scales", b"\xc0\x7f"), ("4bit", f"{DOWN}.biases", b"\x80\xff"),
    ("mxfp4", f"{DOWN}.scales", b"\xff"), ("4bit", "model.norm.weight", b"\xc0\x7f"),
    ("F16", f"{DOWN}.weight", b"\x00\x7e"),
], ids=["NaN scale", "-Inf bias", "NaN exponent", "NaN norm", "NaN weight"])
def test_numbers_that_are_none(copy, name, tensor, new):
    folder = copy(name)
    poke(folder, tensor, 10, new)
    weight = tensor.rsplit(".", 1)[0] + ".weight"
    run(["inspect", folder]).ok()  # reads no weights
    done = run(["inspect", folder, "--check"])
    assert done.code == 1
    assert re.search(rf"tensor '{re.escape(weight)}': \d+ NaN or Inf weights?, the first at index \d+ \(row 0,", done.text)
    differs(folder, f"tensor '{weight}': NaN or Inf")
    refused(run(["compare", folder, TINY]), 9, f"tensor '{weight}'", "decodes to", "row 0")
    refused(run(["eval", folder, "--text", DATA / "heldout.txt", "--ctx", "64", "--chunks", "1"]), 9, weight)


@pytest.mark.parametrize("name", TYPES)
def test_a_changed_weight_is_found(copy, name):
    folder = copy(name)
    header, data = read_header(folder / WEIGHTS)
    first = data + header[f"{DOWN}.weight"]["data_offsets"][0] + 1000
    old = (folder / WEIGHTS).read_bytes()[first:first + 8]
    poke(folder, f"{DOWN}.weight", 1000, bytes(b ^ 0x77 for b in old))
    done = differs(folder, f"tensor '{DOWN}.weight': ")
    assert done.text.count("problem: ") == 2 and "damaged" in done.text  # its checksum, too


def test_exchanged_modules_are_found(copy):
    folder = copy()

    def change(tensors):
        for array in ("weight", "scales", "biases"):
            a, b = f"model.layers.0.mlp.down_proj.{array}", f"{DOWN}.{array}"
            tensors[a], tensors[b] = tensors[b], tensors[a]
    edit(folder, change)
    differs(folder, "tensor 'model.layers.0.mlp.down_proj.weight'", f"tensor '{DOWN}.weight'")


@pytest.mark.parametrize("change", [
    lambda config: config.update(rope_theta=20000.0), lambda config: config.update(eos_token_id=2048),
    lambda config: config.pop("quantization_config"), lambda config: config["quantization"].update({DOWN: ENTRY}),
], ids=["rope_theta", "eos_token_id", "quantization_config", "entry"])
def test_another_config_json_is_found(copy, change):
    folder = copy()
    configure(folder, change)
    run(["inspect", folder]).ok()
    differs(folder, "config.json differs from what the source gives")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                                  "generation_config.json", "special_tokens_map.json", "added_tokens.json", "README.md",
                                  INDEX])
def test_missing_and_other_small_files_are_found(made, copy, name):
    folder = copy()
    (folder / name).unlink()
    differs(folder, f"{name} is missing")
    shutil.copyfile(made / "4bit" / name, folder / name)
    if name != INDEX:  # whose errors are above
        with open(folder / name, "ab") as file:
            file.write(b"\n")
        differs(folder, f"{name} differs from what the source gives")


def test_a_template_that_the_checkpoint_does_not_have_is_found(copy):
    folder = copy()
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    differs(folder, "chat_template.jinja has no counterpart in the source")


def test_an_index_of_another_size_is_found(copy):
    folder = copy()
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('"total_size": ', '"total_size": 1'))
    done = differs(folder, f"{INDEX} differs from what the source gives")
    assert [line for line in warnings(done) if "total_size" in line]


def test_without_a_tokenizer_nothing_is_evaluated(copy):
    folder = copy()
    for name in ("tokenizer.json", "tokenizer.model"):
        (folder / name).unlink()
    refused(run(["eval", folder, "--text", DATA / "heldout.txt"]), 4, "tokenizer")


# --- what others write -----------------------------------------------------------------------

@pytest.mark.parametrize("name, against", [("4bit", TINY), ("mxfp4", TINY), ("mixed", TINY), ("F16", TINY),
                                           ("tied", TIED)])
def test_folders_of_mlx_lm_are_read(copy, name, against):
    """Its metadata is "format" alone, tensors stand in any order, group sizes that were not asked for are null, entries
    may lack a mode, headers have no padding, and some small files are not there."""
    folder = copy(name)
    tensors = read_safetensors(folder / WEIGHTS)
    header = {"__metadata__": {"format": "mlx"}}
    data = b""
    for tensor, (dtype, shape, content) in sorted(tensors.items(), key=lambda item: item[0][::-1]):
        header[tensor] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(dict(sorted(header.items())), separators=(",", ":")).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data)

    def change(config):
        for module, entry in config.get("quantization", {}).items():
            if isinstance(entry, dict):
                entry["group_size"] = None
                del entry["mode"]
    configure(folder, change)
    for saved in ("tokenizer.model", "added_tokens.json", "special_tokens_map.json", "README.md", RECORD):
        (folder / saved).unlink(missing_ok=True)
    shown = run(["inspect", folder, "--json", "--check"]).ok().json()
    assert (shown["kind"], shown["problems"]) == ("mlx", [])
    sound(folder, against)


def test_a_folder_is_named_by_its_files_too(copy):
    folder = copy()
    for path in (folder / WEIGHTS, folder / INDEX):
        assert run(["inspect", path, "--json"]).ok().json()["kind"] == "mlx"
        run(["verify", path, "--against", TINY]).ok()


# --- besides ---------------------------------------------------------------------------------

def test_verify_takes_a_checkpoint_too():
    """Unquantized folders of MLX are such."""
    run(["verify", TINY, "--against", TINY]).ok()


def test_verify_names_code_that_the_checkpoint_does_not_have(copy):
    folder = copy()
    (folder / "modeling_phi3.py").write_text("pass\n")
    differs(folder, "modeling_phi3.py")


def test_what_mlx_lm_cannot_compute_is_refused(copy):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    config["rope_scaling"]["type"] = "yarn"
    (folder / "config.json").write_text(json.dumps(config))
    broken(folder, "rope type yarn is not in mlx-lm's phi3", code=6)
