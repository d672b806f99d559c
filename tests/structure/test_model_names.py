"""A tensor's name is used in its places only, and the check sees it when it is not."""
import pathlib

import pytest

from model_names import PLACES, WORDS, strays

SOURCE = pathlib.Path(__file__).resolve().parents[2]


def test_names_of_tensors_stand_in_their_places():
    assert strays(SOURCE) == []


def test_the_places_are_there_and_have_names():
    for place in PLACES:
        assert WORDS.search((SOURCE / place).read_text()), place


@pytest.mark.parametrize("line", [
    'const std::string name = "model.layers.0.mlp.down_proj.weight";',
    'if (name.starts_with("blk.")) return;',
    'Add("/model/layers.0/attn/o_proj/MatMul");',
    'return "lm_head.weight";',
])
def test_a_stray_name_is_found(tmp_path, line):
    (tmp_path / "src/formats/gguf").mkdir(parents=True)
    (tmp_path / "src/formats/gguf/metadata.cpp").write_text(line + "\n")
    assert len(strays(tmp_path)) == 1


@pytest.mark.parametrize("line", [
    '// "model.layers.0.mlp.down_proj.weight" is a comment.',
    'return "output_norm";',
    'Add("/model/attn_mask_reformat");',
])
def test_other_words_are_not(tmp_path, line):
    (tmp_path / "src/model").mkdir(parents=True)
    (tmp_path / "src/model/a.cpp").write_text(line + "\n")
    assert strays(tmp_path) == []
