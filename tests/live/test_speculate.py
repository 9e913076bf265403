"""--speculate ngram: the same answers, streamed and not, from both; the figures say what was guessed."""
import json

from daemon import BASE, Daemon, Stream, oftd

SEA = "The ship was at sea. The ship was at sea. The ship was"
PEOPLE = {"type": "array", "minItems": 4, "maxItems": 5, "items": {
    "type": "object", "properties": {"name": {"enum": ["Ahab", "Starbuck"]}}, "required": ["name"]}}
REQUESTS = (
    {"prompt": SEA, "max_tokens": 120, "logprobs": 3},
    {"prompt": SEA, "max_tokens": 60, "adapter": ["austen", "devil"], "compute": "exact"},
    {"prompt": [SEA, "What is a"], "max_tokens": 40, "temperature": 0.5, "seed": 7, "n": 2, "top_p": 0.9, "adapter": "devil"},
    {"prompt": SEA, "max_tokens": 80, "stop": [" sea", "and a"], "min_tokens": 4, "repetition_penalty": 1.05},
    {"prompt": "What is a", "max_tokens": 150, "temperature": 1, "seed": 3, "structured_outputs": {"json": PEOPLE}},
    {"prompt": SEA, "max_tokens": 30, "echo": True, "logprobs": 2, "return_token_ids": True},
)
COUNTS = ("drafts", "draft_tokens", "accepted_tokens")


def daemon():
    return Daemon("--speculate", "ngram", "--metrics-compat", "vllm", adapters=["austen", "devil"])


def counts(d, prefix="oftd_"):
    m = d.metrics()
    return [m[f"{prefix}spec_decode_num_{name}_total"] for name in COUNTS]


def said(d, fields):
    """The choices of a completion, and its usage; then the text of each choice as it was streamed."""
    r = d.complete(**fields)
    texts = {}
    s = Stream(d, **fields)
    for event, data in s.frames():
        assert event == "message", data
        if data != "[DONE]":
            for c in json.loads(data)["choices"]:
                texts[c["index"]] = texts.get(c["index"], "") + c["text"]
    s.close()
    assert [texts[c["index"]] for c in r["choices"]] == [c["text"] for c in r["choices"]]
    return r["choices"], {k: r["usage"][k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")}


def test_the_same_answers(d):
    with Daemon(adapters=["austen", "devil"]) as without:
        for fields in REQUESTS:
            want, got = said(without, fields), said(d, fields)
            assert want == got, f"{fields}: {want} and {got}"
        assert counts(without) == [0, 0, 0]
    drafts, tokens, accepted = counts(d)
    assert 0 < drafts <= tokens and 100 < accepted <= tokens
    assert counts(d, "vllm:") == [drafts, tokens, accepted]


def test_fewer_steps_for_the_same_tokens(d):
    def steps():
        m = d.metrics()
        return m["oftd_steps_total"], m["oftd_generation_tokens_total"], counts(d)[2]
    before = steps()
    r = d.complete("What is a", max_tokens=200, structured_outputs={"regex": "(sea and ship and whale and ){30,}"})
    after = steps()
    assert after[1] - before[1] == r["usage"]["completion_tokens"] == 200
    assert after[0] - before[0] < 200 / 2 and after[0] - before[0] + after[2] - before[2] >= 200


def test_a_word_that_is_none_of_the_key(d):
    code, _, err = oftd("serve", "--model", BASE, "--speculate", "draft")
    assert code == 2 and "--speculate" in err, err
