"""POST /v1/completions, whole and streamed, against the demo's expected texts."""
import json
import math

from daemon import EXPECTED, Daemon, Stream

ADAPTERS = ["austen", "devil", "jargon", "scripture"]


def daemon():
    return Daemon("--compute", "exact", adapters=ADAPTERS)


def test_greedy_texts(d):
    for c in json.load(open(EXPECTED))["greedy"]:
        r = d.complete(c["prompt"], model=c["adapter"] or "base", max_tokens=len(c["token_ids"]),
                       ignore_eos=True, return_token_ids=True)
        assert r["choices"][0]["token_ids"] == c["token_ids"], (c["adapter"], c["prompt"])


def test_form(d):
    r = d.post("/v1/completions", {"prompt": "It is", "max_tokens": 4, "ignore_eos": True, "adapter": "austen"})
    b = r.json()
    assert r.status == 200 and b["object"] == "text_completion" and b["id"].startswith("cmpl-")
    c = b["choices"][0]
    assert c["index"] == 0 and c["finish_reason"] == "length" and c["logprobs"] is None and "token_ids" not in c
    assert b["usage"]["completion_tokens"] == 4
    assert b["usage"]["total_tokens"] == b["usage"]["prompt_tokens"] + 4
    assert r.headers["x-adapter-id"] == "austen" and r.headers["x-adapter-digest"].startswith("sha256:")
    assert r.headers["x-generated-tokens"] == "4" and float(r.headers["x-time-to-first-token-ms"]) >= 0
    assert int(r.headers["x-prompt-tokens"]) == b["usage"]["prompt_tokens"] and "x-queue-time-ms" in r.headers
    base = d.post("/v1/completions", {"prompt": "It is", "max_tokens": 1})
    assert base.headers["x-adapter-id"] == "" and base.headers["x-adapter-digest"] == ""


def test_who_is_asked(d):
    def text(**f):
        return d.complete("It is a truth", max_tokens=8, **f)["choices"][0]["text"]
    austen = text(model="austen")
    assert text(adapter="austen") == text(model="base:austen") == text(model="base", adapter=["austen"]) == austen
    assert text(model="austen", adapter="austen") == austen
    assert text(strength=0, adapter="austen") == text()
    for body, status, code in (({"model": "nobody"}, 404, "model_not_found"),
                               ({"adapter": "nobody"}, 404, "adapter_not_found"),
                               ({"model": "other:austen"}, 404, "model_not_found"),
                               ({"model": "austen", "adapter": "devil"}, 400, "invalid_value"),
                               ({"adapter": ["austen"], "strength": [1, 1]}, 400, "invalid_value")):
        r = d.post("/v1/completions", {"prompt": "a", **body})
        assert (r.status, r.code()) == (status, code), (body, r.body)


def test_forms_of_prompts(d):
    ids = d.ok("POST", "/tokenize", {"content": "It is a truth"})["tokens"]
    text = d.complete("It is a truth", max_tokens=6)["choices"][0]["text"]
    assert d.complete(ids, max_tokens=6)["choices"][0]["text"] == text
    r = d.complete(["It is a truth", "In the"], max_tokens=6, n=1)["choices"]
    assert [c["index"] for c in r] == [0, 1] and r[0]["text"] == text
    r = d.complete([ids, ids], max_tokens=6)["choices"]
    assert [c["text"] for c in r] == [text, text]


def test_sampling_is_reproducible(d):
    f = {"prompt": "It is", "max_tokens": 12, "temperature": 1, "seed": 7, "n": 3}
    a, b = (d.ok("POST", "/v1/completions", f)["choices"] for _ in range(2))
    assert [c["text"] for c in a] == [c["text"] for c in b] and len({c["text"] for c in a}) > 1


def test_logprobs(d):
    r = d.complete("It is a truth", max_tokens=5, logprobs=3, echo=True, return_token_ids=True)
    c = r["choices"][0]
    lp = c["logprobs"]
    n = len(lp["tokens"])
    assert n == len(lp["token_logprobs"]) == len(lp["top_logprobs"]) == len(lp["text_offset"])
    assert lp["token_logprobs"][0] is None and all(x <= 0 for x in lp["token_logprobs"][1:])
    assert len(c["token_ids"]) == 5 and c["text"].startswith("It is a truth")
    for token, offset in list(zip(lp["tokens"], lp["text_offset"]))[1:]:
        assert c["text"][offset:offset + len(token)] == token
    for token, own, top in list(zip(lp["tokens"], lp["token_logprobs"], lp["top_logprobs"]))[1:]:
        assert top[token] == own and 3 <= len(top) <= 4


def log_softmax(logits):
    top = max(logits)
    total = math.log(math.fsum(math.exp(x - top) for x in logits)) + top
    return [x - total for x in logits]


