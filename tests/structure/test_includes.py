"""Rooms include only what is below them, and the check sees it when they do not."""
import pathlib

import pytest

from includes import ROOM_OF_PUBLIC_HEADER, formats_of, names_outside, violations

SOURCE = pathlib.Path(__file__).resolve().parents[2]


def test_rooms_include_only_what_is_below_them():
    assert violations(SOURCE) == []


def test_a_format_is_named_in_its_folder_and_the_list_alone():
    assert {"gguf", "onnx", "openvino", "mlx"} <= set(formats_of(SOURCE))
    assert names_outside(SOURCE) == []


@pytest.mark.parametrize("path, code, wanted", [
    ("src/convert/a.cpp", 'if (format == "onnx") return;', 'src/convert/a.cpp: "onnx"'),
    ("src/formats/mlx/a.cpp", "gguf::Read(path);", 'src/formats/mlx/a.cpp: "gguf"'),
    ("tools/phiq/a.cpp", 'Print("an ONNX folder");', 'tools/phiq/a.cpp: "onnx"'),
    ("include/phiq/a.h", "enum class Format { kGguf, kMlx };  // not onnx", None),
    ("src/formats/mlx/a.cpp", "namespace phiq::mlx {}", None),
    ("src/formats/list.cpp", "&gguf::kFormat, &onnx::kFormat", None),
    ("tools/phiq/a.cpp", 'R"(phiq quantize --format gguf,onnx)"', None),
])
def test_a_name_elsewhere_is_found(tmp_path, path, code, wanted):
    for name in ("gguf", "mlx", "onnx"):
        (tmp_path / "src" / "formats" / name).mkdir(parents=True)
        (tmp_path / "src" / "formats" / name / "format.cpp").write_text("// A comment.\n")
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code + "\n")
    assert names_outside(tmp_path) == ([] if wanted is None else [wanted])


def test_every_public_header_has_a_room():
    headers = {path.name for path in (SOURCE / "include" / "phiq").iterdir()}
    assert headers <= set(ROOM_OF_PUBLIC_HEADER)


def test_the_check_reads_the_whole_tree():
    """A tree moved elsewhere would pass with nothing read; these files are known to include."""
    for name in ("include/phiq/plan.h", "src/base/error.cpp", "tools/phiq/main.cpp"):
        assert "#include" in (SOURCE / name).read_text()


@pytest.mark.parametrize("path, include, wanted", [
    ("src/base/a.cpp", '"io/input_file.h"', "base may not include io"),
    ("src/kernels/a.cpp", '"io/input_file.h"', "kernels may not include io"),
    ("src/model/a.cpp", '"phiq/plan.h"', "model may not include plan"),
    ("src/plan/a.cpp", '"formats/gguf/layout.h"', "plan may not include formats/gguf"),
    ("src/formats/gguf/a.cpp", '"convert/pipeline.h"', "formats/gguf may not include convert"),
    ("src/convert/a.cpp", '"formats/gguf/layout.h"', "convert may not include formats/gguf"),
    ("src/formats/format.cpp", '"formats/gguf/format.h"', "formats may not include formats/gguf"),
    ("src/formats/gguf/a.cpp", '"layout.h"', "names no room"),
    ("src/convert/a.cpp", "<spdlog/spdlog.h>", "only tools may use this library"),
    ("src/convert/a.cpp", "<phiq/error.h>", "with quotes"),
    ("src/stray.cpp", '"base/json.h"', "this file is in no room"),
    ("include/phiq/checkpoint.h", '"phiq/model.h"', "checkpoint may not include model"),
    ("include/phiq/plan.h", '"plan/recipe.h"', "only public headers"),
    ("tools/phiq/a.cpp", '"base/json.h"', "tools may include only phiq/"),
])
def test_a_forbidden_include_is_found(tmp_path, path, include, wanted):
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(f"// A comment.\n#include {include}\n")
    assert len(violations(tmp_path)) == 1
    assert wanted in violations(tmp_path)[0]


@pytest.mark.parametrize("path, include", [
    ("src/kernels/a.cpp", '"base/half.h"'),
    ("src/plan/a.cpp", '"phiq/ggml_type.h"'),
    ("src/convert/a.cpp", '"formats/layout.h"'),
    ("src/formats/list.cpp", '"formats/gguf/format.h"'),
    ("src/model/a.cpp", "<fmt/format.h>"),
    ("tools/phiq/a.cpp", '"phiq/convert.h"'),
    ("tools/phiq/a.cpp", "<CLI/CLI.hpp>"),
])
def test_an_allowed_include_is_not(tmp_path, path, include):
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(f"#include {include}\n")
    assert violations(tmp_path) == []
