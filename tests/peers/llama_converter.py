"""Runs llama.cpp's own converter, convert_hf_to_gguf.py, as a user does, but in this Python.

The converter knows BPE tokenizers by the digest of a probe text's ids. phi4mini-tiny's vocabulary is its
own, so its digest is unknown; its split expression is that of `gpt-4o`.
"""
import os
import pathlib
import subprocess
import sys

PRE_TOKENIZERS = {"phi35-tiny": "", "phi4mini-tiny": "gpt-4o"}

# Each line of standard input: the arguments of one run, with tabs between them.
CONVERT = """
import logging, runpy, sys, traceback
source, pre = sys.argv[1], sys.argv[2]
sys.path.insert(0, source)
if pre:
    import conversion.base
    conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
script = source + "/convert_hf_to_gguf.py"
for line in sys.stdin:
    sys.argv = [script, *line.rstrip("\\n").split("\\t")]
    try:
        runpy.run_path(script, run_name="__main__")
    except (Exception, SystemExit):
        traceback.print_exc()
        print("FAILED")
    else:
        print("CONVERTED")
"""


def convert(source, model, folders):
    """Converts {folder: out} with the converter in `source` (--outtype f32), folders of the bundled checkpoint
    `model`. {folder: None, or what it said where it failed}."""
    jobs = "".join(f"{folder}\t--outtype\tf32\t--outfile\t{out}\n" for folder, out in folders.items())
    done = subprocess.run([sys.executable, "-c", CONVERT, source, PRE_TOKENIZERS[model]], input=jobs,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "PYTHONUNBUFFERED": "1"})
    said = {}
    rest = done.stdout
    for folder in folders:
        ends = [(rest.index(word), word) for word in ("CONVERTED\n", "FAILED\n") if word in rest]
        assert ends, done.stdout
        end, word = min(ends)
        said[folder] = None if word == "CONVERTED\n" else rest[:end]
        rest = rest[end + len(word):]
    return said
