"""All outputs of a run get their names or none does, and what a killed run left is found by the next
(docs/reliability.md)."""
import hashlib
import re
import shutil
import signal

import pytest

import harness
from faults import needs_mounts, needs_strace, run_under_strace
from harness import error_line, refused, run, temporaries, tiny, warnings

RENAMES = "rename,renameat,renameat2"
# strace counts calls of each name apart: what is exchanged or added, and what replaces.
COUNTED = ["renameat2", "rename,renameat"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("together") / "Phi-3-mini")


class Several:
    """Two formats into one folder."""
    NAMES = ["phi-3-mini-Q8_0.gguf", "phi-3-mini-onnx-int8"]

    @staticmethod
    def args(model, out, *options):
        return ["quantize", model, "--format", "gguf,onnx", "--precision", "int8", "-o", out, "--threads", 1, *options]


class Split:
    """A GGUF in three parts."""
    NAMES = [f"out-0000{i}-of-00003.gguf" for i in (1, 2, 3)]

    @staticmethod
    def args(model, out, *options):
        return ["quantize", model, "--type", "Q8_0", "--split-max-size", "800K", "-o", out / "out.gguf", "--threads", 1,
                *options]


class Beside:
    """A GGUF, and what is written beside it."""
    NAMES = ["ids", "matrix.dat", "out.gguf"]

    @staticmethod
    def args(model, out, *options):
        return ["quantize", model, "--type", "Q8_0", "-o", out / "out.gguf", "--threads", 1, "--method", "imatrix",
                "--calibrate", harness.DATA / "heldout.txt", "--calibration-ctx", 16, "--calibration-tokens", 16,
                "--imatrix-out", out / "matrix.dat", "--calibration-out", out / "ids", *options]


KINDS = pytest.mark.parametrize("kind", [Several, Split, Beside])


