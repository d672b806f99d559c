"""PyTorch folders: files, sizes, config.json, verify, KL; and broken and hostile ones.

What the tensors hold is tests/peers/torch's to say.
"""
import json
import re
import shutil

import numpy as np
import pytest

from harness import DATA, RECORD, make_checkpoint, read_header, read_safetensors, refused, run, tiny, warnings, write_safetensors

MODELS = {"untied": DATA / "phi35-tiny", "tied": DATA / "phi4mini-tiny"}
TINY = MODELS["untied"]
WEIGHTS = "model.safetensors"
DOWN = "model.layers.1.mlp.down_proj"  # 256 x 768

# Bytes of model.safetensors: what llm-compressor's files have, and, of the last two, what the safetensors library
# makes of the same tensors.
SIZES = {("untied", "W4A16"): 3931104, ("untied", "W4A16 --group-size 64"): 3984360,
         ("untied", "W4A16 --group-size 32"): 4090856, ("untied", "W4A16 --group-size row"): 3900384,
         ("untied", "W4A16 --group-size 32 --asym"): 4145944, ("untied", "W8A16"): 5635056,
         ("untied", "W8A16 --group-size row"): 5604336, ("untied", "W8A8"): 5602392,
         ("untied", "W4A16 --group-size 32 --tensor-type lm_head=W8A16"): 3584168,
         ("untied", "W4A16 --group-size 32 --tensor-type lm_head=W4A16"): 3313832,
         ("tied", "W4A16"): 2714504, ("tied", "W4A16 --group-size 32"): 2861968,
         ("tied", "W8A16 --group-size row"): 4258712, ("tied", "W8A8"): 4256768,
         ("untied", "AWQ"): 3944048, ("untied", "AWQ --group-size 32 --asym"): 4143736}


