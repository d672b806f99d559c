"""What mlx-lm computes from an MLX folder is the checkpoint's model, however its config.json says it.

mlx-lm's phi3 reads rope_theta, partial_rotary_factor and original_max_position_embeddings from the
outermost object, type and factors from rope_scaling, and nothing else (docs/formats/mlx.md).
"""
import json
import shutil

import pytest

from harness import DATA, SANITIZED, run, warnings

SOURCE = json.loads((DATA / "phi35-tiny" / "config.json").read_text())
FACTORS = SOURCE["rope_scaling"]
OTHER = [2.0] * len(FACTORS["long_factor"])
LEFT_OUT = object()


def checkpoint(folder, **changes):
    shutil.copytree(DATA / "phi35-tiny", folder)
    config = {**SOURCE, **changes}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not LEFT_OUT}))
    return folder


def converted(tmp_path, *options, **changes):
    folder = checkpoint(tmp_path / "in", **changes)
    run(["quantize", folder, "--format", "mlx", *options, "-o", tmp_path / "out", "--no-fsync"]).ok()
    plan = run(["plan", folder, "--format", "mlx", *options]).ok().text
    return json.loads((tmp_path / "out" / "config.json").read_text()), plan


@pytest.mark.parametrize("changes, expected", [
    # rope_scaling, or else rope_parameters, wins over the outermost object, as in `phiq eval`.
    ({"rope_scaling": None, "rope_parameters": {"rope_theta": 250000.0}}, {"rope_theta": 250000.0}),
    ({"rope_scaling": {**FACTORS, "rope_theta": 5.0}, "rope_theta": LEFT_OUT}, {"rope_theta": 5.0}),
    ({"rope_scaling": None, "rope_parameters": {"partial_rotary_factor": 1.0}, "partial_rotary_factor": 0.5},
     {"partial_rotary_factor": 1.0}),
    ({"rope_scaling": None, "rope_parameters": {"rope_type": "longrope", "long_factor": OTHER, "short_factor": OTHER}},
     {"rope_scaling": {"type": "longrope", "long_factor": OTHER, "short_factor": OTHER}}),
    ({"rope_scaling": {**FACTORS, "type": "SU"}}, {"rope_scaling": {**FACTORS, "type": "su"}}),
    ({"rope_scaling": {"rope_type": "default", "rope_theta": 7.0}, "rope_theta": LEFT_OUT},
     {"rope_scaling": None, "rope_theta": 7.0}),
    ({"model_type": LEFT_OUT}, {"model_type": "phi3"}),
])
def test_values_stand_where_mlx_lm_looks(tmp_path, changes, expected):
    config, plan = converted(tmp_path, **changes)
    assert {key: config[key] for key in expected} == expected
    assert "where mlx-lm reads it" in plan


@pytest.mark.parametrize("key", ["rope_theta", "partial_rotary_factor"])
def test_null_is_left_out(tmp_path, key):
    # mlx-lm has its default for a key that is missing, and computes with None.
    assert key not in converted(tmp_path, **{key: None})[0]


@pytest.mark.parametrize("key, value", [("rope_traditional", True), ("model_file", "other.py")])
def test_keys_of_mlx_lm_alone_are_left_out(tmp_path, key, value):
    assert key not in converted(tmp_path, **{key: value})[0]


def test_many_keys_take_no_longer_than_their_bytes(tmp_path):
    # 1 MB; at most 2 s for a file that is not from a friend (docs/reliability.md).
    many = {f"k{i}": 0 for i in range(80_000)}
    folder = checkpoint(tmp_path / "in", **many)
    result = run(["plan", folder, "--format", "mlx"]).ok()
    assert result.seconds < (20 if SANITIZED else 2)


def test_a_folder_that_mlx_lm_reads_otherwise_is_warned_of(tmp_path):
    # mlx-lm copies a newer configuration as it is, and then takes its defaults.
    converted(tmp_path)
    assert warnings(run(["inspect", tmp_path / "out"]).ok()) == []
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["rope_scaling"]["rope_theta"] = config.pop("rope_theta")
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    (warning,) = warnings(run(["inspect", tmp_path / "out"]).ok())
    assert "mlx-lm computes another model: it does not find rope_theta" in warning


@pytest.mark.parametrize("indexed", [True, False])
def test_a_file_that_mlx_lm_would_load_too_is_refused(tmp_path, indexed):
    converted(tmp_path)
    out = tmp_path / "out"
    shutil.copy(out / "model.safetensors", out / "model-old.safetensors")
    if not indexed:
        (out / "model.safetensors.index.json").unlink()
    for args in (["inspect", out], ["verify", out, "--against", tmp_path / "in"]):
        result = run(args)
        assert result.code == 3
        assert "model-old.safetensors: belongs to no model in this folder" in result.err


@pytest.mark.parametrize("card, lines", [
    (b"---\nlicense: mit\ntags:\n- x\nlicense_link: https://x/LICENSE\n---\nlicense: no\n",
     "license: mit\nlicense_link: https://x/LICENSE\n"),
    (b"---\nlicense: mit\nlicense: other\n---\n", "license: mit\n"),
    (b"---\nlicense:\n- mit\nlicense_name: |\n  x\n---\n", ""),
    (b"---\nlicense: \xff\n---\n", ""),
    (b"---\nlicense: mit", ""),
    (b"license: mit\n", ""),
])
def test_card_takes_over_the_license(tmp_path, card, lines):
    folder = checkpoint(tmp_path / "in")
    (folder / "README.md").write_bytes(card)
    run(["quantize", folder, "--format", "mlx", "-o", tmp_path / "out", "--no-fsync"]).ok()
    assert (tmp_path / "out" / "README.md").read_text() == (
        f"---\nlanguage: en\n{lines}library_name: mlx\npipeline_tag: text-generation\ntags:\n- mlx\n---\n")
