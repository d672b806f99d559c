"""hardening rows 28 to 42 and 53: shards, index, links and names of a checkpoint folder."""
import json
import os
import shutil
import socket

import pytest

import harness as h

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture
def two(folder):
    """A sound checkpoint of two shards and their index."""
    return h.tiny(folder, shards=2)


def opened(folder, *args, calls="open,openat,openat2"):
    """What a run of the program opens (or, with other `calls`, does), as strace shows it."""
    trace = folder.parent / "strace.txt"
    command = ["-f", "-qq", "-e", f"trace={calls}", "-o", trace, h.PHIQ, *args]
    result = h.run(command, program=shutil.which("strace"), cwd=folder.parent)
    text = trace.read_text()
    trace.unlink()
    return result, text


@pytest.mark.parametrize("name", ["../../etc/x", "/abs/x", "a/b.safetensors", "..", ".", "", "a\\b", "a\0b",
                                  "C:x", "n" * 256 + ".safetensors", "\x1b[2J/x"])
def test_row_028_shard_names_that_lead_elsewhere(two, name):
    weight_map = h.read_index(two)["weight_map"]
    weight_map["model.norm.weight"] = name
    h.write_index(two, weight_map)
    shown = name.replace("\0", "\\x00").replace("\x1b", "\\x1b")[:200]
    h.refused_by_both(two, 3, INDEX, "shard name", f"'{shown}", "must be a plain file name")


@needs_strace
def test_row_028_opens_nothing_outside(two):
    secret = two.parent / "secret.safetensors"
    shutil.copyfile(two / FIRST, secret)
    weight_map = {name: f"../{secret.name}" if shard == FIRST else shard
                  for name, shard in h.read_index(two)["weight_map"].items()}
    h.write_index(two, weight_map)
    result, text = opened(two, "plan", two, "--type", "Q8_0")
    assert result.code == 3
    assert INDEX in text and "secret" not in text


def in_cache(root, source):
    """`source` as the hub keeps it: content in blobs, links in the snapshot. Returns the snapshot."""
    repository = root / "models--someone--tiny-phi"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for number, path in enumerate(sorted(source.iterdir())):
        shutil.copyfile(path, repository / "blobs" / f"{number:040x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040x}")
    return snapshot


def test_row_029_shards_that_are_links(two, work):
    _, expected = h.converted(two)
    snapshot = in_cache(work / "cache", two)
    out = work / "cached.gguf"
    # by folder, and by the repository's name
    for model in (snapshot, "someone/tiny-phi"):
        h.run(["quantize", model, "-o", out, "--type", "Q8_0", "--force"], cwd=work,
              env={"HF_HUB_CACHE": work / "cache"}).ok()
        content = out.read_bytes()
        # only the model's name may differ: it comes from the folder
        assert abs(len(content) - len(expected)) < 64
        assert content[-100_000:] == expected[-100_000:]


def test_row_030_siblings_are_looked_up_beside_the_link(two, work):
    snapshot = in_cache(work / "cache", two)
    out = work / "cached.gguf"
    h.run(["quantize", snapshot / INDEX, "-o", out, "--type", "Q8_0"], cwd=work).ok()
    assert out.read_bytes()[:4] == b"GGUF"


def test_row_031_dangling_link(two):
    (two / SECOND).unlink()
    (two / SECOND).symlink_to("../../blobs/ab\x1bcd")
    h.refused_by_both(two, 4, SECOND, "dangling link", "../../blobs/ab\\x1bcd")


def test_row_032_link_loop(two):
    (two / SECOND).unlink()
    (two / SECOND).symlink_to("other")
    (two / "other").symlink_to(SECOND)
    h.refused_by_both(two, 4, SECOND, "Too many levels")


@pytest.mark.parametrize("kind", ["folder", "fifo", "socket", "device"])
def test_row_033_not_a_regular_file(two, kind):
    shard = two / SECOND
    shard.unlink()
    if kind == "folder":
        shard.mkdir()
    elif kind == "fifo":
        os.mkfifo(shard)
    elif kind == "socket":
        place = os.getcwd()
        os.chdir(two)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(SECOND)
        os.chdir(place)
    else:
        shard.symlink_to("/dev/zero")
    h.refused_by_both(two, 4, SECOND, "not a regular file")


