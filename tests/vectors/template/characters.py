#!/usr/bin/env python3
"""characters.py > core/template/characters.def: what Python's str knows of characters and utf8proc does not say."""
import sys
import unicodedata


def ranges(name, member):
    first = None
    for c in range(sys.maxunicode + 2):
        inside = c <= sys.maxunicode and member(chr(c))
        if inside and first is None:
            first = c
        elif not inside and first is not None:
            print(f"CHARACTERS_RANGE({name}, 0x{first:x}, 0x{c - 1:x})")
            first = None


def row(name, c, text):
    codes = ", ".join(f"0x{ord(x):x}" for x in text.ljust(3, "\0"))
    print(f"CHARACTERS_{name}(0x{c:x}, {codes})".replace("0x0", "0"))


print("/* Made by tests/vectors/template/characters.py of Python, Unicode " + unicodedata.unidata_version + ". */")
ranges("DIGIT", lambda x: x.isdigit() and not x.isdecimal())
ranges("NUMERIC", lambda x: x.isnumeric() and unicodedata.category(x)[0] != "N")
ranges("UPPER", lambda x: x.isupper() and unicodedata.category(x) != "Lu")
ranges("LOWER", lambda x: x.islower() and unicodedata.category(x) != "Ll")
for c in range(sys.maxunicode + 1):
    if not 0xD800 <= c < 0xE000 and len(chr(c).upper()) > 1:
        row("UPPER", c, chr(c).upper())
for c in range(sys.maxunicode + 1):
    if not 0xD800 <= c < 0xE000 and len(chr(c).title()) > 1:
        row("TITLE", c, chr(c).title())