def raw_logprobs(d, ids, **who):
    """[T][V] from /v1/forward's logits, the softmax in Python's doubles."""
    row = d.ok("POST", "/v1/forward", {"input_ids": [ids], "outputs": ["logits"], **who})["rows"][0]["logits"]
    width = row["shape"][1]
    return [log_softmax(row["data"][i:i + width]) for i in range(0, len(row["data"]), width)]


def test_logprobs_are_the_raw_pass(d):
    prompt = d.ok("POST", "/tokenize", {"content": "It is a truth universally"})["tokens"]
    r = d.complete(prompt, max_tokens=6, ignore_eos=True, logprobs=4, echo=True, prompt_logprobs=2, return_token_ids=True,
                   adapter="austen", temperature=1, seed=3, n=2)
    assert r["usage"]["prompt_tokens"] == len(prompt)
    for c in r["choices"]:
        ids, lp, scores = prompt + c["token_ids"], c["logprobs"], c["prompt_logprobs"]
        raw = raw_logprobs(d, ids, adapter="austen")
        assert len(lp["token_logprobs"]) == len(ids) and len(scores) == len(prompt) and scores[0] is None
        for i in range(1, len(ids)):
            before = raw[i - 1]
            order = sorted(range(len(before)), key=lambda t: (-before[t], t))
            assert abs(lp["token_logprobs"][i] - before[ids[i]]) < 2e-6
            told = sorted(lp["top_logprobs"][i].values(), reverse=True)
            assert 4 <= len(told) <= 5 and all(abs(a - before[t]) < 2e-6 for a, t in zip(told, order[:4]))
            if i >= len(prompt):
                continue
            entry = scores[i]
            mine = entry[str(ids[i])]
            assert list(entry)[0] == str(ids[i]) and mine["rank"] == sum(x >= before[ids[i]] for x in before)
            assert {int(t) for t in entry} == {ids[i], *order[:2]}
            for rank, t in enumerate(order[:2]):
                assert entry[str(t)]["rank"] == rank + 1 and abs(entry[str(t)]["logprob"] - before[t]) < 2e-6
            assert mine["logprob"] == lp["token_logprobs"][i] and mine["decoded_token"] == lp["tokens"][i]


def test_prompt_logprobs_alone(d):
    f = {"prompt": "It is a truth", "max_tokens": 3, "temperature": 0}
    plain = d.ok("POST", "/v1/completions", f)["choices"][0]
    c = d.ok("POST", "/v1/completions", {**f, "prompt_logprobs": 0})["choices"][0]
    assert c["text"] == plain["text"] and c["logprobs"] is None and "prompt_logprobs" not in plain
    assert c["prompt_logprobs"][0] is None and all(len(x) == 1 for x in c["prompt_logprobs"][1:])
    r = d.post("/v1/completions", {**f, "prompt_logprobs": 1, "stream": True})
    assert (r.status, r.code(), r.json()["error"]["param"]) == (400, "invalid_value", "prompt_logprobs")


def test_best_of(d):
    f = {"prompt": ["It is a truth", "In the"], "max_tokens": 8, "temperature": 1, "seed": 5, "ignore_eos": True}
    every = d.ok("POST", "/v1/completions", {**f, "n": 6, "logprobs": 0})["choices"]
    best = d.ok("POST", "/v1/completions", {**f, "n": 2, "best_of": 6})
    mean = lambda c: sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["token_logprobs"])  # noqa: E731
    want = [c["text"] for p in (0, 1) for c in sorted(every[6 * p:6 * p + 6], key=mean, reverse=True)[:2]]
    assert [c["text"] for c in best["choices"]] == want and [c["index"] for c in best["choices"]] == [0, 1, 2, 3]
    assert all(c["logprobs"] is None for c in best["choices"])
    assert best["usage"]["completion_tokens"] == 2 * 6 * 8
    for g, param in (({"n": 3, "best_of": 2}, "best_of"), ({"best_of": 17}, "best_of"), ({"best_of": 2, "stream": True}, "best_of")):
        r = d.post("/v1/completions", {"prompt": "a", **g})
        assert (r.status, r.code(), r.json()["error"]["param"]) == (400, "invalid_value", param), r.body


def test_choices_share_one_prefill(d):
    """The prompt is read once: what the other choices read of it anew is less than a page each."""
    ids = list(range(100, 500))
    one = d.complete(ids, max_tokens=1)["usage"]
    ids[0] = 99
    r = d.complete(ids, max_tokens=2, n=8, temperature=1, seed=1, ignore_eos=True, prompt_logprobs=1)
    assert one["prompt_tokens"] == r["usage"]["prompt_tokens"] == 400
    assert r["usage"]["prompt_tokens_details"]["cached_tokens"] >= 7 * 384
    assert all(c["prompt_logprobs"] == r["choices"][0]["prompt_logprobs"] for c in r["choices"])


