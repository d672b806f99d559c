"""Rows 100 to 105 of docs/reliability.md: `inspect`, `verify` and `compare` of broken OpenVINO folders."""
import json
import re
import shutil
import struct

import numpy as np
import pytest

from harness import DATA, MIB, bf16, refused, run, tiny, tiny_tensors

TINY = DATA / "phi35-tiny"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A right folder of each of two types."""
    folder = tmp_path_factory.mktemp("openvino")
    for name, options in {"f32": ["--type", "F32"],
                          "asym": ["--type", "INT4_ASYM", "--ratio", "1", "--group-size", "row"]}.items():
        run(["quantize", TINY, "--format", "openvino", *options, "-o", folder / name, "--no-fsync"]).ok()
    return folder


@pytest.fixture
def copy(made, tmp_path):
    def copy(name="f32"):
        return shutil.copytree(made / name, tmp_path / name)
    return copy


def edit(folder, change):
    xml = folder / "openvino_model.xml"
    old = xml.read_bytes()
    new = change(old)
    assert new != old
    xml.write_bytes(new)


def inspect_xml(folder, content, *needles, code=3):
    """`inspect` of a file that is read no further than its .xml."""
    path = folder / "x.xml"
    path.write_bytes(content)
    return refused(run(["inspect", path]), code, "x.xml", *needles, input_size=len(content))


def verified(folder, *needles):
    """`verify` finds what is wrong."""
    done = run(["verify", folder, "--against", TINY])
    assert done.code == 1, done.err
    for needle in needles:
        assert needle in done.text + done.err
    return done


NET = b'<?xml version="1.0"?><net name="x" version="11"><layers>%s</layers><edges>%s</edges></net>'


# --- row 100 ---------------------------------------------------------------------------------

@pytest.mark.parametrize("doctype", [b"<!DOCTYPE net>", b'<!DOCTYPE a [<!ENTITY b "c">]>',
                                     b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'])
def test_row_100_no_doctype(folder, doctype):
    inspect_xml(folder, doctype + NET % (b"", b""), "DOCTYPE is not allowed", "at byte 0")


def test_row_100_broken_xml(folder):
    inspect_xml(folder, b"<net><layers>", "ends inside of 2 elements", "at byte 13")
    inspect_xml(folder, b"<net version='11'><layers></net></layers>", "at byte")
    inspect_xml(folder, b"<net a='1", "does not end", "at byte")
    inspect_xml(folder, b"<net a", "does not end", "at byte 0")
    inspect_xml(folder, b"</net>", "end tag", "at byte 0")
    inspect_xml(folder, b"<!-- x", "does not end", "at byte 0")
    inspect_xml(folder, b"<net>\xff</net>", "UTF-8", "at byte 5")
    inspect_xml(folder, "<net/>".encode("utf-16"), "UTF-16")
    inspect_xml(folder, b"<net>\0</net>", "NUL", "at byte 5")
    inspect_xml(folder, b"", "at byte")


def test_row_100_an_attribute_comes_once(folder):
    """pugixml, which OpenVINO reads with too, takes the first and keeps quiet."""
    inspect_xml(folder, NET % (b'<layer id="1" name="a" id="2"/>', b""), "two attributes 'id'", "at byte 56")
    inspect_xml(folder, NET % (b"<layer id = '1'\n name='a'\tid\n=\n'2' />", b""), "two attributes 'id'", "at byte 56")


def test_row_100_limits(folder):
    inspect_xml(folder, b"<a>" * 65 + b"</a>" * 65, "deeper than 64", "at byte 192")
    attributes = b"".join(b' a%d=""' % i for i in range(1_000_000))
    inspect_xml(folder, b"<net" + attributes + b"/>", "too many attributes")
    inspect_xml(folder, b"<n>" + b"<a/>" * 1_000_001 + b"</n>", "more than 1000000 elements")
    inspect_xml(folder, NET % (b'<layer id="1"/>' * 65_537, b""), "more than 65536 layers")


def test_row_100_not_a_graph(folder):
    inspect_xml(folder, b"<a/>", "no element 'net'")
    inspect_xml(folder, NET % (b"", b""), "no layers")
    inspect_xml(folder, NET % (b'<layer id="-1"/>', b""), "id is '-1'")
    inspect_xml(folder, NET % (b'<layer id="1"><output><port id="0"><dim>x</dim></port></output></layer>', b""),
                "a dimension is 'x'")


# --- row 101 ---------------------------------------------------------------------------------

NORM = b'name="model.norm.weight" type="Const" version="opset1">'


def with_place(**values):
    """Other attributes for a constant of 256 floats."""
    def change(xml):
        head, tail = xml.split(NORM)
        end = tail.index(b"/>")
        data = tail[:end]
        for name, value in values.items():
            data = re.sub(rf'{name}="[^"]*"'.encode(), f'{name}="{value}"'.encode(), data)
        return head + NORM + data + tail[end:]
    return change


@pytest.mark.parametrize("values, needles", [
    ({"offset": -64}, ["offset is '-64'"]),
    ({"offset": "x"}, ["offset is 'x'"]),
    ({"offset": ""}, ["offset is ''"]),
    ({"offset": 2**64 - 1}, ["beyond the 17966656 bytes"]),
    ({"offset": 2**64}, ["offset is '18446744073709551616'"]),
    ({"offset": 17966656}, ["beyond the 17966656 bytes"]),
    ({"size": 1020}, ["size 1020", "1024 bytes"]),
    ({"shape": "1, 1, 255"}, ["size 1024", "1020 bytes"]),
    ({"shape": "4294967296, 4294967296, 256"}, ["more than any file has"]),
    ({"shape": "1, -1, 256"}, ["shape is '1, -1, 256'"]),
    ({"element_type": "f16"}, ["size 1024", "512 bytes"]),
    ({"element_type": "f8e4m3"}, ["type f8e4m3"]),
    ({"element_type": "i64", "shape": "1, 1, 128"}, ["type i64"]),
    ({"element_type": "boolean", "shape": "1, 1, 1024"}, ["type boolean"]),
    ({"element_type": "string", "shape": "256, 16, 4611686018427387904"}, ["type string"]),
])
def test_row_101_places(copy, values, needles):
    folder = copy()
    edit(folder, with_place(**values))
    code = 6 if values.get("element_type") in ("f8e4m3", "i64", "boolean", "string") else 3
    refused(run(["inspect", folder]), code, "openvino_model.xml", "model.norm.weight", *needles)


# --- row 102 ---------------------------------------------------------------------------------

def first_edge(xml, **values):
    found = re.search(rb"<edge [^>]*>", xml)
    edge = found.group()
    for name, value in values.items():
        edge = re.sub(rf'{name}="\d+"'.encode(), f'{name}="{value}"'.encode(), edge)
    return xml[:found.start()] + edge + xml[found.end():]


BROKEN = {
    "two layers have id 4": lambda xml: xml.replace(b'<layer id="5"', b'<layer id="4"'),
    "there is no layer 99999": lambda xml: first_edge(xml, **{"from-layer": 99999}),
    "has no such output": lambda xml: first_edge(xml, **{"from-port": 77}),
    "has no such input": lambda xml: first_edge(xml, **{"to-port": 77}),
    "depends on itself": lambda xml: first_edge(xml, **{"from-layer": 4, "from-port": 1, "to-layer": 4}),
    "comes from nowhere": lambda xml: re.sub(rb"<edge [^>]*>", b"", xml, count=1),
    "but layer": lambda xml: xml.replace(b"<dim>256</dim>", b"<dim>255</dim>", 1),
    "has another attributes": lambda xml: xml.replace(b'causal="false"', b'causal="true"', 1),
    "are not those that phiq writes": lambda xml: xml.replace(b'SCALE_FACTOR value="8.0"', b'SCALE_FACTOR value="1.0"'),
    "_options are not those that phiq writes": lambda xml: xml.replace(b"</runtime_options>", b"""</runtime_options>
        <runtime_options><INFERENCE_PRECISION_HINT value="bf16"/></runtime_options>""", 1),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_row_102_broken_graphs(copy, problem):
    folder = copy()
    edit(folder, BROKEN[problem])
    verified(folder, problem)


@pytest.mark.parametrize("problem", [problem for problem in BROKEN if "those that" not in problem])
def test_row_102_what_computes_refuses_them(copy, problem):
    folder = copy()
    edit(folder, BROKEN[problem])
    refused(run(["compare", folder, TINY]), 3, "openvino_model.xml")


def test_row_102_a_shape_of_many_dimensions_is_not_shown_often(folder):
    """A short file, of which every edge is a problem with a long shape."""
    layers = [b'<layer id="0"><output><port id="0">' + b"<dim>1</dim>" * 20_000 + b"</port></output></layer>"]
    layers += [b'<layer id="%d"><input><port id="0"/></input></layer>' % i for i in range(1, 20_000)]
    edges = [b'<edge from-layer="0" from-port="0" to-layer="%d" to-port="0"/>' % i for i in range(1, 20_000)]
    content = NET % (b"".join(layers), b"".join(edges))
    (folder / "x.xml").write_bytes(content)
    (folder / "x.bin").write_bytes(b"")
    done = run(["inspect", folder / "x.xml", "--check"])
    assert done.code == 1 and done.seconds < 10 and done.peak_rss_bytes < 256 * MIB + 2 * len(content)
    assert "layer 1 '': input 0 is [], but layer 0 gives [1, 1, 1, 1, 1, 1, 1, 1, ... 20000 in all]" in done.text
    assert "19900 more problems of the graph" in done.text  # 20000 with the names, all of which are empty


# --- row 103 ---------------------------------------------------------------------------------

def test_row_103_the_bin(copy):
    folder = copy()
    binary = folder / "openvino_model.bin"
    content = binary.read_bytes()
    binary.write_bytes(content + b"\1")
    verified(folder, f"has {len(content) + 1} bytes, but its last constant ends at {len(content)}")
    binary.write_bytes(b"")
    refused(run(["inspect", folder]), 3, "beyond the 0 bytes")
    binary.unlink()
    refused(run(["inspect", folder]), 4, "openvino_model.bin")


def test_a_folder_without_its_xml(copy):
    folder = copy()
    (folder / "openvino_model.xml").unlink()
    for command in (["inspect", folder], ["verify", folder, "--against", folder]):
        refused(run(command), 4, "openvino_model.xml: No such file")


# --- row 104 ---------------------------------------------------------------------------------

def test_row_104_zero_points_of_rows_share_bytes(made):
    """One zero point a row, two in a byte: decoding by the layout alone gives weights within a step."""
    folder = made / "asym"
    run(["verify", folder, "--against", TINY]).ok()
    xml = (folder / "openvino_model.xml").read_text()
    name = "model.layers.0.self_attn.o_proj.weight"
    place = {suffix: dict(re.findall(r'(\w+)="([^"]*)"', re.search(
        rf'name="{re.escape(name + suffix)}" type="Const"[^>]*>\s*<data ([^>]*)/>', xml).group(1)))
        for suffix in ("", "/scale", "/zero_point")}
    data = (folder / "openvino_model.bin").read_bytes()
    read = lambda suffix: np.frombuffer(data, np.uint8, int(place[suffix]["size"]), int(place[suffix]["offset"]))
    rows, columns = map(int, place[""]["shape"].split(","))
    assert place["/zero_point"] == {**place["/zero_point"], "element_type": "u4", "shape": f"{rows}, 1",
                                    "size": str(rows // 2)}
    nibbles = lambda packed: np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1).astype(np.float32)
    codes, zeros = nibbles(read("")).reshape(rows, columns), nibbles(read("/zero_point"))
    scales = read("/scale").view(np.float16).astype(np.float32)
    decoded = (codes - zeros[:, None]) * scales[:, None]
    weights = tiny_tensor(name)
    # Half a step, and the ends of the range a whole one; scales lose 2^-11 of 15 steps.
    assert np.abs(decoded - weights).max() <= 1.01 * np.abs(scales).max()


def tiny_tensor(name):
    """A bfloat16 matrix of the checkpoint."""
    data = (TINY / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    entry = json.loads(data[8:8 + length])[name]
    first, end = entry["data_offsets"]
    bits = np.frombuffer(data[8 + length + first:8 + length + end], np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32).reshape(entry["shape"])


def test_row_104_swapped_nibbles_are_found(copy):
    folder = copy("asym")
    binary = folder / "openvino_model.bin"
    data = np.frombuffer(binary.read_bytes(), np.uint8)
    swapped = data.copy()
    place = re.search(r'name="model.layers.0.mlp.down_proj.weight" type="Const"[^>]*>\s*<data ([^>]*)/>',
                      (folder / "openvino_model.xml").read_text()).group(1)
    first, size = (int(re.search(rf'{key}="(\d+)"', place).group(1)) for key in ("offset", "size"))
    part = data[first:first + size]
    swapped[first:first + size] = part << 4 | part >> 4
    binary.write_bytes(swapped.tobytes())
    verified(folder, "model.layers.0.mlp.down_proj.weight")


def test_unsigned_codes_without_zero_points_are_counted_from_0(tmp_path):
    """As a graph computes them that only converts and multiplies; phiq writes no such weights."""
    name = "model.layers.0.self_attn.o_proj.weight"
    shape = tiny_tensors()[name][1]
    values = np.abs(np.random.default_rng(1).normal(0.0, 0.02, shape))
    model = tiny(tmp_path / "model", tensors_update={name: ("BF16", shape, bf16(values))})
    folder = tmp_path / "openvino"
    run(["quantize", model, "--format", "openvino", "--type", "INT8_SYM", "-o", folder, "--no-fsync"]).ok()
    xml = (folder / "openvino_model.xml").read_text()
    data = bytearray((folder / "openvino_model.bin").read_bytes())
    for suffix, change in {"": lambda codes: -codes.view(np.int8), "/scale": lambda scales: -scales.view(np.float16)}.items():
        place = re.search(rf'name="{re.escape(name + suffix)}" type="Const"[^>]*>\s*<data ([^>]*)/>', xml).group(1)
        first, size = (int(re.search(rf'{key}="(\d+)"', place).group(1)) for key in ("offset", "size"))
        # A row's codes have one sign, that of its scale the other.
        data[first:first + size] = change(np.frombuffer(bytes(data[first:first + size]), np.uint8)).tobytes()
    (folder / "openvino_model.bin").write_bytes(data)
    edit(folder, lambda content: re.sub(
        rb'(name="%s" type="Const"[^>]*>\s*<data element_type=")i8' % re.escape(name).encode(), rb"\1u8", content))
    (folder / "phiq.json").unlink()
    done = run(["verify", folder, "--against", model, "--json"])
    assert done.code == 1  # as the graph is another one
    assert [problem for problem in done.json()["problems"] if name in problem and "layer" not in problem.split(name)[0]] == []
    assert {tensor["name"]: tensor["relative_rmse"] for tensor in done.json()["tensors"]}[name] < 0.01


# --- row 105 ---------------------------------------------------------------------------------

def test_row_105_other_versions(copy):
    for version in ("9", "12", "", "x"):
        folder = copy()
        edit(folder, lambda xml: xml.replace(b'version="11"', f'version="{version}"'.encode(), 1))
        refused(run(["inspect", folder]), 6, "openvino_model.xml", f"version '{version}'")
        shutil.rmtree(folder)


# --- what ships is what is measured ----------------------------------------------------------

def test_other_values_of_small_constants_are_found(copy):
    folder = copy()
    binary = folder / "openvino_model.bin"
    data = bytearray(binary.read_bytes())
    place = re.search(r'name="rotary/frequencies" type="Const"[^>]*>\s*<data ([^>]*)/>',
                      (folder / "openvino_model.xml").read_text()).group(1)
    first = int(re.search(r'offset="(\d+)"', place).group(1))
    data[first] ^= 1
    binary.write_bytes(data)
    verified(folder, "layer 'rotary/frequencies' has other values")


def test_config_json_that_means_another_graph_is_refused(copy):
    folder = copy()
    config = folder / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"num_key_value_heads": 4', '"num_key_value_heads": 2'))
    assert config.read_text() != text
    refused(run(["compare", folder, TINY]), 3, "openvino_model.xml", "config.json", "layer")
