"""Writes core/tokenizer/unicode_tables.def (to stdout): where the character classes of the
tokenizers library (0.23.3: Oniguruma with Unicode 16, Rust's std with Unicode 17, and two crates
with Unicode 8 and 12) differ from those of PCRE2 and utf8proc as installed. Every class is asked
from the library itself, one code point at a time.

    python make_unicode.py > core/tokenizer/unicode_tables.def      (about a minute)
"""
import ctypes
import ctypes.util

from tokenizers import Regex, normalizers as N, pre_tokenizers as P

ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, ALL))

pcre = ctypes.CDLL(ctypes.util.find_library("pcre2-8"))
pcre.pcre2_compile_8.restype = ctypes.c_void_p
pcre.pcre2_match_data_create_8.restype = ctypes.c_void_p
pcre.pcre2_get_ovector_pointer_8.restype = ctypes.POINTER(ctypes.c_size_t)
pcre.pcre2_get_ovector_pointer_8.argtypes = [ctypes.c_void_p]
utf8proc = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
utf8proc.utf8proc_category_string.restype = ctypes.c_char_p
CATEGORY = {c: utf8proc.utf8proc_category_string(c).decode() for c in ALL}

UTF, UCP, NO_CHECK = 0x00080000, 0x00020000, 0x40000000


def in_pcre(pattern):
    error, offset = ctypes.c_int(), ctypes.c_size_t()
    code = pcre.pcre2_compile_8(pattern.encode(), ctypes.c_size_t(len(pattern.encode())), UTF | UCP,
                                ctypes.byref(error), ctypes.byref(offset), None)
    if not code:
        return None
    data = pcre.pcre2_match_data_create_8(1, None)
    subject = TEXT.encode()
    found, at = set(), 0
    while pcre.pcre2_match_8(ctypes.c_void_p(code), subject, ctypes.c_size_t(len(subject)),
                             ctypes.c_size_t(at), NO_CHECK, ctypes.c_void_p(data), None) > 0:
        v = pcre.pcre2_get_ovector_pointer_8(data)
        found.add(ord(subject[v[0]:v[1]].decode()))
        at = v[1]
    return found


def in_oniguruma(pattern):
    out = set()
    for piece, _ in P.Split(Regex(pattern), "removed", True).pre_tokenize_str(TEXT):
        out |= set(map(ord, piece))
    return out


def ranges(members):
    out = []
    for c in sorted(members):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def show(kind, members):
    for a, b in ranges(members):
        print(f"{kind}0x{a:X}, 0x{b:X})")


def overrides(name, reference, ours):
    rows = [(a, b, "true") for a, b in ranges(reference - ours)]
    rows += [(a, b, "false") for a, b in ranges(ours - reference)]
    for a, b, member in sorted(rows):
        print(f"UNICODE_CLASS({name}, 0x{a:X}, 0x{b:X}, {member})")


print("/* Made by tests/vectors/tokenizers-extra/make_unicode.py: read its head. */")
print("\n/* Code points that Oniguruma's class has and PCRE2's lacks: class, first, last. */")
for name in ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co "
             "Alphabetic").split():
    reference, ours = in_oniguruma(r"\p{%s}" % name), in_pcre(r"\p{%s}" % name)
    show(f'UNICODE_REGEX("{name}", ', reference - ours)
    if ours - reference:
        print("/* PCRE2 only: " + name + " " + str([hex(c) for c in ours - reference][:9]) + " */")
for name in "Han Hiragana Katakana Hangul Latin Cyrillic Greek Arabic Hebrew Thai Devanagari".split():
    reference, ours = in_oniguruma(r"\p{%s}" % name), in_pcre(r"\p{sc:%s}" % name)
    show(f'UNICODE_REGEX("sc:{name}", ', reference - ours)
    if ours - reference:
        print("/* PCRE2 only: " + name + " " + str([hex(c) for c in ours - reference][:9]) + " */")

print("\n/* Where the library's predicates differ from utf8proc's categories: class, first, last, "
      "member. */")
lost = set(ALL)
for piece, _ in P.Punctuation("removed").pre_tokenize_str(TEXT):
    lost -= set(map(ord, piece))
ascii_punctuation = {c for c in range(33, 127) if not chr(c).isalnum()}
overrides("PUNCTUATION", lost, ascii_punctuation | {c for c in ALL if CATEGORY[c][0] == "P"})
digits = {ord(p) for p, _ in P.Digits(True).pre_tokenize_str("aa".join(map(chr, ALL)))
          if len(p) == 1 and p != "a"}
overrides("NUMERIC", digits, {c for c in ALL if CATEGORY[c][0] == "N"})
strip = N.StripAccents()
overrides("MARK", {c for c in ALL if not strip.normalize_str(chr(c))},
          {c for c in ALL if CATEGORY[c][0] == "M"})
bert = N.BertNormalizer(False, False, True, False)
overrides("NONSPACING", {c for c in ALL if not bert.normalize_str(chr(c))},
          {c for c in ALL if CATEGORY[c] == "Mn"})
bert = N.BertNormalizer(True, False, False, False)
overrides("CONTROL", {c for c in ALL if not bert.normalize_str(chr(c))},
          {c for c in ALL if CATEGORY[c] in ("Cc", "Cf", "Co")} - {9, 10, 13} | {0xFFFD})

print("\n/* Lower case that utf8proc does not know: first, last, distance. */")
lower = N.Lowercase()
deltas = {}
for c in ALL:
    to = lower.normalize_str(chr(c))
    if len(to) == 1 and ord(to) != utf8proc.utf8proc_tolower(c):
        deltas.setdefault(ord(to) - c, set()).add(c)
for delta, members in sorted(deltas.items()):
    for a, b in ranges(members):
        print(f"UNICODE_LOWER(0x{a:X}, 0x{b:X}, {delta})")

print("\n/* Compatibility decompositions that the library does not know: first, last. */")
utf8proc.utf8proc_decompose_char.restype = ctypes.c_ssize_t
nfkd = N.NFKD()
missing = set()
for c in ALL:
    buffer, boundary = (ctypes.c_int32 * 64)(), ctypes.c_int()
    n = utf8proc.utf8proc_decompose_char(c, buffer, ctypes.c_ssize_t(64),
                                         (1 << 1) | (1 << 2) | (1 << 4), ctypes.byref(boundary))
    if n != 1 or buffer[0] != c:
        if nfkd.normalize_str(chr(c)) == chr(c):
            missing.add(c)
show("UNICODE_UNDECOMPOSED(", missing)