def quantize(model, out, options, code=0):
    type, *more = options.split()
    done = run(["quantize", model, "--format", "torch", "--type", type, *more, "-o", out, "--no-fsync"])
    assert done.code == code, done.err
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(options, model): the folder, made once."""
    root, folders = tmp_path_factory.mktemp("torch"), {}

    def made(options="W4A16", model="untied"):
        if (options, model) not in folders:
            folders[options, model] = root / str(len(folders))
            quantize(MODELS[model], folders[options, model], options)
        return folders[options, model]
    return made


@pytest.fixture
def copy(made, tmp_path):
    def copy(options="W4A16", model="untied"):
        return shutil.copytree(made(options, model), tmp_path / f"{len(list(tmp_path.iterdir()))}")
    return copy


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def quantization_of(folder):
    return config_of(folder)["quantization_config"]


# --- what is written -------------------------------------------------------------------------

@pytest.mark.parametrize("model, options", SIZES)
def test_sizes_are_those_of_the_peers_and_verify_passes(made, model, options):
    folder = made(options, model)
    assert (folder / WEIGHTS).stat().st_size == SIZES[model, options]
    verified = run(["verify", folder, "--against", MODELS[model]]).ok()
    assert warnings(verified) == []
    run(["inspect", folder, "--check"]).ok()


@pytest.mark.parametrize("options", ["W4A16 --group-size 32", "W4A16 --group-size 32 --asym", "W8A16 --group-size row",
                                     "W8A8", "GPTQ-Int4 --group-size 32", "AWQ --group-size 32"])
def test_searched_scales_are_above_zero(tmp_path, options):
    """Of groups of zeros and of the least weights too. A scale of a search may have either sign, or be 0, where a
    format allows it; kernels for these folders do not."""
    dtype, shape, content = read_safetensors(TINY / WEIGHTS)[f"{DOWN}.weight"]
    values = np.frombuffer(content, "<u2").reshape(shape).copy()  # BF16
    values[3] = 0
    values[5, 32:64] = 0
    values[7] = 1  # 2^-133
    checkpoint = make_checkpoint(tmp_path / "zeros", tensors_update={f"{DOWN}.weight": (dtype, shape, values.tobytes())})
    quantize(checkpoint, tmp_path / "out", f"{options} --method search")
    tensors = read_safetensors(tmp_path / "out" / WEIGHTS)
    scales = [tensor for name, tensor in tensors.items() if name.endswith((".weight_scale", ".scales"))]
    assert len(scales) == 4 * config_of(TINY)["num_hidden_layers"]
    for dtype, _, content in scales:
        assert dtype in ("F16", "BF16")
        assert (np.frombuffer(content, "<i2") > 0).all()  # the sign is the top bit of either


def test_files_are_the_checkpoints(made):
    folder = made()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "added_tokens.json", "config.json", "generation_config.json", "model.safetensors", RECORD,
        "special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"]
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json",
                 "generation_config.json", "special_tokens_map.json"):
        assert (folder / name).read_bytes() == (TINY / name).read_bytes()
    card = (folder / "README.md").read_text()
    assert "library_name: transformers\n" in card and "- compressed-tensors\n" in card and "saves disk, not memory" in card


def test_config_is_the_checkpoints_with_what_loaders_need(made, tmp_path):
    checkpoint = tiny(tmp_path / "checkpoint", config_updates={"auto_map": {"AutoConfig": "code.Config"}})
    (checkpoint / "code.py").write_text("1 / 0\n")
    quantize(checkpoint, tmp_path / "out", "W4A16")
    assert not (tmp_path / "out" / "code.py").exists()
    config, source = config_of(tmp_path / "out"), config_of(checkpoint)
    quantization = config.pop("quantization_config")
    del source["auto_map"]
    assert list(config.items()) == list(source.items())
    phiq = quantization.pop("phiq")
    assert phiq.keys() == {"version", "type"} and phiq["type"] == "W4A16"
    assert quantization == {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128,
                        "dynamic": False},
            "input_activations": None, "output_activations": None, "format": "pack-quantized"}},
        "ignore": ["lm_head"], "kv_cache_scheme": None, "global_compression_ratio": None}


def test_groups_of_other_types(made):
    w8a8 = quantization_of(made("W8A8", "tied"))
    assert w8a8["format"] == "int-quantized" and w8a8["ignore"] == ["lm_head"]
    assert w8a8["config_groups"]["group_0"] == {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
        "input_activations": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True},
        "output_activations": None, "format": "int-quantized"}
    head = quantization_of(made("W4A16 --group-size 32 --tensor-type lm_head=W4A16"))
    assert head["config_groups"]["group_0"]["targets"] == ["Linear", "re:.*lm_head$"] and head["ignore"] == []
    mixed = quantization_of(made("W4A16 --tensor-type lm_head=W8A16 --tensor-type layers.1.mlp.down_proj=float"))
    first, second = mixed["config_groups"].values()
    assert len(first["targets"]) == 15 and DOWN not in first["targets"]
    assert second["targets"] == ["re:.*lm_head$"] and second["weights"]["num_bits"] == 8
    assert mixed["ignore"] == [DOWN]


def test_gptq_and_awq_say_what_they_are(made):
    gptq = made("GPTQ-Int4")
    quantization = quantization_of(gptq)
    assert json.loads((gptq / "quantize_config.json").read_text()) == quantization
    quantization.pop("phiq")
    assert quantization == {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False,
                            "lm_head": False, "checkpoint_format": "gptq", "pack_dtype": "int32", "dynamic": {}}
    awq = quantization_of(made("AWQ --group-size row"))
    awq.pop("phiq")
    assert awq == {"quant_method": "awq", "bits": 4, "group_size": -1, "zero_point": True, "version": "gemm",
                   "modules_to_not_convert": None}


def test_one_result_in_three_boxes(made):
    """The same codes and scales: no error of one against the other."""
    for other in ("GPTQ-Int4", "AWQ --sym"):
        report = run(["compare", made("W4A16"), made(other), "--json"]).ok().json()
        assert report["max_error"] == 0


# Mean KL divergence over 2040 tokens of held-out text, of the weights alone. What round to nearest
# in float32 gives. Rounding the quotients moves one code in 160, which is held to two standard errors
# of the mean (2.3 to 2.8 % each); of 8 bits it moves one in 11, which is the 4e-5.
KL = {"W4A16": 0.03319, "W4A16 --group-size 64": 0.02944, "W4A16 --group-size 32": 0.02476,
      "W4A16 --group-size row": 0.04166, "W8A16": 0.00011, "W8A16 --group-size row": 0.00014,
      "W4A16 --group-size 32 --tensor-type lm_head=W4A16": 0.03513, "AWQ": 0.0278}


def test_divergence(made):
    folders = {options: made(options) for options in [*KL, "W8A8"]}
    done = run(["eval", *folders.values(), "--against", TINY, "--text", DATA / "heldout.txt", "--ctx", "256",
                "--chunks", "8", "--json"], timeout=120).ok()
    report = done.json()
    found = {options: model["kl"] for options, model in zip(folders, report["models"])}
    for options, wanted in KL.items():
        kl = found[options]
        assert abs(kl["mean"] - wanted) <= 2 * kl["standard_error"] + 4e-5, (options, kl)
    # The report says what it does not measure.
    (line,) = warnings(done)
    assert "activations" in line and "not measured" in line and str(folders["W8A8"]) in line


# --- what does not load ----------------------------------------------------------------------

def configure(folder, change):
    config = config_of(folder)
    change(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def edit(folder, change):
    """Other tensors; `change` gets name -> (dtype, shape, bytes)."""
    tensors = read_safetensors(folder / WEIGHTS)
    change(tensors)
    write_safetensors(folder / WEIGHTS, tensors, read_header(folder / WEIGHTS)[0]["__metadata__"])


def group(quantization):
    return quantization["config_groups"]["group_0"]


def broken(folder, *needles, code=3, against=TINY):
    """All commands refuse the folder, alike."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    lines = {refused(run(args), code, *needles, input_size=size)
             for args in (["inspect", folder], ["verify", folder, "--against", against], ["compare", folder, against],
                          ["eval", folder, "--text", DATA / "heldout.txt", "--ctx", "64", "--chunks", "1"])}
    assert len(lines) == 1
    return lines.pop()