def test_row_034_missing_shards(two):
    (two / SECOND).unlink()
    n_tensors = list(h.read_index(two)["weight_map"].values()).count(SECOND)
    h.refused_by_both(two, 4, "1 of 2 shards missing", f"{SECOND} ({n_tensors} tensors)")


def test_row_034_many_missing_shards(folder):
    h.tiny(folder, layers=2, shards=9)
    for shard in folder.glob("model-0000[2-9]*"):
        shard.unlink()
    line = h.refused_by_both(folder, 4, "8 of 9 shards missing",
                             *(f"model-0000{i}-of-00009.safetensors" for i in range(2, 7)))
    assert "model-00007" not in line


def test_row_035_index_lists_what_no_shard_holds(two):
    """An index copied from the base model: an error when the tensor is needed, else a warning."""
    weight_map = h.read_index(two)["weight_map"]
    _, expected = h.converted(two)
    h.write_index(two, {**weight_map, "model.layers.0.self_attn.rotary_emb.inv_freq": SECOND})
    result, content = h.converted(two)
    assert content == expected
    assert h.warnings(result) == [f"{two / INDEX}: 'model.layers.0.self_attn.rotary_emb.inv_freq' should be in {SECOND} and is not"]
    tensors = h.read_safetensors(two / SECOND)
    norm = tensors.pop("model.norm.weight")
    assert norm is not None
    h.write_safetensors(two / SECOND, tensors)
    h.write_index(two, weight_map)
    h.refused_by_both(two, 3, "missing tensor 'model.norm.weight'")


def test_row_036_shard_holds_what_the_index_lacks(two):
    weight_map = h.read_index(two)["weight_map"]
    del weight_map["model.norm.weight"]
    h.write_index(two, weight_map)
    result = h.run(["plan", two]).ok()  # transformers reads what the shards hold
    assert any("1 tensor of the shards is not in it, 'model.norm.weight' of " + SECOND in text
               for text in h.warnings(result))


def test_row_036_tensor_in_two_shards(two):
    tensors = h.read_safetensors(two / FIRST)
    tensors["model.norm.weight"] = h.read_safetensors(two / SECOND)["model.norm.weight"]
    h.write_safetensors(two / FIRST, tensors)
    h.refused_by_both(two, 3, "tensor 'model.norm.weight'", FIRST, SECOND)


def test_row_037_stale_index(two):
    names = list(h.read_index(two)["weight_map"])
    h.write_index(two, {name: f"model-{i % 4 + 1:05d}-of-00004.safetensors" for i, name in enumerate(names)})
    h.refused_by_both(two, 3, INDEX, "index does not match", "4 shards", "delete or fix")


@pytest.mark.parametrize("name", [SECOND + ".incomplete", SECOND + ".part"])
def test_row_038_partial_download_beside(two, name):
    _, expected = h.converted(two)
    (two / name).write_bytes(b"x")
    result, content = h.converted(two)
    assert any(name in line and "interrupted download?" in line for line in h.warnings(result))
    assert content == expected


def test_row_039_wrong_total_size(two):
    index = h.read_index(two)
    _, expected = h.converted(two)
    true = index["metadata"]["total_size"]
    h.write_index(two, index["weight_map"], true + 1)
    result, content = h.converted(two)
    assert any(str(true) in line and str(true + 1) in line for line in h.warnings(result))
    assert content == expected
    before = h.snapshot(two.parent)
    strict = h.run(["quantize", two, "-o", "out.gguf", "--type", "Q8_0", "--werror"], cwd=two.parent)
    h.refused(strict, 3, "total_size", before=before, folder=two.parent)


def test_row_040_index_and_single_file(two):
    """What saving twice with other shard sizes leaves: transformers loads the single file."""
    _, of_shards = h.converted(two)
    h.write_weights(two, h.tiny_tensors(seed=2))  # other weights in model.safetensors
    result, content = h.converted(two)
    assert h.warnings(result) == [f"{two / 'model.safetensors'}: is taken, as transformers does, and {FIRST}, {SECOND}, {INDEX} are ignored"]
    for name in (FIRST, SECOND, INDEX):
        (two / name).unlink()
    result, expected = h.converted(two)
    assert h.warnings(result) == [] and content == expected != of_shards


