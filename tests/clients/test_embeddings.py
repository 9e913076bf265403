"""OpenAI's SDK: embeddings (it asks for base64 by itself), and scored and ranked completions."""
import array
import base64
import json
import math

import openai

from daemon import Daemon


def daemon():
    return Daemon(adapters=["austen", "devil"])


def client(d):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{d.port}/v1", api_key="none", max_retries=0)


def raw(d, text, **who):
    v = d.ok("POST", "/v1/forward", {"text": [text], "outputs": ["embedding"], **who})["rows"][0]["embedding"]["data"]
    length = math.sqrt(sum(x * x for x in v))
    return [x / length for x in v]


def close(a, b):
    return len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b)) < 1e-6


def test_embeddings(d):
    r = client(d).embeddings.create(model="base", input="It is a truth")
    assert r.object == "list" and r.model == "base" and close(r.data[0].embedding, raw(d, "It is a truth"))
    assert r.usage.prompt_tokens == r.usage.total_tokens > 0
    many = client(d).embeddings.create(model="austen", input=["It is a truth", "In the"], user="u")
    assert [e.index for e in many.data] == [0, 1] and many.model == "austen"
    assert close(many.data[1].embedding, raw(d, "In the", adapter="austen"))


def test_encodings(d):
    c = client(d)
    want = c.embeddings.create(model="base", input="It is").data[0].embedding
    assert close(c.embeddings.create(model="base", input="It is", encoding_format="float").data[0].embedding, want)
    text = c.embeddings.create(model="base", input="It is", encoding_format="base64").data[0].embedding
    assert close(array.array("f", base64.b64decode(text)), want)
    ids = d.ok("POST", "/tokenize", {"content": "It is"})["tokens"]
    for given in (ids, [ids]):
        assert close(c.embeddings.create(model="base", input=given).data[0].embedding, want)
    assert close(c.embeddings.create(model="base", input="It is", dimensions=256).data[0].embedding, want)


def test_extensions(d):
    c = client(d)
    both = c.embeddings.create(model="base", input="It is", extra_body={"adapter": ["austen", "devil"]})
    assert close(both.data[0].embedding, raw(d, "It is", adapter=["austen", "devil"]))
    for call, kind, code in ((lambda: c.embeddings.create(model="nobody", input="a"), openai.NotFoundError, "model_not_found"),
                             (lambda: c.embeddings.create(model="base", input=[]), openai.BadRequestError, "invalid_value"),
                             (lambda: c.embeddings.create(model="base", input="a", dimensions=8), openai.InternalServerError,
                              "not_supported")):
        try:
            call()
        except kind as e:
            assert e.code == code, e
        else:
            raise AssertionError(f"{code} was not raised")


def test_many(d):
    async def all_at_once():
        import asyncio
        c = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{d.port}/v1", api_key="none")
        texts = [f"It is {i}" for i in range(40)]
        return texts, await asyncio.gather(*(c.embeddings.create(model=m, input=t) for t in texts for m in ("base", "devil")))
    import asyncio
    texts, got = asyncio.run(all_at_once())
    for i, r in enumerate(got):
        want = raw(d, texts[i // 2], **({"adapter": "devil"} if i % 2 else {}))
        assert close(r.data[0].embedding, want), texts[i // 2]


def test_completions(d):
    c = client(d)
    r = c.completions.create(model="austen", prompt="It is a truth", max_tokens=6, temperature=1, seed=4, n=2, best_of=5, logprobs=2,
                             extra_body={"prompt_logprobs": 1, "ignore_eos": True})
    assert [x.index for x in r.choices] == [0, 1] and r.usage.completion_tokens == 30
    means = [sum(x.logprobs.token_logprobs) / 6 for x in r.choices]
    assert means == sorted(means, reverse=True)
    scores = r.choices[0].prompt_logprobs
    assert scores[0] is None and len(scores) == r.usage.prompt_tokens and all(v["rank"] >= 1 for s in scores[1:] for v in s.values())
    assert json.loads(r.model_dump_json())["choices"][0]["logprobs"]["tokens"]
