"""Keys, planes, origins, TLS, unix sockets, what the log does not say."""
import os
import signal
import ssl
import tempfile

from daemon import ADAPTERS, Daemon, certificate, eventually
from run import Skip


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def key_file(folder, name, *keys):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write("# keys\n" + "\n".join(keys) + "\n")
    return path


def test_keys():
    with tempfile.TemporaryDirectory() as t:
        api, admin = key_file(t, "api", "k1", "k2"), key_file(t, "admin", "k-admin")
        with Daemon("--api-key-file", api, "--admin-key-file", admin) as d:
            assert d.get("/health").status == 200 and d.get("/metrics").status == 200
            for headers in (None, bearer("wrong"), bearer(""), {"Authorization": "Basic k1"}, bearer("k1x")):
                r = d.get("/v1/models", headers=headers)
                assert (r.status, r.code()) == (401, "invalid_api_key") and r.headers["www-authenticate"] == "Bearer"
            for key in ("k1", "k2", "k-admin"):
                assert d.get("/v1/models", headers=bearer(key)).status == 200
            assert d.get("/v1/adapters").status == 401
            r = d.get("/v1/adapters", headers=bearer("k1"))
            assert (r.status, r.code()) == (403, "admin_key_required")
            assert d.get("/v1/adapters", headers=bearer("k-admin")).status == 200
            assert d.get("/health", headers={"Host": "anything.example"}).status == 200

            key_file(t, "api", "third-key")
            d.process.send_signal(signal.SIGHUP)
            eventually(lambda: d.get("/v1/models", headers=bearer("third-key")).status == 200, what="the new key")
            assert d.get("/v1/models", headers=bearer("k1")).status == 401
            os.unlink(api)
            d.process.send_signal(signal.SIGHUP)
            eventually(lambda: "keys_kept" in d.log_text(), what="the log line")
            assert d.get("/v1/models", headers=bearer("third-key")).status == 200
            assert "third-key" not in d.log_text() and "k-admin" not in d.log_text()


def test_bad_key_files():
    for text in ("", "# nothing\n"):
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(text)
            f.flush()
            code, said = Daemon("--api-key-file", f.name, wait=False).refused()
            assert code == 1 and f.name in said


def test_admin_listener():
    with tempfile.TemporaryDirectory() as t:
        path = f"{t}/admin.sock"
        with Daemon("--admin-listen", f"unix:{path}", "--adapter-dir", ADAPTERS) as d:
            assert d.get("/v1/adapters").status == 404 and d.get("/v1/models").status == 200
            assert "/v1/adapters" not in d.ok("GET", "/openapi.json")["paths"]
            assert os.stat(path).st_mode & 0o077 == 0
            url, d.url = d.url, f"unix:{path}"
            assert d.get("/v1/adapters").status == 200
            assert d.post("/v1/adapters", {"name": "devil"}).status == 201
            d.url = url
        assert not os.path.exists(path)


def test_exposed_without_admin_key():
    with Daemon(listen="0.0.0.0:0") as d:
        r = d.get("/v1/adapters")
        assert (r.status, r.code()) == (403, "admin_disabled")
        assert d.get("/v1/models", headers={"Host": "anything.example"}).status == 200


def test_hosts_and_origins():
    with Daemon("--allowed-origin", "https://good.example") as d:
        for host in ("localhost", "127.0.0.1:80", "[::1]:5", "LOCALHOST:1"):
            assert d.get("/health", headers={"Host": host}).status == 200, host
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.evil.example"):
            r = d.get("/health", headers={"Host": host})
            assert (r.status, r.code()) == (403, "origin_not_allowed"), host
        for origin in ("https://evil.example", "null", "http://good.example"):
            r = d.post("/v1/completions", {"prompt": "a"}, headers={"Origin": origin})
            assert (r.status, r.code()) == (403, "origin_not_allowed"), origin
        good = {"Origin": "https://good.example"}
        r = d.get("/v1/models", headers=good)
        assert r.status == 200 and r.headers["access-control-allow-origin"] == good["Origin"]
        assert r.headers["vary"] == "Origin"
        r = d.call("OPTIONS", "/v1/completions", headers=good)
        assert r.status == 204 and "POST" in r.headers["access-control-allow-methods"]
        assert "Authorization" in r.headers["access-control-allow-headers"]
        own = {"Origin": f"http://127.0.0.1:{d.port}", "Host": f"127.0.0.1:{d.port}"}
        assert d.get("/v1/models", headers=own).status == 200
        assert d.call("OPTIONS", "/v1/nothing").status == 404


def test_tls():
    with certificate() as files:
        if not files:
            raise Skip("no openssl")
        cert, key, context = files
        with Daemon("--tls-cert", cert, "--tls-key", key) as d:
            assert d.url.startswith("https://127.0.0.1:")
            d.tls = context
            assert d.get("/health").status == 200
            assert d.complete("It is", max_tokens=3)["usage"]["completion_tokens"] <= 3
            d.tls = None
            try:
                status = d.get("/health", timeout=5).status
            except Exception:
                status = None
            assert status is None
            d.tls = ssl.create_default_context()
            try:
                d.get("/health")
                raise AssertionError("an unknown certificate was trusted")
            except ssl.SSLError:
                pass
        assert Daemon("--tls-cert", cert, wait=False).refused()[0] == 2
        assert Daemon("--tls-cert", key, "--tls-key", cert, wait=False).refused()[0] == 1


def test_unix_socket():
    with tempfile.TemporaryDirectory() as t:
        with Daemon(listen=f"unix:{t}/s") as d:
            assert d.url == f"unix:{t}/s" and d.get("/health").status == 200
            assert Daemon(listen=f"unix:{t}/s", wait=False).refused()[0] == 1
            assert d.get("/health").status == 200
        d = Daemon(listen=f"unix:{t}/s")
        d.process.kill()
        d.process.wait()
        with Daemon(listen=f"unix:{t}/s") as d:  # the file that a killed daemon left behind
            assert d.get("/health").status == 200


def test_the_log_tells_no_data():
    with Daemon("--log-format", "json", "--log-level", "debug") as d:
        d.complete("a secret prompt", max_tokens=2)
        d.post("/tokenize", {"content": "another secret"})
        d.post("/v1/completions", {"prompt": "bad secret", "temprature": 1})
        eventually(lambda: d.log_text().count('"event":"request"') >= 3, what="log lines")
        text = d.log_text()
        assert "secret" not in text
        import json
        lines = [json.loads(l) for l in text.splitlines() if l.startswith("{")]
        r = next(l for l in lines if l.get("path") == "/v1/completions" and l["status"] == 200)
        assert r["id"].startswith("req-") and r["ms"] >= 0
