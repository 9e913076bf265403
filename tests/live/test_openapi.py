"""/openapi.json against the daemon: a small schema-driven fuzzer. What the schema allows must not be
a server error and must be answered in a documented way; what it forbids must be refused."""
import json
import random
import re

from daemon import ADAPTERS, Daemon


def daemon():
    return Daemon("--adapter-dir", ADAPTERS, "--export-dir", "/nonexistent", adapters=["austen"])


class Spec:
    def __init__(self, document):
        self.document = document
        self.random = random.Random(7)

    def resolve(self, s):
        while "$ref" in s:
            s = self.document["components"]["schemas"][s["$ref"].rsplit("/", 1)[1]]
        return s

    def sample(self, s, depth=0):
        """A value that s allows (small numbers and lists)."""
        s, r = self.resolve(s), self.random
        if "anyOf" in s and "properties" not in s:
            return self.sample(r.choice(s["anyOf"]), depth + 1)
        if "enum" in s:
            return r.choice(s["enum"])
        if "const" in s:
            return s["const"]
        kind = s.get("type")
        if kind == "object" or "properties" in s:
            return self.sample_object(s, depth)
        if kind == "array":
            n = r.randint(s.get("minItems", 0), max(s.get("minItems", 0), min(s.get("maxItems", 3), 3)))
            return [self.sample(s["items"], depth + 1) for _ in range(n)]
        if kind == "integer":
            return r.randint(int(s.get("minimum", -5)), int(min(s.get("maximum", 20), max(s.get("minimum", 0), 20))))
        if kind == "number":
            return r.uniform(s.get("minimum", -5), s.get("maximum", 5))
        if kind == "boolean":
            return r.random() < 0.5
        if kind == "null":
            return None
        if kind == "string":
            text = "".join(r.choice("abc xyz.-") for _ in range(r.randint(1, 12)))
            return re.sub(r"[^a-z]", "", text) + "a" if s.get("pattern", "").startswith("^[A-Za") else text
        return r.choice([None, 1, "x", {"a": 1}, [1]])

    def sample_object(self, s, depth):
        required = list(s.get("required", []))
        for rule in ("oneOf", "anyOf"):
            if rule in s:
                required += self.random.choice(s[rule])["required"]
        others = [k for k in s.get("properties", {}) if k not in required and "oneOf" not in s]
        chosen = set(required) | set(self.random.sample(others, min(len(others), self.random.randint(0, 4))))
        return {k: self.sample(s["properties"][k], depth + 1) for k in chosen}

    def matches(self, v, s):
        s = self.resolve(s)
        if "anyOf" in s and "properties" not in s:
            return any(self.matches(v, x) for x in s["anyOf"])
        if "const" in s:
            return v == s["const"]
        if "enum" in s and v not in s["enum"]:
            return False
        kinds = s.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
        name = names[type(v)]
        if kinds and name not in kinds and not (name == "integer" and "number" in kinds):
            return False
        if isinstance(v, dict):
            return all(k in v for k in s.get("required", [])) and all(
                self.matches(x, s["properties"][k]) for k, x in v.items() if k in s.get("properties", {}))
        return not isinstance(v, list) or "items" not in s or all(self.matches(x, s["items"]) for x in v[:50])


def operations(spec):
    for path, methods in spec.document["paths"].items():
        for method, op in methods.items():
            yield path, method.upper(), op


def real_path(path):
    return path.replace("{id}", "austen").replace("{name}", "nobody").replace("{model}", "base").replace("{version}", "1")


def check_documented(spec, op, r, what):
    key = str(r.status) if str(r.status) in op["responses"] else f"{r.status // 100}XX"
    assert key in op["responses"], f"{what}: {r.status} is not documented"
    content = op["responses"][key].get("content", {})
    kind = r.headers.get("content-type", "").split(";")[0]
    assert kind in content or not r.body, f"{what}: {r.status} {kind} is not documented"
    if kind == "application/json" and "schema" in content[kind]:
        assert spec.matches(r.json(), content[kind]["schema"]), f"{what}: {r.status} {r.body[:300]}"


def test_the_document(d):
    spec = Spec(d.ok("GET", "/openapi.json"))
    assert spec.document["openapi"].startswith("3.1")
    text = json.dumps(spec.document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in spec.document["components"]["schemas"], name
    for path, method, op in operations(spec):
        names = {p["name"] for p in op["parameters"] if p["in"] == "path"}
        assert names == set(re.findall(r"{(\w+)}", path)), path


def test_what_the_schema_allows(d):
    spec = Spec(d.ok("GET", "/openapi.json"))
    for path, method, op in operations(spec):
        body = op.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        for _ in range(12 if body else 1):
            value = spec.sample(body) if body else None
            if isinstance(value, dict):
                for k, small in (("max_tokens", 2), ("n", 1), ("best_of", 1), ("min_tokens", 0), ("stream", False)):
                    if value.get(k) is not None:
                        value[k] = small
                if path == "/v1/completions":
                    value["max_tokens"] = 2
            r = d.call(method, real_path(path), value)
            what = f"{method} {path} {json.dumps(value)[:300]}"
            assert r.status not in (500, 503), f"{what}: {r.status} {r.body[:300]}"
            check_documented(spec, op, r, what)
    d.post("/v1/unmerge")


def broken(spec, schema):
    """Bodies that the schema forbids."""
    s = spec.resolve(schema)
    yield []
    yield "text"
    good = spec.sample(schema)
    yield {**good, "no_such_field_": 1}
    for name in s.get("required", []):
        yield {k: v for k, v in good.items() if k != name}
    for name, p in s["properties"].items():
        for bad in (-(1 << 62), 1e308, "\x00", {"x": {}}, [[["x"]]], True):
            if not spec.matches(bad, p) and p != {"description": p.get("description")}:
                yield {**good, name: bad}


def test_what_the_schema_forbids(d):
    spec = Spec(d.ok("GET", "/openapi.json"))
    for path, method, op in operations(spec):
        body = op.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if not body:
            continue
        for value in broken(spec, body):
            r = d.call(method, real_path(path), value)
            what = f"{method} {path} {json.dumps(value)[:300]}"
            assert 400 <= r.status < 500 or r.status == 501, f"{what}: {r.status} {r.body[:200]}"
            check_documented(spec, op, r, what)


def test_every_route_refuses_other_methods(d):
    spec = Spec(d.ok("GET", "/openapi.json"))
    for path, methods in spec.document["paths"].items():
        r = d.call("PUT", real_path(path))
        assert r.status == 405 and r.headers["allow"], path
