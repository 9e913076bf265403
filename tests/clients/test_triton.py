"""NVIDIA's tritonclient over HTTP: metadata, inference with tensors as JSON and as bytes, the repository."""
import numpy
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from daemon import ADAPTERS, Daemon

IDS = [[5, 6, 7], [9, 10, 11]]


def daemon():
    return Daemon("--adapter-dir", ADAPTERS, adapters=["austen", "devil"])


def client(d):
    return triton.InferenceServerClient(url=f"127.0.0.1:{d.port}")


def tensor(name, value, datatype, binary=True):
    t = triton.InferInput(name, list(value.shape), datatype)
    t.set_data_from_numpy(value, binary_data=binary)
    return t


def inputs(binary, adapters=("austen", "")):
    return [tensor("input_ids", numpy.array(IDS, dtype=numpy.int64), "INT64", binary),
            tensor("adapter", numpy.array([a.encode() for a in adapters], dtype=object), "BYTES", binary)]


def forward(d, output, adapters=("austen", None)):
    rows = d.ok("POST", "/v1/forward", {"input_ids": IDS, "adapters": list(adapters), "outputs": [output]})["rows"]
    return numpy.array([numpy.reshape(numpy.array(r[output]["data"], dtype=numpy.float32), r[output]["shape"]) for r in rows])


def raises(call, *words):
    try:
        call()
    except InferenceServerException as e:
        assert all(w in e.message() for w in words), e.message()
        return e.status()
    raise AssertionError("nothing was raised")


def test_server_and_models(d):
    c = client(d)
    assert c.is_server_live() and c.is_server_ready()
    assert "binary_tensor_data" in c.get_server_metadata()["extensions"]
    assert c.is_model_ready("base") and c.is_model_ready("austen") and not c.is_model_ready("nobody")
    assert c.is_model_ready("base", "1") and not c.is_model_ready("base", "2")
    m = c.get_model_metadata("austen")
    assert {i["name"] for i in m["inputs"]} == {"input_ids", "attention_mask", "adapter"}
    assert {o["name"]: o["datatype"] for o in m["outputs"]}["logits"] == "FP32"


def test_infer(d):
    c = client(d)
    for output in ("last_logits", "logits", "hidden_states"):
        want = forward(d, output)
        for way_in in (False, True):
            for way_out in (False, True):
                r = c.infer("base", inputs(way_in), request_id="7",
                            outputs=[triton.InferRequestedOutput(output, binary_data=way_out)])
                got = r.as_numpy(output)
                assert got.dtype == numpy.float32 and got.shape == want.shape and (got == want).all()
                assert r.get_response()["id"] == "7" and r.get_response()["model_version"] == "1"


def test_infer_what_the_server_gives(d):
    """Without outputs the client asks for all of them as bytes."""
    got = client(d).infer("devil", inputs(True, ("", ""))).as_numpy("last_logits")
    assert (got == forward(d, "last_logits", ("devil", "devil"))).all()


def test_many_at_once(d):
    c = triton.InferenceServerClient(url=f"127.0.0.1:{d.port}", concurrency=8)
    want = forward(d, "logits")
    pending = [c.async_infer("base", inputs(True), outputs=[triton.InferRequestedOutput("logits")]) for _ in range(16)]
    assert all((p.get_result().as_numpy("logits") == want).all() for p in pending)


def test_refusals(d):
    c = client(d)
    assert raises(lambda: c.infer("nobody", inputs(True, ("", ""))), "nobody") == "404"
    assert raises(lambda: c.infer("base", inputs(True), model_version="9"), "version 1") == "404"
    assert raises(lambda: c.infer("base", inputs(True)[1:]), "input_ids") == "400"
    floats = tensor("input_ids", numpy.zeros((1, 2), dtype=numpy.float32), "FP32")
    assert raises(lambda: c.infer("base", [floats]), "input_ids", "INT64") == "400"
    bad = [triton.InferRequestedOutput("probabilities")]
    assert raises(lambda: c.infer("base", inputs(True), outputs=bad), "probabilities") == "400"
    few = [triton.InferRequestedOutput("logits", class_count=3)]
    assert raises(lambda: c.infer("base", inputs(True), outputs=few), "classification") == "501"


def test_repository(d):
    c = client(d)
    state = lambda: {m["name"]: m["state"] for m in c.get_model_repository_index()}
    assert state() == {"base": "READY", "austen": "READY", "devil": "READY", "jargon": "UNAVAILABLE", "scripture": "UNAVAILABLE"}
    c.load_model("jargon")
    assert state()["jargon"] == "READY" and c.is_model_ready("jargon")
    c.load_model("jargon")
    c.unload_model("jargon")
    assert state()["jargon"] == "UNAVAILABLE"
    assert raises(lambda: c.load_model("nobody"), "nobody") == "422"
    assert raises(lambda: c.unload_model("base"), "base") == "409"
