"""Runs llama.cpp's programs, around their traps.

-nr       always: repacked kernels round differently, and crash on some processors.
-c        always: the context size decides which of the two sets of rotary factors is used.
linger.so keeps a process alive until its log thread has printed everything.
"""
import ast
import os
import re
import subprocess

from program import CACHE

FOLDER = CACHE / "llama.cpp"


def is_complete():
    return (FOLDER / "complete").exists()


def run(program, *arguments, stdin=None):
    """Runs llama-PROGRAM and returns what it printed, both streams."""
    return _run(program, arguments, stdin, subprocess.STDOUT).stdout.decode("utf-8", "backslashreplace")


def run_in(folder, program, *arguments):
    """The same in a folder: some programs write the names of their inputs into what they make."""
    return _run(program, arguments, None, subprocess.STDOUT, folder).stdout.decode("utf-8", "backslashreplace")


def _run(program, arguments, stdin, stderr, folder=None):
    command = [FOLDER / f"llama-{program}", *map(str, arguments)]
    environment = {**os.environ, "LD_PRELOAD": str(FOLDER / "linger.so")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr,
                          input=b"" if stdin is None else stdin, cwd=folder)
    assert done.returncode == 0, f"{command}\n{(done.stderr or done.stdout)[-3000:].decode(errors='replace')}"
    return done


def window(n_context):
    """Windows of n_context tokens, each computed at once by one thread with the plain kernels."""
    return "-c", n_context, "-b", n_context, "-ub", n_context, "-t", 1, "-nr"


# llama-imatrix' sums are those of float32 only with these.
FLOAT_CACHES = ("-ctk", "f32", "-ctv", "f32", "-fa", "off")


def perplexity(model, text, n_context, chunks=None):
    limit = () if chunks is None else ("--chunks", chunks)
    log = run("perplexity", "-m", model, "-f", text, *window(n_context), *limit)
    return float(re.search(r"Final estimate: PPL = ([0-9.]+)", log)[1])


def complete(model, prompt_file, n_tokens, n_context):
    """The greedy continuation of a prompt; end-of-text is ignored."""
    done = _run("completion", ("-m", model, "-bf", prompt_file, "-n", n_tokens, "-c", n_context, "-t", 1,
                               "-nr", "--temp", 0, "--ignore-eos", "-no-cnv", "--no-escape",
                               "--no-display-prompt"), None, subprocess.PIPE)
    return done.stdout.decode("utf-8")


def tokenize(model, text):
    """The ids of a text, special tokens recognised, none added."""
    done = _run("tokenize", ("-m", model, "--stdin", "--ids", "--no-bos", "--no-escape", "--log-disable"),
                text.encode(), subprocess.PIPE)
    return ast.literal_eval(done.stdout.decode())
