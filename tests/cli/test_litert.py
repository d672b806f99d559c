"""LiteRT files, held against the checkpoint by a reader of their own, and spoiled ones."""
import json
import os
import re
import shutil
import struct
import zlib

import numpy as np
import pytest

import litert_file
from harness import DATA, make_checkpoint, read_safetensors, run
from harness import refused as refused_line

TINY, TIED = DATA / "phi35-tiny", DATA / "phi4mini-tiny"
SHORT = ("--max-length", "512")


def quantize(model, out, *options):
    run(["quantize", model, "--format", "litert", *options, "-o", out, "--no-fsync", "--quiet"]).ok()
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litert")
    for name, model, options in (("int4", TIED, SHORT), ("untied", TINY, (*SHORT, "--precision", "int8")),
                                 ("fp32", TIED, (*SHORT, "--precision", "fp32"))):
        quantize(model, folder / f"{name}.litertlm", *options)
    quantize(TIED, folder / "int4.tflite", *SHORT)
    return folder


def weights_of(checkpoint):
    tensors = read_safetensors(checkpoint / "model.safetensors")
    return {name: (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
            for name, (_, shape, content) in tensors.items()}


# --- what stands in a file -------------------------------------------------------------------

def test_a_bundle_holds_its_sections_and_the_bare_model(files):
    bundle = (files / "int4.litertlm").read_bytes()
    places = litert_file.sections(bundle)
    assert list(places) == ["metadata", "tokenizer.json", "model"]
    end = 0
    for begin, section_end in places.values():
        assert begin % 16384 == 0 and begin >= end and not any(bundle[end:begin][64 if end == 0 else 0:][4096:])
        end = section_end
    assert end == len(bundle)
    begin, end = places["model"]
    bare = (files / "int4.tflite").read_bytes()
    # But for the record, which says where in which file each array is.
    record = re.compile(rb'\{"phiq":.*?\n"record":"[0-9a-f]{32}"\}', re.DOTALL)
    assert len(record.findall(bare)) == 1
    assert record.sub(b"", bundle[begin:end]) == record.sub(b"", bare)
    begin, end = places["tokenizer.json"]
    assert struct.unpack_from("<Q", bundle, begin) == ((TIED / "tokenizer.json").stat().st_size,)
    assert zlib.decompress(bundle[begin + 8:end]) == (TIED / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("name, model", [("int4", TIED), ("untied", TINY), ("fp32", TIED)])
def test_weights_are_the_checkpoints_within_half_a_step(files, name, model):
    bundle = (files / f"{name}.litertlm").read_bytes()
    begin, end = litert_file.sections(bundle)["model"]
    made = litert_file.Model(bundle[begin:end])
    found = {tensor for tensor in made.tensors() if not tensor.endswith("/scales")}
    source = weights_of(model)
    assert found == set(source)
    for tensor, wanted in source.items():
        weight = made.weight(tensor)
        if not isinstance(weight, tuple):
            assert np.array_equal(weight, wanted), tensor
            continue
        values, codes, scales = weight
        bits = 4 if name == "int4" and "embed" not in tensor else 8
        most = 2 ** (bits - 1) - 1
        assert codes.min() >= -most and codes.max() <= most and (scales > 0).all()
        # A scale rounded to a half moves the largest weight by up to 2^-11 of it.
        assert (np.abs(values - wanted) <= scales * (0.5 + most * 2.0**-11 + 1e-5)).all(), tensor


def test_arrays_lie_behind_the_flatbuffer_at_multiples_of_64(files):
    data = (files / "int4.tflite").read_bytes()
    model = litert_file.Model(data)
    assert data[4:8] == b"TFL3"
    places = sorted((buffer.number(1, "<Q"), buffer.number(2, "<Q")) for buffer in model.buffers
                    if buffer.number(2, "<Q"))
    end = places[0][0]
    for offset, size in places:
        assert offset % 64 == 0 and 0 <= offset - end < 64
        end = offset + size
    assert end == len(data)


def test_signatures_share_what_is_alike(files):
    model = litert_file.Model((files / "int4.tflite").read_bytes())
    assert list(model.graphs) == ["decode", "prefill_16", "prefill_128"]
    assert [signature.text(2) for signature in model.root.tables(7)] == list(model.graphs)
    quantizations = {}
    for graph in model.graphs:
        for name, tensor in model.tensors(graph).items():
            if tensor.place(4) is not None:
                quantizations.setdefault(name, set()).add(tensor.target(4))
    assert len(quantizations) == 4 * 4 + 1
    assert all(len(places) == 1 for places in quantizations.values())
    # A prefill ends with the caches of the last layer, and has no logits.
    last = "model.layers.3.self_attn.o_proj.weight"
    assert last in model.tensors("decode") and last not in model.tensors("prefill_16")


def test_inputs_and_outputs_are_the_engines(files):
    model = litert_file.Model((files / "int4.tflite").read_bytes())
    for signature in model.root.tables(7):
        graph = model.graphs[signature.text(2)]
        tensors = graph.tables(0)
        n = 1 if signature.text(2) == "decode" else int(signature.text(2).split("_")[1])
        shapes = {entry.text(0): tensors[entry.number(1, "<I")].array(0).tolist()
                  for field in (0, 1) for entry in signature.tables(field)}
        wanted = {"tokens": [1, n], "input_pos": [n], "mask": [1, 1, n, 512]}
        for layer in range(4):
            wanted |= {f"kv_cache_k_{layer}": [1, 2, 512, 64], f"kv_cache_v_{layer}": [1, 2, 64, 512]}
        if n == 1:
            wanted["logits"] = [1, 1, 2112]
        assert shapes == wanted
        for fields, named in ((1, 0), (2, 1)):
            assert graph.array(fields).tolist() == [entry.number(1, "<I") for entry in signature.tables(named)]


def test_bytes_do_not_depend_on_threads_or_the_run(files, tmp_path):
    again = quantize(TIED, tmp_path / "again.litertlm", *SHORT, "--threads", "1")
    assert again.read_bytes() == (files / "int4.litertlm").read_bytes()


# --- chat templates --------------------------------------------------------------------------

def template_of(bundle):
    """Field 7 of LlmMetadata."""
    data = bundle.read_bytes()
    begin, end = litert_file.sections(data)["metadata"]
    text = data[begin:end]
    while text:
        key, text = text[0], text[1:]
        value = shift = 0
        while True:
            byte, text = text[0], text[1:]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if key & 7 == 2:
            if key >> 3 == 7:
                return text[:value].decode()
            text = text[value:]
    return None


def parts(x):
    return f"({x}|map(attribute='text')|join if {x} is sequence and {x} is not string else {x})"


@pytest.mark.parametrize("template, wanted", [
    ("{{ message['content'] }}", "{{ " + parts("message['content']") + " }}"),
    ('{%if m["content"]%}{{m.content|trim}}{%endif%}',
     '{%if ' + parts('m["content"]') + '%}{{' + parts("m.content") + '|trim}}{%endif%}'),
    ("{{ messages[0]['content'] + ns.last.content }}",
     "{{ " + parts("messages[0]['content']") + " + " + parts("ns.last.content") + " }}"),
    # Texts, comments, quoted strings and longer names are none.
    ("m.content {# m.content #}{{ 'm.content' + m.contents + \"a\\\"m.content\" + m['content'] }}",
     "m.content {# m.content #}{{ 'm.content' + m.contents + \"a\\\"m.content\" + " + parts("m['content']") + " }}"),
])
def test_a_template_reads_the_texts_of_parts(tmp_path, template, wanted):
    checkpoint = with_template(tmp_path, template)
    assert template_of(quantize(checkpoint, tmp_path / "x.litertlm", *SHORT)) == wanted


def with_template(folder, template):
    checkpoint = make_checkpoint(folder / "checkpoint", base=TIED)
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    config["chat_template"] = template
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
    return checkpoint


@pytest.mark.parametrize("template", ["", "{{ messages|length }}"])
def test_without_a_template_that_can_be_followed_phis_tags_are(tmp_path, template):
    checkpoint = with_template(tmp_path, template)
    out = quantize(checkpoint, tmp_path / "x.litertlm", *SHORT)
    assert template_of(out) is None
    data = out.read_bytes()
    begin, end = litert_file.sections(data)["metadata"]
    assert b"\x0a\x13\x0a\x08<|user|>\x12\x07<|end|>" in data[begin:end]
    plan = run(["plan", checkpoint, "--format", "litert", *SHORT]).ok().text
    assert "by Phi's tags" in plan


# --- plans -----------------------------------------------------------------------------------

def decisions(model, *options):
    plan = run(["plan", model, "--format", "litert", *options, "--json"]).ok().json()
    return {entry["subject"]: (entry["value"], entry["reason"]) for entry in plan["decisions"]}


def test_the_plan_says_which_rotary_factors_and_from_where_on(tmp_path):
    value, reason = decisions(TIED, "--max-length", "512")["rotary factors"]
    assert value == "short" and "512" in reason
    value, reason = decisions(TIED, "--max-length", "528")["rotary factors"]
    assert value == "long" and "texts of up to 512 tokens" in reason


@pytest.mark.parametrize("length, signatures", [
    ("16", "decode, prefill of 16"), ("512", "decode, prefill of 16, 128"), ("1024", "decode, prefill of 16, 128, 1024"),
    ("1040", "decode, prefill of 16"), (None, "decode, prefill of 16, 128, 1024")])
def test_signatures_are_those_that_divide_the_cache(length, signatures):
    options = [] if length is None else ["--max-length", length]
    found = decisions(TIED, *options)
    assert found["signatures"][0] == signatures
    assert found["cache"][0] == f"{length or 4096} tokens"


@pytest.mark.parametrize("options, words", [
    (["--max-length", "500"], ["--max-length 500", "multiple of 16"]),
    (["--max-length", "8192"], ["--max-length 8192", "context is 4096"]),
    (["--group-size", "16"], ["--group-size 16", "32, 64, 128, and 'row'"]),
    (["--precision", "int8", "--group-size", "32"], ["--group-size", "type int8 has no groups"]),
    (["--asym"], ["--asym", "not an option of litert"]),
    (["--tensor-type", "down_proj=int2"], ["unknown tensor type", "float, int8, int4"]),
])
def test_options_that_contradict_each_other_are_refused(options, words):
    result = run(["plan", TIED, "--format", "litert", *options])
    assert result.code == 2
    assert all(word in result.err for word in words) and result.err.count("\n") == 1, result.err


@pytest.mark.parametrize("out", ["-", "/dev/null", "pipe"])
def test_what_is_not_written_from_front_to_back_goes_to_no_pipe(tmp_path, out):
    """It would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for force in ([], ["--force"]):
        line = refused_line(run(["quantize", TIED, "--format", "litert", "-o", out, *force], cwd=tmp_path), 2)
        assert line == f"-o {out}: LiteRT makes a file, which is not written from front to back, as a pipe or device takes it (give -o a file name)"
        line = refused_line(run(["quantize", TIED, "--format", "torch", "-o", out, *force], cwd=tmp_path), 2)
        assert out == "-" or "PyTorch makes a folder, which is not written from front to back" in line
    assert (tmp_path / "pipe").is_fifo()


def test_a_window_below_the_cache_is_warned_of(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "window", config_updates={"sliding_window": 300})
    result = run(["plan", checkpoint, "--format", "litert", "--max-length", "512"]).ok()
    assert "sliding_window 300 is below the cache of 512" in result.err and "--max-length 288" in result.err
    assert "sliding_window" not in run(["plan", checkpoint, "--format", "litert", "--max-length", "288"]).ok().err


def test_yarn_is_refused(tmp_path):
    """Its angles are not those of the graph."""
    scaling = json.loads((TINY / "config.json").read_text())["rope_scaling"]
    checkpoint = make_checkpoint(tmp_path / "yarn", config_updates={"rope_scaling": {**scaling, "type": "yarn"}})
    for command in ("plan", "quantize"):
        line = refused_line(run([command, checkpoint, "--format", "litert"], cwd=tmp_path), 6)
        assert "rope type yarn is not written to LiteRT" in line
    assert [path.name for path in tmp_path.iterdir()] == ["yarn"]
    run(["plan", checkpoint, "--type", "F16"]).ok()  # a format that has it


def test_rows_that_groups_do_not_fit_become_int8(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "odd", config_updates={"intermediate_size": 752},
                                 tensors_update=narrow(752))
    result = run(["plan", checkpoint, "--format", "litert", "--json"]).ok()
    assert "row of 752 is not a multiple of 32: int4 -> int8" in result.err
    assert run(["plan", checkpoint, "--format", "litert", "--strict-types"]).code == 6


def narrow(inner):
    found = {}
    for name, (dtype, shape, content) in read_safetensors(TINY / "model.safetensors").items():
        values = np.frombuffer(content, "<u2").reshape(shape)
        if "gate_up_proj" in name:
            values = np.concatenate([values[:inner], values[768:768 + inner]])
        elif "down_proj" in name:
            values = np.ascontiguousarray(values[:, :inner])
        else:
            continue
        found[name] = (dtype, values.shape, values.tobytes())
    return found


def test_groups_of_zeros_have_a_positive_scale(tmp_path):
    """XNNPACK refuses others."""
    name = "model.layers.1.mlp.down_proj.weight"

    def zeros():
        dtype, shape, content = read_safetensors(TINY / "model.safetensors")[name]
        values = np.frombuffer(content, "<u2").reshape(shape).copy()
        values[3] = 0
        values[5, 32:64] = 0
        return {name: (dtype, shape, values.tobytes())}

    checkpoint = make_checkpoint(tmp_path / "zeros", tensors_update=zeros())
    for options in ((), ("--precision", "int8"), ("--method", "search"), ("--precision", "int8", "--method", "search")):
        out = quantize(checkpoint, tmp_path / "x.tflite", *SHORT, *options, "--force")
        values, _, scales = litert_file.Model(out.read_bytes()).weight(name)
        assert not values[3].any() and (scales[3] == 1).all() and (scales > 0).all()


# --- reading back ----------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["int4.litertlm", "untied.litertlm", "fp32.litertlm", "int4.tflite"])
def test_files_are_verified_and_inspected(files, name):
    source = TINY if "untied" in name else TIED
    run(["verify", files / name, "--against", source]).ok()
    shown = run(["inspect", files / name, "--check", "--json"]).ok().json()
    assert (shown["kind"], shown["problems"]) == ("litert", [])
    assert "prefill_128" in json.dumps(shown["metadata"])


def test_a_checkpoint_that_differs_is_no_match(files, tmp_path):
    other = make_checkpoint(tmp_path / "other", base=TIED, config_updates={"rope_theta": 20000.0})
    result = run(["verify", files / "int4.litertlm", "--against", other])
    assert result.code == 1 and "has other values than phiq writes" in result.err + result.text
    shutil.copytree(TIED, tmp_path / "ends", ignore=shutil.ignore_patterns("reference"))
    (tmp_path / "ends" / "generation_config.json").write_text('{"eos_token_id": [2049]}')
    result = run(["verify", files / "int4.litertlm", "--against", tmp_path / "ends"])
    assert result.code == 1 and "LlmMetadata" in result.err + result.text


def test_eval_computes_what_the_file_says(files):
    """Floats: as the checkpoint, whose factors are short in windows of that length."""
    report = run(["eval", files / "fp32.litertlm", "--against", TIED, "--text", DATA / "heldout.txt", "--ctx", "64",
                  "--chunks", "2", "--json"], timeout=120).ok().json()
    assert report["models"][0]["kl"]["mean"] < 1e-12


def test_a_bare_model_has_no_tokenizer(files):
    result = run(["eval", files / "int4.tflite", "--text", DATA / "heldout.txt"])
    assert result.code == 6 and "is a model without a tokenizer" in result.err and "--ids" in result.err


# --- spoiled files ---------------------------------------------------------------------------

def refused(path, data, word, code=3):
    path.write_bytes(data)
    result = run(["inspect", path])
    assert result.code == code and word in result.err and result.err.count("\n") == 1, result.err
    assert result.peak_rss_bytes < 200 << 20


def patched(data, at, form, value):
    data = bytearray(data)
    struct.pack_into(form, data, at, value)
    return bytes(data)


def test_headers_of_bundles_that_are_wrong_end_with_one_line(files, tmp_path):
    data = (files / "int4.litertlm").read_bytes()
    bad = tmp_path / "bad.litertlm"
    refused(bad, data[:20], "the header of a bundle needs 32")
    refused(bad, patched(data, 8, "<I", 2), "is a bundle of version 2", code=6)
    refused(bad, patched(data, 24, "<Q", 1 << 40), f"the header ends at byte {1 << 40}")
    refused(bad, patched(data, 24, "<Q", 32), "the header ends at byte 32")
    refused(bad, patched(data, 32, "<I", 1 << 30), "header is damaged")
    refused(bad, data[:-1], "section 2 goes from byte")
    header = litert_file.root(data, 32)
    model = header.table(1).tables(0)[2]
    refused(bad, patched(data, model.place(1), "<Q", 8), "section 2 goes from byte 8")
    refused(bad, patched(data, model.place(3), "<B", 1), "is a bundle of 0 models", code=6)
    refused(bad, patched(data, header.table(1).tables(0)[0].place(3), "<B", 3), "is a bundle of 2 models", code=6)


def test_tables_that_are_wrong_end_with_one_line(files, tmp_path):
    data = (files / "int4.tflite").read_bytes()
    bad = tmp_path / "bad.tflite"
    refused(bad, b"", "is no LiteRT model")
    refused(bad, data[:6], "is no LiteRT model")
    refused(bad, patched(data, 4, "<I", 0), "is no LiteRT model")
    refused(bad, patched(data, 0, "<I", 1 << 31), "flatbuffer is damaged")
    model = litert_file.Model(data)
    buffer = next(buffer for buffer in model.buffers if buffer.number(2, "<Q"))
    refused(bad, patched(data, buffer.place(1), "<Q", len(data)), f"lies at byte {len(data)}")
    refused(bad, patched(data, buffer.place(1), "<Q", (1 << 64) - 8), "lies at byte")
    refused(bad, patched(data, buffer.place(2), "<Q", 1 << 63), f"a buffer of {1 << 63} bytes")
    refused(bad, patched(data, buffer.place(1), "<Q", 64), "lies inside of the model's flatbuffer")
    refused(bad, data[:len(data) // 2], "lies at byte")


def test_models_that_are_another_than_their_configuration_are_not_evaluated(files, tmp_path):
    data = (files / "int4.tflite").read_bytes()
    model = litert_file.Model(data)
    graph = model.graphs["decode"]
    tensors = graph.tables(0)
    ids = tmp_path / "ids.txt"
    ids.write_text(" ".join(map(str, range(100))))
    changes = {
        "operator 7": (graph.tables(3)[7].place(0), "<I", 0),
        "signature 'decode': tensor": (tensors_named(tensors, "tokens").place(1), "<b", 9),
        "has other values": (model.buffers[tensors_named(tensors, "frequencies").number(2, "<I")].target(0) + 4, "<f", 9.0),
        "has no signature 'decode'": (graph.target(4) + 4, "<B", ord("x")),
    }
    for word, change in changes.items():
        bad = tmp_path / "bad.tflite"
        bad.write_bytes(patched(data, *change))
        result = run(["eval", bad, "--ids", ids, "--ctx", "32"])
        assert result.code == 3 and word in result.err and result.err.count("\n") == 1, result.err
        run(["inspect", bad]).ok()  # what it holds can be looked at


def tensors_named(tensors, name):
    return next(tensor for tensor in tensors if tensor.text(3) == name)


def test_weights_that_do_not_fit_are_named(files, tmp_path):
    data = (files / "int4.tflite").read_bytes()
    model = litert_file.Model(data)
    tensor = model.tensors()["model.layers.0.mlp.down_proj.weight"]
    buffer = model.buffers[tensor.number(2, "<I")]
    blocks = tensor.table(4).table(5)
    bad = tmp_path / "bad.tflite"
    for change, word in (((buffer.place(2), "<Q", 64), "is of 64 bytes, needs"),
                         ((blocks.place(2), "<i", 7), "has blocks of 7"),
                         ((blocks.place(0), "<i", 1 << 20), f"has tensor {1 << 20} for its scales"),
                         ((tensor.place(1), "<b", 0), "bytes, needs")):
        bad.write_bytes(patched(data, *change))
        result = run(["verify", bad, "--against", TIED])
        assert result.code == 1 and "'model.layers.0.mlp.down_proj.weight' has no counterpart" in result.err + result.text


def test_tokenizers_that_are_wrong_end_with_one_line(files, tmp_path):
    data = (files / "int4.litertlm").read_bytes()
    begin, end = litert_file.sections(data)["tokenizer.json"]
    for change, word in ((patched(data, begin, "<Q", 1 << 50), f"is {1 << 50} bytes of text"),
                         (patched(data, begin, "<Q", 5), "holds no zlib stream of 5 bytes"),
                         (patched(data, begin + 8, "<B", 0), "holds no zlib stream")):
        bad = tmp_path / "bad.litertlm"
        bad.write_bytes(change)
        result = run(["eval", bad, "--text", DATA / "heldout.txt", "--ctx", "32"])
        assert result.code == 3 and word in result.err and result.err.count("\n") == 1, result.err


def test_no_byte_of_the_tables_is_trusted(files, tmp_path):
    """Every byte that an offset, a length or an index may stand in, in a file of few tables: exit 0, 3 or 6."""
    data = (files / "int4.litertlm").read_bytes()
    begin, _ = litert_file.sections(data)["model"]
    first = min(buffer.number(1, "<Q") for buffer in litert_file.Model(data[begin:]).buffers if buffer.number(2, "<Q"))
    generator = np.random.default_rng(1)
    places = np.concatenate([generator.integers(begin, begin + first, 60), generator.integers(8, 400, 20)])
    for at in places:
        bad = tmp_path / "bad.litertlm"
        bad.write_bytes(patched(data, int(at), "<B", int(generator.integers(0, 256))))
        result = run(["inspect", bad, "--check"])
        assert result.code in (0, 1, 3, 6), (at, result.err)