def differs(folder, *needles, against=TINY):
    """`verify` finds what is wrong, and so does `inspect --check` of what any loader would stumble over."""
    done = run(["verify", folder, "--against", against])
    assert done.code == 1, done.err
    for needle in needles:
        assert re.search(f"problem: .*{re.escape(needle)}", done.text), done.text


def test_mistakes_that_load_silently_are_found(copy):
    folder = copy()
    configure(folder, lambda q: q.pop("quantization_status"))
    differs(folder, "quantization_status is missing")
    assert run(["inspect", folder, "--check"]).code == 1
    folder = copy()
    configure(folder, lambda q: q.update(quantization_status="frozen"))
    differs(folder, "quantization_status is 'frozen'")
    for model in ("untied", "tied"):
        folder = copy(model=model)
        configure(folder, lambda q: q.update(ignore=[]))
        differs(folder, "config.json says that lm_head is quantized", against=MODELS[model])
        assert run(["inspect", folder, "--check"]).code == 1


def test_constants_are_looked_at(copy):
    for options, name in (("W4A16", "weight_shape"), ("GPTQ-Int4", "g_idx"), ("GPTQ-Int4", "qzeros"),
                          ("AWQ --sym", None)):
        folder = copy(options)
        if name is None:  # AWQ's zero points are codes like others
            run(["verify", folder, "--against", TINY]).ok()
            continue
        edit(folder, lambda tensors: tensors.update(
            {f"{DOWN}.{name}": (*tensors[f"{DOWN}.{name}"][:2], b"\x01" + tensors[f"{DOWN}.{name}"][2][1:])}))
        differs(folder, f"tensor '{DOWN}.{name}' does not hold what")


def test_other_files_are_compared(copy):
    folder = copy()
    (folder / "README.md").write_text("mine")
    configure(folder, lambda q: q.update(version="0.19.0"))  # loaders ignore it
    differs(folder, "README.md differs", "config.json differs")
    # A folder of another tool is compared by its weights alone.
    configure(folder, lambda q: q.pop("phiq"))
    (folder / RECORD).unlink()
    run(["verify", folder, "--against", TINY]).ok()


