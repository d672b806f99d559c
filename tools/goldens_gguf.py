#!/usr/bin/env python3
"""Lists what llama.cpp's own converter writes for the tiny checkpoints.

Runs convert_hf_to_gguf.py (--outtype f32) on each checkpoint and writes every metadata record and
every tensor of its file into OUT/gguf/NAME.json: the reference that tests/formats/gguf compares with.
llama-tokenize's ids of the hostile strings, with the same file, go into OUT/tokenization/NAME.json, and
llama-imatrix' files for phi35-tiny into OUT/imatrix.

Needs a Python with torch, transformers, sentencepiece, numpy and gguf:
  python3 -m venv VENV
  VENV/bin/pip install torch==2.13.0 transformers==5.23.0 sentencepiece gguf==0.19.0
and llama.cpp's source tree, which the source package of llama-cpp-python 0.3.36 carries:
  VENV/bin/pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36   (vendor/llama.cpp)

  VENV/bin/python tools/goldens_gguf.py --llama-cpp DIR --out DIR

tools/goldens does all that.
"""

import argparse
import hashlib
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tests" / "peers"), str(ROOT / "tests" / "peers" / "gguf")]
import llama  # the programs that tools/setup builds
import llama_converter

LONGEST_LISTED = 64  # elements; longer arrays are listed as a digest with their ends


def metadata_of(reader):
    """[[key, type, value]]; the type of an array is "[ELEMENT]".

    A long array becomes {"count", "sha256", "first", "last"}; the digest is of the elements as GGUF
    stores them (little-endian numbers; a string is a u64 length and its bytes).
    """
    from gguf import GGUFValueType
    records = []
    for field in reader.fields.values():
        if field.name.startswith("GGUF."):  # the header's own fields
            continue
        element = field.types[-1].name.lower()
        if field.types[0] != GGUFValueType.ARRAY:
            records.append([field.name, element, field.contents()])
            continue
        values = field.contents()
        value = values
        if len(values) > LONGEST_LISTED:
            digest = hashlib.sha256()
            for index in field.data:
                if field.types[-1] == GGUFValueType.STRING:
                    digest.update(field.parts[index - 1].tobytes())
                digest.update(field.parts[index].tobytes())
            value = {"count": len(values), "sha256": digest.hexdigest(),
                     "first": values[:3], "last": values[-3:]}
        records.append([field.name, f"[{element}]", value])
    return records


def tensors_of(reader):
    """Offsets count from the start of the tensor data; shapes are GGUF's, fastest first."""
    return [{"name": tensor.name, "type": tensor.tensor_type.name, "ne": [int(n) for n in tensor.shape],
             "offset": int(tensor.data_offset) - reader.data_offset, "size": int(tensor.n_bytes),
             "sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest()} for tensor in reader.tensors]


def tokenization_of(path, checkpoint):
    reference = json.loads((checkpoint / "reference" / "reference.json").read_text())
    return [{"text": case["text"], "ids": llama.tokenize(path, case["text"])}
            for case in reference["tokenization"]]


def write_importance(model, text, folder):
    """What llama-imatrix writes for four chunks of a text, in both forms."""
    folder.mkdir(parents=True, exist_ok=True)
    for form in ("gguf", "dat"):
        llama.run_in(text.parent, "imatrix", "-m", model, "-f", text.name, "-o", folder / f"phi35-tiny.{form}",
                     "--output-format", form, *llama.window(128), "--chunks", 4, *llama.FLOAT_CACHES)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama-cpp", required=True, help="llama.cpp's source tree")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "tests/data", help="where the checkpoints are")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    from gguf import GGUFReader
    for name in llama_converter.PRE_TOKENIZERS:
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "out.gguf"
            for said in llama_converter.convert(options.llama_cpp, name, {options.data / name: path}).values():
                if said is not None:
                    sys.exit(f"{name}: the converter failed:\n{said}")
            reader = GGUFReader(path)
            listing = {"metadata": metadata_of(reader), "tensors": tensors_of(reader),
                       "data_bytes": path.stat().st_size - reader.data_offset}
            write_json(options.out / "gguf" / f"{name}.json", listing)
            write_json(options.out / "tokenization" / f"{name}.json", tokenization_of(path, options.data / name))
            if name == "phi35-tiny":
                text = pathlib.Path(scratch) / "text.txt"
                text.write_bytes((options.data / "heldout.txt").read_bytes()[:12000])
                write_importance(path, text, options.out.resolve() / "imatrix")


if __name__ == "__main__":
    main()