def test_stops(d):
    text = d.complete("It is a truth", max_tokens=24)["choices"][0]["text"]
    stop = text[len(text) // 2:][:3]
    c = d.complete("It is a truth", max_tokens=24, stop=stop)["choices"][0]
    assert c["finish_reason"] == "stop" and c["text"] == text[:text.index(stop)]


def test_stream_is_the_whole(d):
    whole = d.complete("It is a truth", max_tokens=20, ignore_eos=True, adapter="devil", return_token_ids=True)
    s = Stream(d, "It is a truth", max_tokens=20, ignore_eos=True, adapter="devil", return_token_ids=True,
               stream_options={"include_usage": True})
    assert s.status == 200 and s.headers["content-type"].startswith("text/event-stream")
    assert s.headers["x-adapter-id"] == "devil" and "x-generated-tokens" not in s.headers
    frames = list(s.frames())
    assert frames[-1] == ("message", "[DONE]")
    chunks = [json.loads(f) for e, f in frames[:-1]]
    assert len({c["id"] for c in chunks}) == 1
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 20
    assert all(c["usage"] is None for c in chunks[:-1])
    choices = [c["choices"][0] for c in chunks[:-1]]
    assert "".join(c["text"] for c in choices) == whole["choices"][0]["text"]
    assert sum((c["token_ids"] for c in choices), []) == whole["choices"][0]["token_ids"]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["length"]
    s.close()


def test_stream_of_several(d):
    s = Stream(d, ["It is", "In the"], max_tokens=6, ignore_eos=True, n=1, logprobs=1)
    texts = {}
    for _, data in s.frames():
        if data != "[DONE]":
            c = json.loads(data)["choices"][0]
            texts[c["index"]] = texts.get(c["index"], "") + c["text"]
    r = d.complete(["It is", "In the"], max_tokens=6, ignore_eos=True)
    assert [texts[0], texts[1]] == [c["text"] for c in r["choices"]]
    s.close()


def test_stream_fails_with_a_status_line(d):
    for f, status in (({"adapter": "nobody"}, 404), ({"max_tokens": -1}, 400)):
        s = Stream(d, "a", **f)
        assert s.status == status and s.headers["content-type"] == "application/json"
        s.close()


def test_refused_fields(d):
    for field, value in (("suffix", "x"), ("use_beam_search", True),
                         ("guided_regex", "a"), ("truncate_prompt_tokens", 3)):
        r = d.post("/v1/completions", {"prompt": "a", field: value})
        assert (r.status, r.code(), r.json()["error"]["param"]) == (501, "not_supported", field)
    neutral = {"suffix": "", "best_of": 1, "use_beam_search": False, "response_format": {"type": "text"}, "user": "u",
               "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "priority": 3, "temperature": None,
               "n": 1.0, "length_penalty": 1}
    assert d.post("/v1/completions", {"prompt": "a", "max_tokens": 1, **neutral}).status == 200


def test_refused_values(d):
    for field, value in (("temperature", -1), ("temperature", "hot"), ("top_p", 1.5), ("n", 0), ("n", 1.5), ("stop", [""]),
                         ("strength", 2), ("adapter", "../x"), ("logit_bias", {"x": 1}), ("logprobs", True),
                         ("max_tokens", 1 << 40), ("prompt", []), ("prompt", [[]]), ("prompt", [1, "a"]), ("prompt", None),
                         ("stream_options", {"include_usag": True}), ("compute", "slow"), ("stream", "yes")):
        r = d.post("/v1/completions", {"prompt": "a", **{field: value}})
        assert r.status == 400 and r.code() in ("invalid_value", "unknown_field"), (field, value, r.body)
    assert d.post("/v1/completions", {"prompt": [4096000]}).status == 400


def test_too_long(d):
    r = d.post("/v1/completions", {"prompt": [5] * 2000, "max_tokens": 1})
    assert (r.status, r.code()) == (400, "context_length_exceeded")


def test_tokenize(d):
    r = d.ok("POST", "/tokenize", {"content": "It is a tr\u00fcth", "with_pieces": True})["tokens"]
    assert [x["id"] for x in r] == d.ok("POST", "/tokenize", {"content": "It is a tr\u00fcth"})["tokens"]
    ids = d.ok("POST", "/tokenize", {"content": "It is a tr\u00fcth", "add_special": False})["tokens"]
    assert d.ok("POST", "/detokenize", {"tokens": ids})["content"] == "It is a tr\u00fcth"
    assert d.ok("POST", "/tokenize", {"content": ""})["tokens"] is not None
    assert d.post("/tokenize", {"content": 3}).status == 400