@pytest.mark.parametrize("change, code, needle", [
    (lambda q: group(q)["weights"].update(colour=1), 3, "'colour' is a key that loaders refuse"),
    (lambda q: group(q).update(colour=1), 3, "'colour' is a key that loaders refuse"),
    (lambda q: group(q)["weights"].update(actorder="group"), 3, "actorder"),
    (lambda q: group(q)["weights"].update(num_bits=7), 6, "num_bits is 7"),
    (lambda q: group(q)["weights"].update(num_bits=8), 3, "has shape [768, 32], needs [768, 64]"),
    (lambda q: group(q)["weights"].update(group_size=0), 3, "group_size is 0"),
    (lambda q: group(q)["weights"].update(group_size=64), 3, "has shape [768, 2], needs [768, 4]"),
    (lambda q: group(q)["weights"].update(group_size=100), 3, "no whole groups of 100"),
    (lambda q: group(q)["weights"].update(group_size=10 ** 30), 3, "group_size is"),
    (lambda q: group(q)["weights"].update(strategy="block"), 6, "strategy 'block'"),
    (lambda q: group(q)["weights"].update(strategy="channel"), 3, "strategy channel with group_size 128"),
    (lambda q: group(q)["weights"].update(type="float"), 6, "not integers"),
    (lambda q: group(q)["weights"].update(symmetric=False), 3, "weight_zero_point is missing"),
    (lambda q: group(q).update(targets="Linear"), 3, "is no list of names"),
    (lambda q: group(q).update(targets=["re:("]), 3, "is a bad pattern"),
    (lambda q: group(q).update(targets=["re:" + 8 * "(.*)" + "[_p]{9}$"]), 3, "cannot be matched"),
    (lambda q: group(q).update(targets=[f"re:{i}" for i in range(65)]), 3, "more than 64 patterns"),
    (lambda q: group(q).update(targets=["re:.*o_proj$"]), 3, "is missing"),
    (lambda q: q.update(config_groups=[]), 3, "'config_groups'"),
    (lambda q: q.update(ignore=["Linear"]), 3, "is missing"),
    (lambda q: q.update(ignore=[3]), 3, "is no name"),
    (lambda q: q.update(kv_cache_scheme={}), 6, "kv_cache_scheme"),
    (lambda q: q.update(phiq={"version": 1}), 3, "needs a text"),
])
def test_a_config_that_is_wrong(copy, change, code, needle):
    folder = copy()
    configure(folder, change)
    broken(folder, needle, code=code)