def contents(folder):
    """name -> digest, or the same of a folder."""
    return {path.name: contents(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """kind -> what an undisturbed run writes."""
    made = {}
    for kind in (Several, Split, Beside):
        out = tmp_path_factory.mktemp(kind.__name__)
        run(kind.args(model, out)).ok()
        made[kind] = contents(out)
        assert list(made[kind]) == kind.NAMES
    return made


def old_outputs(model, kind, out):
    """What stands before a --force: the same of other weights."""
    shutil.copytree(model, out.parent / "other" / "Phi-3-mini")
    tiny(out.parent / "other" / "Phi-3-mini", seed=2)
    run(kind.args(out.parent / "other" / "Phi-3-mini", out)).ok()
    return contents(out)


def as_before(model, kind, out, before):
    """What old_outputs made again, or an empty folder."""
    shutil.rmtree(out)
    out.mkdir()
    if before:
        shutil.rmtree(out.parent / "other")
        assert old_outputs(model, kind, out) == before


@needs_strace
@KINDS
@pytest.mark.parametrize("force", [False, True])
def test_a_rename_that_fails_changes_no_name(model, whole, work, kind, force):
    out = work / "out"
    out.mkdir()
    before = old_outputs(model, kind, out) if force else {}
    n_failed = 0
    for calls in COUNTED:
        for k in range(1, 20):
            result = run_under_strace(kind.args(model, out, *["--force"] * force), work / "log",
                                      f"{calls}:error=EIO:when={k}", trace=RENAMES)
            if result.code == 0:
                break
            assert result.code == 5 and "rename failed: Input/output error" in error_line(result)
            assert contents(out) == before, f"{calls} {k}"
            n_failed += 1
        assert contents(out) == whole[kind]
        as_before(model, kind, out, before)
    assert n_failed >= len(kind.NAMES), "not every rename was made to fail"


@needs_strace
@KINDS
@pytest.mark.parametrize("force", [False, True])
def test_a_file_system_that_cannot_exchange(model, whole, work, kind, force):
    out = work / "out"
    out.mkdir()
    before = old_outputs(model, kind, out) if force else {}
    args = kind.args(model, out, *["--force"] * force)
    inject = "renameat2:error=EINVAL"
    log = work / "log"
    run_under_strace(args, log, inject, trace="rename,renameat,linkat,renameat2").ok()
    assert contents(out) == whole[kind]
    # And what replaces it can be taken back.
    n_calls = len(re.findall(r"(?:rename|renameat|linkat)\(", log.read_text()))
    for k in range(1, n_calls + 1):
        shutil.rmtree(out)
        out.mkdir()
        if force:
            shutil.rmtree(work / "other")
            assert old_outputs(model, kind, out) == before
        result = run_under_strace(args, log, inject, f"rename,renameat,linkat:error=EIO:when={k}")
        assert result.code == 5 or k > 1
        assert contents(out) == (whole[kind] if result.code == 0 else before), f"call {k}"


@needs_strace
@KINDS
@pytest.mark.parametrize("force", [False, True])
def test_what_cannot_be_taken_back_is_named_and_the_next_run_goes_on(model, whole, work, kind, force):
    out = work / "out"
    out.mkdir()
    if force:
        old_outputs(model, kind, out)
    result = run_under_strace(kind.args(model, out, *["--force"] * force), work / "log",
                              f"{RENAMES}:error=EIO:when=2+", trace=RENAMES)
    line = error_line(result)
    assert result.code == 5 and "could not be taken back" in line and "the next phiq that writes" in line
    named = re.search(r"taken back: (.*?) \(", line)[1]
    assert any(name in named for name in kind.NAMES)
    next_run = run(["quantize", model, "--type", "Q4_0", "-o", out / "another.gguf"]).ok()
    assert sorted(text.split(":")[0] for text in warnings(next_run)) == [str(out / name) for name in kind.NAMES]
    (out / "another.gguf").unlink()
    assert contents(out) == whole[kind]


@needs_strace
@KINDS
@pytest.mark.parametrize("force", [False, True])
def test_killed_at_each_rename_the_next_run_finishes(model, whole, work, kind, force):
    """Whatever it writes: here another type under another name."""
    out = work / "out"
    out.mkdir()
    before = old_outputs(model, kind, out) if force else {}
    n_finished = 0
    for calls in COUNTED:
        for k in range(1, 20):
            result = run_under_strace(kind.args(model, out, *["--force"] * force), work / "log",
                                      f"{calls}:signal=KILL:when={k}", trace=RENAMES)
            is_done = result.code == 0
            if not is_done:
                assert result.code == -signal.SIGKILL
                next_run = run(["quantize", model, "--type", "Q4_0", "-o", out / "another.gguf"]).ok()
                (out / "another.gguf").unlink()
                assert contents(out) == whole[kind], f"{calls} {k}"
                assert len(warnings(next_run)) == len(kind.NAMES)
                n_finished += 1
            as_before(model, kind, out, before)
            if is_done:
                break
    assert n_finished >= len(kind.NAMES)


@needs_strace
@pytest.mark.parametrize("format, next_format", [("onnx", "gguf"), ("openvino", "onnx"), ("mlx", "openvino"),
                                                 ("gguf", "mlx"), ("onnx,mlx", "gguf"), ("torch", "litert"),
                                                 ("litert", "torch"), ("torch,litert", "onnx")])
def test_a_run_of_another_format_removes_what_a_killed_one_left(model, work, format, next_format):
    out = work / "out"
    result = run_under_strace(["quantize", model, "--format", format, "-o", out, "--precision", "int8"], work / "log",
                              "fchmod:signal=KILL", trace="fchmod")
    assert result.code == -signal.SIGKILL
    folder = out if "," in format else work
    assert temporaries(folder), "the kill left nothing"
    run(["quantize", model, "--format", next_format, "-o", folder / "another", "--precision", "int8"]).ok()
    assert temporaries(work) == []


@needs_strace
def test_what_was_left_is_removed_before_the_name_is_looked_at(model, work):
    args = ["quantize", model, "--format", "onnx", "--precision", "int8", "-o", work / "out"]
    run_under_strace(args, work / "log", "fchmod:signal=KILL", trace="fchmod")
    (work / "out").mkdir()
    assert temporaries(work)
    assert run(args).code == 5
    assert temporaries(work) == []


@needs_strace
def test_a_folder_that_was_replaced_but_not_durably_is_named(model, work):
    args = ["quantize", model, "--format", "onnx", "--precision", "int8", "-o", work / "out", "--force"]
    run(args).ok()
    log = work.parent / "log"
    n_syncs = run_under_strace(args, log, trace="fsync").ok() and log.read_text().count("fsync(")
    result = run_under_strace(args, log, f"fsync:error=EIO:when={n_syncs}")
    line = error_line(result)
    assert result.code == 5 and "renamed but not known durable" in line
    kept, = [path.name for path in temporaries(work) if ".phiq-tmp." in path.name]
    assert kept in line
    run(["quantize", model, "--type", "Q8_0", "-o", work / "another.gguf"]).ok()
    assert temporaries(work) == []


@needs_mounts
def test_the_space_for_all_formats_is_summed(model, work):
    disk = work / "disk"
    disk.mkdir()
    args = ["quantize", model, "--format", "gguf,onnx,mlx", "--precision", "int8", "-o", disk]
    plan = run(["plan", *args[1:], "--json"]).ok().json()
    sizes = [output["output_bytes"] for output in plan["outputs"]]
    free = sum(sizes) - 4096
    assert all(size < free for size in sizes)
    script = f'mount -t tmpfs -o size={free} tmpfs "{disk}" && "$@"; code=$?; ls -A "{disk}"; exit $code'
    result = run(["-m", "sh", "-c", script, "sh", harness.PHIQ, *args], program=shutil.which("unshare"))
    line = refused(result, 5, f"{disk}", "needs", "free on this disk", folder=work)
    assert f"({sum(sizes)} bytes)" in line


# --- outputs that stand already -----------------------------------------------------------------

def test_skip_existing_writes_the_others(model, whole, work):
    run(["quantize", model, "--type", "Q8_0", "-o", work / Several.NAMES[0]]).ok()
    stamp = (work / Several.NAMES[0]).stat().st_mtime_ns
    refused(run(Several.args(model, work)), 5, "exists", "--force", "--skip-existing")
    report = run(Several.args(model, work, "--skip-existing", "--json")).ok().json()
    assert report["skipped"] == [str(work / Several.NAMES[0])] and report["format"] == "onnx"
    assert contents(work) == whole[Several]
    assert (work / Several.NAMES[0]).stat().st_mtime_ns == stamp


@KINDS
def test_skip_existing_has_nothing_to_do_when_all_stand(model, work, kind):
    run(kind.args(model, work)).ok()
    before = harness.snapshot(work)
    result = run(kind.args(model, work, "--skip-existing")).ok()
    assert "exists, skipped" in result.text
    assert harness.snapshot(work) == before


def test_skip_existing_wants_all_parts(model, work):
    whole = ["quantize", model, "--type", "Q8_0", "-o", work / "out.gguf", "--skip-existing"]
    args = [*whole, "--split-max-size", "800K"]
    run(args).ok()
    parts = sorted(work.iterdir())
    assert len(parts) == 3 and "exists, skipped" in run(args).ok().text
    content = parts[1].read_bytes()
    parts[1].unlink()
    refused(run(args), 5, parts[0].name, "exists", "--force")
    assert not parts[1].exists()
    for part in (parts[0], parts[2]):
        part.unlink()
    # Parts of another split are no output of this one.
    run([*whole, "--split-max-size", "1500K"]).ok()
    result = run(args).ok()
    assert "exists, skipped" not in result.text and parts[1].read_bytes() == content


@pytest.mark.parametrize("format", ["onnx", "mlx"])
def test_an_empty_folder_is_no_output(model, work, format):
    (work / "out").mkdir()
    refused(run(["quantize", model, "--format", format, "-o", work / "out", "--skip-existing"]), 5, "out", "exists",
            "--force")
    run(["quantize", model, "--format", format, "-o", work / "out", "--force"]).ok()
    assert "exists, skipped" in run(["quantize", model, "--format", format, "-o", work / "out", "--skip-existing"]).ok().text


@pytest.mark.parametrize("format", ["mlx", "torch"])
def test_force_replaces_no_checkpoint(model, work, format):
    """Its weights have the names that such an output has."""
    other = harness.tiny(work / "other", seed=7)
    before = harness.snapshot(work)
    refused(run(["quantize", model, "--format", format, "-o", other, "--force"]), 5, "other", "not replaced",
            "a checkpoint that is not quantized", before=before, folder=work)
    # Of what the runtime's own tool writes there is no record, but config.json says that it is quantized.
    args = ["quantize", model, "--format", format, "-o", work / "out", "--force"]
    run(args).ok()
    (work / "out" / "phiq.json").unlink()
    run(args).ok()


@pytest.mark.parametrize("option, name", [("--calibration-out", "c.ids"), ("--imatrix-out", "m.gguf")])
def test_skip_existing_leaves_what_stands_beside(model, work, option, name):
    text = work / "text.txt"
    text.write_bytes((harness.DATA / "heldout.txt").read_bytes()[:20000])
    args = ["quantize", model, "--type", "Q4_0", "--calibrate", text, "--calibration-tokens", "512", "--calibration-ctx", "128",
            "-o", work / "out.gguf", "--skip-existing", option]
    run([*args, work / name]).ok()
    before = harness.snapshot(work)
    report = run([*args, work / name, "--json"]).ok().json()
    assert report["skipped"] == [str(work / "out.gguf"), str(work / name)] and report["outputs"] == []
    assert harness.snapshot(work) == before
    # What cannot be had without an output is not passed over in silence.
    refused(run([*args, work / ("other-" + name)]), 5, f"other-{name}", "all of them exist", before=before, folder=work)
    (work / "out.gguf").unlink()
    run([*args, work / name]).ok()
    assert (work / "out.gguf").exists() and harness.snapshot(work)[name] == before[name]


def test_skip_existing_contradicts_force(model, work):
    refused(run(Several.args(model, work, "--skip-existing", "--force")), 2, "--skip-existing", "contradicts --force")


@pytest.mark.parametrize("options, code, needle", [
    (["--tensor-type", "foo=Q4_0"], 2, "foo"), (["--memory-limit", "1"], 7, "--memory-limit"),
    (["--eval-text", "none"], 4, "none"), (["--eval-text", "TEXT", "--ctx", "100000"], 2, "--ctx 100000"),
    (["--format", "openvino", "--tensor-type", "foo=F16"], 2, "foo"), ([], 5, "exists")])
def test_a_name_that_is_taken_hides_no_other_mistake(model, work, options, code, needle):
    (work / "out").write_text("mine")
    (work / "text.txt").write_text("some text")
    options = [work / "text.txt" if option == "TEXT" else option for option in options]
    before = harness.snapshot(work)
    refused(run(["quantize", model, "-o", work / "out", *options], cwd=work), code, needle, before=before, folder=work,
            seconds=0.5)


def test_a_folder_of_another_format_is_not_called_foreign(model, work):
    run(["quantize", model, "--format", "onnx", "-o", work / "out"]).ok()
    line = refused(run(["quantize", model, "--format", "openvino", "-o", work / "out", "--force"]), 5, "not replaced",
                   "do not belong to such an output", "'model.onnx'")
    assert "did not write" not in line


def test_parts_of_another_split_are_told(model, work):
    args = ["quantize", model, "--type", "Q8_0", "-o", work / "out.gguf", "--force"]
    run([*args, "--split-max-size", "800K"]).ok()
    result = run([*args, "--split-max-size", "1500K"]).ok()
    text, = warnings(result)
    assert "out-00001-of-00003.gguf" in text and "split otherwise" in text
    assert warnings(run([*args, "--split-max-size", "1500K"]).ok()) == [text]


@needs_strace
@pytest.mark.parametrize("force", [False, True])
def test_names_in_other_folders_come_with_the_models_or_not_at_all(model, work, force):
    (work / "model").mkdir()
    (work / "beside").mkdir()

    def args_of(n_tokens):
        return ["quantize", model, "--type", "Q8_0", "-o", work / "model" / "out.gguf", "--threads", 1, "--method", "imatrix",
                "--calibrate", harness.DATA / "heldout.txt", "--calibration-ctx", 16, "--calibration-tokens", n_tokens,
                "--imatrix-out", work / "beside" / "matrix.dat", "--html", work / "beside" / "page.html"]

    args = args_of(16) + ["--force"] * force
    n_failed = 0
    for calls in COUNTED:
        for folder in ("model", "beside"):
            shutil.rmtree(work / folder)
            (work / folder).mkdir()
        if force:
            run(args_of(32)).ok()
        before = contents(work)
        for k in range(1, 20):
            result = run_under_strace(args, work.parent / "log", f"{calls}:error=EIO:when={k}", trace=RENAMES)
            if result.code == 0:
                break
            assert result.code == 5 and "rename failed: Input/output error" in error_line(result)
            assert contents(work) == before, f"{calls} {k}"
            n_failed += 1
    assert n_failed >= 3, "not every rename was made to fail"
    after = contents(work)
    assert sorted(after["beside"]) == ["matrix.dat", "page.html"] and list(after["model"]) == ["out.gguf"]
    assert temporaries(work) == []
    if force:
        assert after["beside"]["matrix.dat"] != before["beside"]["matrix.dat"]
