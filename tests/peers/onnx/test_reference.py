"""FP32 and FP16 folders say what Hugging Face says, in one pass, in steps, in chunks and in batches.

FP32: onnxruntime sums in another order than torch. The largest difference in these cases is 7e-5, and
a bound of 5e-4 leaves room for other processors. FP16 has 11 bits: logits reach 25, where its step is
2^-6 = 0.016, and differences of 0.026 were seen.
"""
import numpy as np
import pytest

import genai
from quality import divergence
from runtime import Session

FP32_BOUND, FP16_BOUND = 5e-4, 0.1
# The same arithmetic in two groupings: sums of attention alone differ, by 2e-5.
REGROUPED_BOUND = 2e-4


@pytest.mark.parametrize("case", ["short", "at_limit", "over_limit", "long"])
def test_fp32_logits_are_hugging_faces(fp32, logit_cases, case):
    ids, positions, wanted = logit_cases[case]
    logits = fp32.logits(ids)[positions]
    assert np.abs(logits - wanted).max() < FP32_BOUND
    # 1.8e-12 was seen; float32 logits at 5e-4 would allow some 1e-7.
    assert divergence(wanted, logits).mean() < 1e-8


@pytest.mark.parametrize("case", ["short", "at_limit", "over_limit", "long"])
def test_fp16_logits_are_near_hugging_faces(fp16, logit_cases, case):
    ids, positions, wanted = logit_cases[case]
    logits = fp16.logits(ids)[positions]
    assert np.abs(logits - wanted).max() < FP16_BOUND
    assert divergence(wanted, logits).mean() < 1e-5  # 1.6e-6 was seen


@pytest.mark.parametrize("case", ["short", "at_limit", "over_limit", "long"])
def test_the_graph_for_dml_is_right_where_it_can_be_run(outputs, logit_cases, case):
    """Its nodes are other ones; onnxruntime has all of them on the CPU too."""
    ids, positions, wanted = logit_cases[case]
    logits = Session(outputs.of("--type", "fp16", "--ep", "dml")).logits(ids)[positions]
    assert np.abs(logits - wanted).max() < FP16_BOUND
    assert divergence(wanted, logits).mean() < 1e-5


def test_the_other_rotary_factors_do_not_pass(fp32, logit_cases):
    """One token more than original_max_position_embeddings turns the long factors on: the limit is
    where it should be, and the bounds above see it."""
    ids, positions, wanted = logit_cases["at_limit"]
    logits = fp32.logits([*ids, 13])[positions]
    assert np.abs(logits - wanted).max() > 100 * FP32_BOUND


# --- the cache -------------------------------------------------------------------------------

N_PROMPT, N_STEPS = 40, 24


@pytest.fixture(params=["fp32", "fp16"])
def session_and_bound(request):
    # Rounding to FP16 after each node spreads a last-bit difference: 0.016 was seen.
    return request.getfixturevalue(request.param), {"fp32": REGROUPED_BOUND, "fp16": 0.06}[request.param]


def test_single_steps_equal_one_pass(session_and_bound, heldout_ids):
    session, bound = session_and_bound
    ids = heldout_ids[:N_PROMPT + N_STEPS]
    wanted = session.logits(ids)
    logits, cache = session.run([ids[:N_PROMPT]])
    assert np.abs(logits[0] - wanted[:N_PROMPT]).max() < bound
    for n in range(N_PROMPT, len(ids)):
        logits, cache = session.run([ids[n:n + 1]], cache)
        assert np.abs(logits[0, 0] - wanted[n]).max() < bound, n


def test_a_chunk_after_a_prompt_equals_one_pass(session_and_bound, heldout_ids):
    session, bound = session_and_bound
    ids = heldout_ids[:N_PROMPT + N_STEPS]
    _, cache = session.run([ids[:N_PROMPT]])
    logits, _ = session.run([ids[N_PROMPT:]], cache)
    assert np.abs(logits[0] - session.logits(ids)[N_PROMPT:]).max() < bound


def test_a_batch_padded_on_the_right_equals_single_runs(session_and_bound, heldout_ids):
    """Steps after it too: each row's mask keeps the padding as zeros and gains a one per token, and
    the kernel puts the new key at the place of the row's first padding."""
    session, bound = session_and_bound
    lengths = [40, 17, 29]
    texts = [heldout_ids[first:first + n + N_STEPS] for first, n in zip((0, 1000, 2000), lengths)]
    wanted = [session.logits(text) for text in texts]
    ids, mask = np.zeros((3, max(lengths)), np.int64), np.zeros((3, max(lengths)), np.int64)
    for row, (text, n) in enumerate(zip(texts, lengths)):
        ids[row, :n], mask[row, :n] = text[:n], 1

    logits, cache = session.run(ids, mask=mask)
    for row, n in enumerate(lengths):
        assert np.abs(logits[row, :n] - wanted[row][:n]).max() < bound, row
    for step in range(N_STEPS):
        mask = np.hstack([mask, np.ones((3, 1), np.int64)])
        new = [[text[n + step]] for text, n in zip(texts, lengths)]
        logits, cache = session.run(new, cache, mask)
        for row, n in enumerate(lengths):
            assert np.abs(logits[row, 0] - wanted[row][n + step]).max() < bound, (row, step)