def w8a8(**changes):
    """The groups of a W8A8 folder, with other activations."""
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    return {"group_0": {"targets": ["Linear"], "weights": weights, "format": "int-quantized", "input_activations": {
        "num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True, **changes}}}


@pytest.mark.parametrize("options, change, code, needle", [
    ("GPTQ-Int4", {"desc_act": True}, 6, "desc_act"), ("GPTQ-Int4", {"sym": False}, 6, "'sym' false"),
    ("GPTQ-Int4", {"bits": 3}, 6, "3 bits"), ("GPTQ-Int4", {"lm_head": True}, 6, "lm_head"),
    ("GPTQ-Int4", {"dynamic": {"a": 1}}, 6, "dynamic"), ("GPTQ-Int4", {"group_size": "128"}, 3, "group_size"),
    ("GPTQ-Int4", {"checkpoint_format": "marlin"}, 6, "marlin"), ("AWQ", {"version": "gemv"}, 6, "gemm"),
    ("AWQ", {"bits": 8}, 6, "AWQ of 8 bits"), ("AWQ", {"zero_point": False}, 6, "zero points"),
    ("AWQ", {"modules_to_not_convert": ["o_proj"]}, 6, "modules_to_not_convert"),
    ("W8A8", {"format": "pack-quantized"}, 6, "has a format of its own"),
    ("W8A8", {"config_groups": w8a8(dynamic=False)}, 6, "are not 'dynamic'"),
    ("W8A8", {"config_groups": w8a8(num_bits=4)}, 6, "no symmetric integers of 8 bits"),
    ("W8A8", {"config_groups": w8a8(type="float")}, 6, "no symmetric integers of 8 bits"),
    ("W8A8", {"config_groups": w8a8(colour=1)}, 3, "'colour' is a key that loaders refuse"),
])
def test_a_config_of_other_formats_that_is_wrong(copy, options, change, code, needle):
    folder = copy(options)
    configure(folder, lambda q: q.update(change))
    broken(folder, needle, code=code)


def paths(value, above=()):
    """The path of each key of nested objects."""
    for key, below in value.items():
        yield (*above, key)
        if isinstance(below, dict):
            yield from paths(below, (*above, key))


# Keys that nothing is read from, and those of which --check says what is wrong with a text.
NOT_READ = {"global_compression_ratio", "phiq", "version", "type", "pack_dtype"}
LISTED = {"quantization_status"}


@pytest.mark.parametrize("options", ["W4A16", "W8A8", "GPTQ-Int4", "AWQ"])
def test_values_of_the_wrong_kind_end_with_one_line(copy, options):
    """Every key of the configuration, with every kind of value."""
    folder = copy(options)
    (folder / RECORD).unlink()
    config = config_of(folder)
    taken = set()
    for path in paths({"quantization_config": config["quantization_config"]}):
        for value in (-1, 10 ** 30, "x", [1]):
            changed = json.loads(json.dumps(config))
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            (folder / "config.json").write_text(json.dumps(changed))
            done = run(["inspect", folder])
            if done.code == 0:
                taken.add(path[-1])
                continue
            assert done.code in (3, 6), (path, value, done.err)
            refused(done, done.code, input_size=sum(file.stat().st_size for file in folder.iterdir()))
    assert taken <= NOT_READ | LISTED


def test_shards_that_lie(made, tmp_path):
    """An index that sends tensors to the wrong file, or to none; files that have more than it says."""
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    tensors = read_safetensors(made() / WEIGHTS)
    names = list(tensors)
    halves = [names[:len(names) // 2], names[len(names) // 2:]]

    def sharded(weight_map, parts=halves, n_files=2):
        folder = shutil.copytree(made(), tmp_path / str(len(list(tmp_path.iterdir()))),
                                 ignore=shutil.ignore_patterns(WEIGHTS, RECORD))
        for shard, part in list(zip(shards, parts))[:n_files]:
            write_safetensors(folder / shard, {name: tensors[name] for name in part})
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        configure(folder, lambda q: q.pop("phiq"))  # as of another tool: phiq's own would have one file
        return folder

    sound = {name: shard for shard, half in zip(shards, halves) for name in half}
    run(["verify", sharded(sound), "--against", TINY]).ok()
    first = halves[0][0]
    assert f"'{first}' is in {shards[0]}" in warnings(run(["inspect", sharded({**sound, first: shards[1]})]).ok())[0]
    broken(sharded({**sound, first: "model-00003-of-00002.safetensors"}), "model-00003-of-00002.safetensors", code=4)
    broken(sharded({**sound, first: "../model.safetensors"}), "..")
    broken(sharded(sound, n_files=1), shards[1], code=4)
    broken(sharded(sound, [halves[0], [*halves[1], first]]), first)
    less = sharded({name: shard for name, shard in sound.items() if name != first})
    assert f"1 tensor of the shards is not in it, '{first}'" in warnings(run(["inspect", less]).ok())[0]


@pytest.mark.parametrize("options, name, change, needle", [
    ("W4A16", "weight_scale", None, "weight_scale is missing"),
    ("W4A16", "weight_shape", None, "weight_shape is missing"),
    ("W4A16", "weight_packed", None, "weight_packed is missing"),
    ("W4A16", "weight_scale", ("I32", (256, 3), bytes(4 * 768)), "has dtype I32, needs a float"),
    ("W4A16", "weight_packed", ("U8", (256, 384), bytes(256 * 384)), "has dtype U8, needs I32"),
    ("W8A8", "weight", ("U8", (256, 768), bytes(256 * 768)), "has dtype U8, needs I8"),
    ("AWQ", "qzeros", ("I32", (6, 16), bytes(384)), "has shape [6, 16], needs [6, 32]"),
    ("GPTQ-Int4", "g_idx", None, "g_idx is missing"),
    ("GPTQ-Int4", "scales", ("BF16", (256, 6), bytes(2 * 256 * 6)), "has shape [256, 6], needs [6, 256]"),
    ("W4A16", "weight_shape", ("I64", (3,), bytes(24)), "has shape [3], needs [2]"),
    ("W4A16", "weight_scale", ("BF16", (256,), bytes(512)), "has shape [256], needs [256, 6]"),
    ("W4A16 --asym --group-size 32", "weight_zero_point", ("I32", (256, 24), bytes(4 * 256 * 24)),
     "has shape [256, 24], needs [32, 24]"),
])
def test_tensors_that_are_wrong(copy, options, name, change, needle):
    folder = copy(options)
    edit(folder, lambda tensors: tensors.pop(f"{DOWN}.{name}") if change is None
         else tensors.update({f"{DOWN}.{name}": change}))
    broken(folder, needle)


def test_tensors_that_have_no_role(copy):
    folder = copy()
    edit(folder, lambda tensors: tensors.update({f"{DOWN}.weight_g_idx": ("I32", (768,), bytes(3072))}))
    broken(folder, "has no role")


def test_a_scale_that_is_not_finite_is_listed(copy):
    folder = copy()
    edit(folder, lambda tensors: tensors.update(
        {f"{DOWN}.weight_scale": ("BF16", (256, 6), b"\x80\x7f" + tensors[f"{DOWN}.weight_scale"][2][2:])}))
    done = run(["inspect", folder, "--check"])
    assert done.code == 1 and "inf" in done.text.lower()


def test_many_targets_take_no_time(copy):
    folder = copy()
    configure(folder, lambda q: group(q).update(targets=["Linear", *(f"model.layers.{i}.x" for i in range(200_000))]))
    run(["inspect", folder]).ok()