def test_numbered_shards_without_an_index(two):
    _, expected = h.converted(two)
    (two / INDEX).unlink()
    (two / f"._{FIRST}").write_bytes(b"\0\5\x16\7")  # what macOS leaves on other file systems
    result, content = h.converted(two)
    assert content == expected
    assert h.warnings(result) == [f"{two}: no {INDEX}: the 2 numbered shards are taken"]
    (two / FIRST).unlink()
    assert h.refused_by_both(two, 4) == \
        f"{two}: 1 of 2 shards missing, the first is number 1 (incomplete download? fetch them again)"


@needs_strace
def test_a_link_that_leads_nowhere_as_the_model(work):
    (work / "loop").symlink_to("loop")
    h.refused(h.run(["plan", work / "loop"]), 4, "loop", "Too many levels of symbolic links")
    (work / "gone").symlink_to("nowhere")
    h.refused(h.run(["plan", work / "gone"]), 4, "gone", "dangling link")


def test_row_041_only_a_pickle(folder):
    h.side_files(folder, "phi35-tiny")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\0.")
    h.refused_by_both(folder, 6, "pickle", "convert to safetensors")
    _, text = opened(folder, "plan", folder)
    assert "pytorch_model.bin" not in text


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"a":"\xff"}', b'{"a":1,"a":2}', b"null",
                                     b'{"architectures":["Phi3ForCausalLM"]'])
def test_row_042_config(two, content):
    (two / "config.json").unlink()
    if content is not None:
        (two / "config.json").write_bytes(content)
    h.refused_by_both(two, 4 if content is None else 3, "config.json")


@pytest.mark.parametrize("name", ["two words", "new\nline", "\u00fcn\u00efc\u00f6de \u6a21", "-leading", "%s%n",
                                  "/".join(["d"] * 200), "\x1b[2J"],
                         ids=["spaces", "newline", "utf8", "dash", "percent", "deep", "escape"])
def test_row_053_folder_names(work, name):
    place = work / "in"
    folder = h.tiny(place / name)
    out = work / "out.gguf"
    result = h.run(["quantize", "--type", "Q8_0", "-o", out, "--", name], cwd=place).ok()
    assert out.read_bytes()[:4] == b"GGUF"
    assert all(c == "\n" or c >= " " for c in result.err + result.text)
    # and in a message
    (folder / "model.safetensors").unlink()
    h.refused(h.run(["plan", "--", name], cwd=place), 4, "model.safetensors")


def test_one_shard_of_two(two):
    h.refused_by_both(two / FIRST, 4, f"{two / FIRST}: is one of 2 shards, and", f"give the folder, {two}")


@pytest.mark.parametrize("text", ["Entry not found", "Repository not found", '{"error":"Sorry, no"}'])
def test_the_hubs_error_message_in_place_of_weights(folder, text):
    (h.tiny(folder) / "model.safetensors").write_text(text)
    h.refused_by_both(folder, 3, "model.safetensors", "the hub's error message in place of the file")


def test_of_converted_models_one_is_named(folder):
    (folder / "phi-Q8_0.gguf").write_bytes(b"GGUF" + bytes(60))
    for command in ("inspect", "verify"):
        options = ["--against", folder] if command != "inspect" else []
        result = h.run([command, folder, *options])
        assert result.code == 6 and f"name one, such as {folder / 'phi-Q8_0.gguf'}" in result.err, result.err


@pytest.mark.parametrize("name, content", [
    *(("generation_config.json", content) for content in ("99999", "[2055, 99999]", '"x"', "1.5", "[-1]")),
    ("config.json", "[2055, 99999]")])  # its one number is read with the rest of it
@pytest.mark.parametrize("format", ["gguf", "onnx", "openvino", "mlx", "litert"])
def test_an_end_of_text_that_is_no_token(folder, format, name, content):
    h.tiny(folder, config_updates={"eos_token_id": json.loads(content)} if name == "config.json" else None)
    if name == "config.json":
        (folder / "generation_config.json").unlink(missing_ok=True)
    else:
        (folder / name).write_text(f'{{"eos_token_id": {content}}}')
    result = h.run(["plan", folder, "--format", format])
    h.refused(result, 3, f"{folder / name}: 'eos_token_id' is", "allowed are token ids below 2112")
