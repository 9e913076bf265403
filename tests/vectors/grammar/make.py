#!/usr/bin/env python3
"""make.py: writes cases.json beside itself: what regexes and JSON schemas accept, as Python's re and the jsonschema package
(4.26) say. `yes`: texts that the grammar must take; `no`: texts that it must not; jsonschema or re has the last word on both.
`refused`: what the message must hold."""
import json
import os
import re

import jsonschema

REGEX = [
    ("[a-z]+", ["a", "abc"], ["", "A", "ab1"]),
    ("(ab|a)*c", ["c", "aac", "ababc"], ["ab", "bc", ""]),
    (r"\d{3}-\d{4}", ["123-4567"], ["12-4567", "123-45678"]),
    ("a{2,5}?b?", ["aa", "aaaaab"], ["a", "aaaaaab"]),
    ("[^abc]{1,3}", ["xx", "日本é", "\n"], ["", "axx", "xxxx"]),
    ("é+|日本", ["éé", "日本"], ["日", "é日本"]),
    ("(?:x(?:y|z){1,2}){2}", ["xyxzz", "xyzxz"], ["xy", "xyxyyy"]),
    (r"\w+@\w+\.(com|org)", ["me@x.com"], ["m e@x.org", "me@x.net"]),
    ("^a|b$", ["a", "b"], ["ab", ""]),
    (".{0,3}", ["", "a\tb", "日本語"], ["a\nb", "abcd"]),
    (r"[\]\-a^]", ["]", "-", "a", "^"], ["\\", "b"]),
    ("a|", ["a", ""], ["aa"]),
    ("(a*)*b", ["b", "aaab"], ["a", "ba"]),
    (r"\x41\u00e9\.\\", ["Aé.\\"], ["Aé\\"]),
    (r"(?P<year>[12]\d{3})(?:-\d\d)?", ["1999", "2024-01"], ["3000", "2024-1"]),
    (r"[\w.]+[^\W\d]", ["a.b", "1x"], ["a.", "1"]),
    ("a{,3}", ["a{,3}"], ["aa"]),
]
REGEX_REFUSED = [
    ("(?=a)b", "look-around"), (r"(a)\1", "back references"), (r"\bfoo", "word boundaries"), ("a{3,2}", "not in order"),
    ("(a", "not closed"), ("a)", "not open"), ("[a", "not closed"), ("a^b", "anchor"), (r"\pL", "escape"), ("*a", "nothing to repeat"),
    ("a++", "possessive"), ("[z-a]", "in order"), ("a{20000}", "10000"), ("(?i)a", "flags"), ("a\\", "backslash"),
    ("(((a{1000}){1000}){1000}){1000}", "too large"),
]
O, S, I = {"type": "object"}, {"type": "string"}, {"type": "integer"}
SCHEMA = [
    ({}, ["null", "[1, {}]", '{"a":{"b":[true,false]}}', "-1.5e+3", '"\\u00e9\\n\\"x"'], []),
    (True, ["1"], []),
    (O, ["{}", '{"a":1}', '{\n  "a": [\n    1,\n    2\n  ]\n}'], ["[]", '"a"']),
    ({**O, "properties": {"a": I, "b": S}, "required": ["a"]}, ['{"a":1}', '{"a": 1, "b": "x"}'], ["{}", '{"b":"x"}', '{"a":"1"}']),
    ({**O, "properties": {"a": I, "b": S, "c": {"type": "null"}}}, ["{}", '{"b":"x"}', '{"a":1,"c":null}', '{"c":null}'], ['{"c":1}', "[]"]),
    ({**O, "properties": {"a": I}, "additionalProperties": False}, ["{}", '{"a":0}'], ['{"b":0}', '{"a":0,"b":0}']),
    ({**O, "properties": {"ab": I, "é": I}, "additionalProperties": S},
     ['{"ab":1,"a":"x","abc":"y"}', '{"ac":"x","":"","e":"z"}'], ['{"ab":"x"}', '{"a":1}', '{"é":"x"}']),
    ({**O, "additionalProperties": I}, ["{}", '{"x":1,"y":2}'], ['{"x":"1"}']),
    ({**O, "properties": {'q"uote\n': {"const": 1}}, "required": ['q"uote\n']}, ['{"q\\"uote\\n":1}'], ["{}"]),
    ({"type": "array", "items": I}, ["[]", "[1,2, 3]"], ['["a"]', "{}"]),
    ({"type": "array", "items": I, "minItems": 2, "maxItems": 3}, ["[1,2]", "[1,2,3]"], ["[1]", "[]", "[1,2,3,4]"]),
    ({"type": "array", "prefixItems": [I, S], "items": False, "minItems": 1}, ["[1]", '[1,"a"]'], ["[]", '["a"]', '[1,"a",2]']),
    ({"type": "array", "prefixItems": [I], "items": S}, ["[]", "[1]", '[1,"a","b"]'], ["[1,2]", '["a"]']),
    (S, ['""', '"é日本"', '"\\\\ \\/ \\u0041"'], ["1", "null"]),
    ({**S, "minLength": 2, "maxLength": 3}, ['"ab"', '"日本語"', '"\\n\\t"'], ['"a"', '"abcd"', '""']),
    ({**S, "pattern": "^a+$"}, ['"a"', '"aaa"'], ['""', '"ab"', '"ba"']),
    ({**S, "pattern": "b|^c$"}, ['"abc"', '"c"', '"\\"b\\""'], ['"ac"', '""']),
    ({**S, "pattern": '^"\\\\"$'}, ['"\\"\\\\\\""'], ['"x"']),
    ({**S, "format": "date"}, ['"2024-02-28"'], []),
    ({**S, "format": "uuid"}, ['"123e4567-e89b-12d3-a456-426614174000"'], []),
    ({**S, "format": "ipv4"}, ['"192.168.0.1"', '"255.255.255.255"'], []),
    (I, ["0", "-7", "120"], ["1.5", '"1"', "true"]),
    ({**I, "minimum": -5, "maximum": 120}, ["-5", "0", "99", "100", "120"], ["-6", "121", "1000"]),
    ({**I, "exclusiveMinimum": 9, "exclusiveMaximum": 12}, ["10", "11"], ["9", "12"]),
    ({**I, "minimum": 1}, ["1", "987654321012"], ["0", "-1"]),
    ({**I, "minimum": 3, "maximum": 3}, ["3"], ["2", "33"]),
    ({"type": "number"}, ["0", "-1.5", "2e10", "3.25E-7"], ['"1"']),
    ({"type": "number", "minimum": 0, "maximum": 1}, ["0", "1", "0.25", "1.0", "0.0"], ["-0.5", "1.1", "2"]),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["0.5", "0.001", "0.999999"], ["0", "1", "0.0", "1.0"]),
    ({"type": "number", "minimum": -2.75, "maximum": -1.5}, ["-2.75", "-2", "-1.5", "-1.51"], ["-1.49", "-2.76", "0"]),
    ({"type": "number", "minimum": 1.25}, ["1.25", "1.3", "2", "1000.5"], ["1.24", "1", "-2"]),
    ({"type": ["string", "null"]}, ['"a"', "null"], ["1"]),
    ({"type": ["integer", "number"]}, ["1.5"], ["null"]),
    ({"type": "boolean"}, ["true", "false"], ["null", "1"]),
    ({"enum": [1, "a", None, {"k": [1, 2]}]}, ["1", '"a"', "null", '{"k": [1, 2]}', '{"k":[1,2]}'], ["2", '{"k":[2,1]}']),
    ({"type": "string", "enum": [1, "a"]}, ['"a"'], ["1"]),
    ({"const": "x\"é"}, ['"x\\"é"'], ['"x"']),
    ({"anyOf": [I, {"type": "null"}]}, ["1", "null"], ['"a"']),
    ({**O, "properties": {"k": S}, "anyOf": [{"required": ["k"]}]}, ['{"k":""}'], ["{}"]),
    ({"oneOf": [I, S]}, ["1", '"a"'], ["null"]),
    ({"oneOf": [{**O, "properties": {"t": {"const": "a"}, "x": I}, "required": ["t"]},
                {**O, "properties": {"t": {"const": "b"}, "y": I}, "required": ["t"]}]}, ['{"t":"a","x":1}', '{"t":"b"}'], ['{"t":"c"}']),
    ({"allOf": [{**O, "properties": {"a": I}, "required": ["a"]}, {**O, "properties": {"b": I}, "required": ["b"]}]},
     ['{"a":1,"b":2}'], ['{"a":1}', '{"b":2}']),
    ({"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [I, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}}},
     ["1", "[]", "[[1],[[2]]]"], ['["a"]', "{}"]),
    ({**O, "properties": {"v": I, "next": {"$ref": "#"}}, "required": ["v"]}, ['{"v":1}', '{"v":1,"next":{"v":2,"next":{"v":3}}}'],
     ['{"next":{"v":1}}', '{"v":1,"next":{}}']),
    ({"definitions": {"a/b": {"type": "null"}}, "$ref": "#/definitions/a~1b"}, ["null"], ["1"]),
    ({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://a.example/x", "title": "t", "description": "d",
      "default": 1, "examples": [2], **I}, ["5"], ['"5"']),
    ({"type": "array", "uniqueItems": False}, ["[1,1]"], []),
    ({**O, "properties": {"a": False, "b": I}}, ['{"b":1}'], ['{"a":1}']),
]
SCHEMA_REFUSED = [
    ({"not": I}, "not"), ({"if": I}, "if"), ({"type": "array", "uniqueItems": True}, "uniqueItems"), ({**I, "multipleOf": 2}, "multipleOf"),
    ({**O, "patternProperties": {}}, "patternProperties"), ({**S, "format": "regex"}, "format"), ({"type": "int"}, "type"),
    ({**S, "pattern": "a", "minLength": 3}, "together"), ({**S, "minLength": 3, "maxLength": 2}, "maxLength"), ({**I, "minimum": 3, "maximum": 2}, "between"),
    ({**O, "properties": {"x": {"y": 1}}}, "/properties/x/y"), ({"$ref": "#/nowhere"}, "$ref"), ({"$ref": "http://x.example"}, "$ref"),
    ({"oneOf": [{"type": "number"}, I]}, "oneOf"), (False, "no text"), ({**O, "properties": {"a": False}, "required": ["a"]}, "no text"),
    ({"enum": []}, "enum"), ({**O, "required": ["zz"]}, "required"), (3, "object, true or false"), ({"$ref": "#"}, "itself"),
    ({"allOf": [{**O, "properties": {"a": I}, "additionalProperties": False}, {"properties": {"b": I}}]}, "additionalProperties"),
    ({"type": "number", "minimum": 0.1234567}, "digits"), ({**S, "maxLength": 1e9}, "maxLength"),
]


def valid(text, schema):
    return jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))


def main():
    for pattern, yes, no in REGEX:
        assert all(re.fullmatch(pattern, t) for t in yes) or pattern == "a{,3}", pattern  # Python takes {,3} for {0,3}, ECMA for text
        assert not any(re.fullmatch(pattern, t) for t in no) or pattern == "a{,3}", pattern
    for schema, yes, no in SCHEMA:
        assert all(valid(t, schema) for t in yes), schema
        assert not any(valid(t, schema) for t in no), schema
    cases = [{"kind": "regex", "text": p, "yes": y, "no": n} for p, y, n in REGEX]
    cases += [{"kind": "regex", "text": p, "refused": w} for p, w in REGEX_REFUSED]
    cases += [{"kind": "schema", "text": json.dumps(s), "yes": y, "no": n} for s, y, n in SCHEMA]
    cases += [{"kind": "schema", "text": json.dumps(s), "refused": w} for s, w in SCHEMA_REFUSED]
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.json"), "w") as f:
        json.dump(cases, f, indent=0, ensure_ascii=False)
        f.write("\n")


main()