# --- text ------------------------------------------------------------------------------------

def test_genai_writes_hugging_faces_text_from_fp32(outputs, reference):
    """The prompts lie wholly below or wholly above original_max_position_embeddings: genai turns to
    the long factors at 4097 tokens only, whatever the model says."""
    model = genai.Model(outputs.of("--type", "fp32"))
    lengths = [len(case["prompt_ids"]) + len(case["ids"]) for case in reference["greedy"]]
    assert min(lengths) < 512 and max(len(case["prompt_ids"]) for case in reference["greedy"]) > 512
    for case in reference["greedy"]:
        assert model.complete(case["prompt_ids"], len(case["ids"])) == case["ids"], case["prompt"][:60]


def test_genai_writes_hugging_faces_text_from_fp16_but_for_close_calls(outputs, reference, fp32):
    model = genai.Model(outputs.of("--type", "fp16"))
    for case in reference["greedy"]:
        ids = model.complete(case["prompt_ids"], len(case["ids"]))
        if ids == case["ids"]:
            continue
        step = next(i for i, (ours, theirs) in enumerate(zip(ids, case["ids"])) if ours != theirs)
        # The FP32 folder's logits, which the tests above hold to Hugging Face's.
        logits = fp32.logits([*case["prompt_ids"], *case["ids"][:step]])[-1]
        # Two logits that are each off by 0.026 change places when they are less than 0.052 apart.
        assert logits[case["ids"][step]] - logits[ids[step]] < 0.06, (case["prompt"][:60], step)


@pytest.fixture(scope="session")
def of_4096(outputs):
    """The folder of a checkpoint whose short factors serve 4096 tokens, as those of Phi-3.5-mini do."""
    return outputs.with_config(("--type", "fp32", "--max-length", "8192"),
                               original_max_position_embeddings=4096, max_position_embeddings=8192)


def test_genai_crosses_4096_tokens_as_if_all_were_recomputed(of_4096, heldout_ids):
    """onnxruntime-genai drops the cache there, since the old keys were rotated with the short factors."""
    session = Session(of_4096)
    n_prompt, n_new = 4090, 14
    ids = [*heldout_ids[:n_prompt], *genai.Model(of_4096).complete(heldout_ids[:n_prompt], n_new)]
    assert len(ids) == n_prompt + n_new

    # A token hangs on those before it alone, so two passes recompute every step: one of 4096 tokens
    # with the short factors, one of all with the long ones.
    short, cache = session.run([ids[:4096]])
    assert short[0, n_prompt - 1:].argmax(axis=-1).tolist() == ids[n_prompt:4097]
    long = session.logits(ids)
    assert long[4096:-1].argmax(axis=-1).tolist() == ids[4097:]
    # And it matters: the cache carried across the limit gives other logits.
    carried, _ = session.run([ids[4096:4097]], cache)
    assert np.abs(carried[0, 0] - long[4096]).max() > 0.1


# --- tokenizer -------------------------------------------------------------------------------

# Where genai's own tokenizer differs from Hugging Face's, and what it gives: a text is cut at a NUL,
# and U+2581 is not taken for the blank that stands for it inside a SentencePiece vocabulary.
TOKENIZER_DIFFERS = {
    "phi35-tiny": {"\0\1\x7f": [], "\u2581\u2581a": [1990, 1990, 1990, 1994]},
    "phi4mini-tiny": {"\0\1\x7f": []},
}


def test_genai_encodes_as_hugging_face_does(outputs, reference, model):
    tokenizer = genai.Tokenizer(outputs.of("--type", "fp32"))
    assert len(reference["tokenization"]) == 50
    for case in reference["tokenization"]:
        wanted = TOKENIZER_DIFFERS[model].get(case["text"], case["ids_with_special"])
        assert tokenizer.encode(case["text"]) == wanted, case["text"]


def test_genai_renders_hugging_faces_chat_template(outputs, reference):
    tokenizer = genai.Tokenizer(outputs.of("--type", "fp32"))
    role, content = reference["chat"]["messages"].split(": ")
    rendered = tokenizer.chat([{"role": role, "content": content}])
    assert rendered == reference["chat"]["rendered"]
    assert tokenizer.encode(rendered) == reference["chat"]["ids"]
