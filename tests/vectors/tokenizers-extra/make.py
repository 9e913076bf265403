"""Writes extra.json: small tokenizers for the components that the published configurations beside
this folder do not show, with ids and texts from the tokenizers library (0.23.3).

    python make.py > extra.json

{"pairs": a model, "cases": [{"name", "tokenizer" (its model may be "pairs": that one), "encode":
[{"text", "add_special", "ids"}], "decode": [{"ids", "skip_special", "text"}]}], "classes": {class:
[how many code points are in it, their sum]}}: a regex, or the name of a predicate of unicode.h
"""
import json
import random
import sys

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

TEXTS = [
    "", " ", "a", "a--b- -c", "--a", "a--", "Hello, World! it's 12 345", "  two  spaces  ",
    "tab\tnew\nline\r\nend\n", "x1y22z333 \u00b2\u00bd\u2167", "caf\u00e9 cafe\u0301 \u00c5\u212b\u0130I\u0131",
    "\ufb01 \uff21 \u2460 \u00bd \u32ff \u0345\u0301\u0323", "\u4e2d\u6587 kana\u304b\u30ab \uac00\u1100\u1161",
    "a\u0000b\u0001c\u007f\u0085d\u00a0e\u2028f\u200bg\ufeffh\ufffdi", "\u2581\u2581x \u2581y", "_a _b__c",
    "don't DON'T l'\u017f we'LL", "a_b.c\u2014d\u300ce\u300d$+<=>^`|~", "\u0e01\u0e33 \u0915\u094d\u0937 \u0628\u064e",
    "\u1e9e\u00df \u03a3\u03c3\u03c2 \u0397\u03a3", "\U0001f600\U0001f468\u200d\U0001f469 \u0939\u093f",
    "\u10d0\u1c90 \ua7cb \U00010d50 \U00011de0 \u166d\u2e52\u061d", "<s>a<s> b </s>c[X] x[X]y [X]", "wordword word_word",
    "zzz \u00e9\u00e8 qq\u65e5\u672c", "\u180e\u2003.\u205f",
]
ALPHABET = sorted(set("".join(TEXTS)))


def added(token_id, content, **flags):
    token = dict(id=token_id, content=content, single_word=False, lstrip=False, rstrip=False,
                 normalized=False, special=False)
    token.update(flags)
    return token


def file(model, normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None, tokens=()):
    return dict(version="1.0", truncation=None, padding=None, added_tokens=list(tokens),
                normalizer=normalizer, pre_tokenizer=pre_tokenizer, post_processor=post_processor,
                decoder=decoder, model=model)


def pairs_model(configurations):
    """A BPE whose entries are the characters and the pairs that come up in the texts under these
    normalizers and pre-tokenizers: every cut and every changed character shows in some id."""
    seen, pairs = set(ALPHABET), set()
    for parts in configurations:
        probe = file(dict(type="BPE", vocab={"<unk>": 0}, merges=[], unk_token="<unk>"), **parts)
        t = Tokenizer.from_str(json.dumps(probe))
        for text in TEXTS:
            if t.normalizer:
                text = t.normalizer.normalize_str(text)
            pieces = [text]
            if t.pre_tokenizer:
                pieces.append("".join(p for p, _ in t.pre_tokenizer.pre_tokenize_str(text)))
            for piece in pieces:
                seen |= set(piece)
                pairs |= set(zip(piece, piece[1:]))
    pairs = sorted(p for p in pairs if p[0] != "\0" and p[1] != "\0")
    entries = ["<unk>"] + sorted(seen - {"\0"}) + sorted({a + b for a, b in pairs})
    return dict(type="BPE", unk_token="<unk>", vocab={e: i for i, e in enumerate(entries)},
                merges=[list(p) for p in pairs])


OUT, CUTS = [], []


def emit(name, tokenizer, texts, ids=(), decode=True):
    t = Tokenizer.from_str(json.dumps(tokenizer))
    rng = random.Random(name)
    entry = dict(name=name, tokenizer=tokenizer, encode=[], decode=[])
    lists = [list(x) for x in ids]
    for text in texts:
        for special in (False, True):
            try:
                got = t.encode(text, add_special_tokens=special).ids
            except Exception:  # what the library cannot encode is refused
                got = None
            if not special or tokenizer["post_processor"]:
                entry["encode"].append(dict(text=text, add_special=special, ids=got))
            if got and not special:
                lists.append(got)
    size = t.get_vocab_size(with_added_tokens=True)
    for _ in range(6):
        lists.append([rng.randrange(size + 1) for _ in range(8)])
    for x in lists if decode else []:
        for skip in (False, True):
            try:
                text = t.decode(x, skip_special_tokens=skip)
            except BaseException:  # the library panics on some tokens (Strip with stop)
                continue
            if not skip or tokenizer["added_tokens"]:
                entry["decode"].append(dict(ids=x, skip_special=skip, text=text))
    OUT.append(entry)


def cut(name, **parts):
    """Emitted at the end, all with one model."""
    CUTS.append((name, parts))


def sequence(key, *steps):
    return {"type": "Sequence", key: list(steps)}


def one(kind, **options):
    return dict(type=kind, **options)


def bert(clean, chinese, accents, lower):
    return one("BertNormalizer", clean_text=clean, handle_chinese_chars=chinese,
               strip_accents=accents, lowercase=lower)


def replace(pattern, content):
    return one("Replace", pattern=pattern, content=content)


def split(pattern, behavior="Isolated", invert=False):
    return one("Split", pattern=pattern, behavior=behavior, invert=invert)


# normalizers
for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel"):
    cut("normalizer-" + kind, normalizer=one(kind))
cut("normalizer-sequence", normalizer=sequence(
    "normalizers", one("NFKD"), sequence("normalizers", one("StripAccents"), one("Lowercase")),
    replace({"Regex": "[aeiou]{2,}|\\s+$"}, "V"), one("Strip", strip_left=True, strip_right=False)))
for left, right in ((True, True), (True, False), (False, True), (False, False)):
    cut(f"normalizer-strip-{left}-{right}",
        normalizer=one("Strip", strip_left=left, strip_right=right))
cut("normalizer-prepend", normalizer=sequence("normalizers", one("Prepend", prepend="<<"),
                                              replace({"String": "--"}, "")))
cut("normalizer-replace-empty-match", normalizer=replace({"Regex": "x*"}, "_"))
for k, (clean, chinese, accents, lower) in enumerate(
        ((True, True, True, False), (False, False, None, True), (True, False, False, True),
         (False, True, None, False))):
    cut(f"normalizer-bert-{k}", normalizer=bert(clean, chinese, accents, lower))

# pre-tokenizers
for behavior in ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"):
    for invert in (False, True):
        cut(f"split-string-{behavior}-{invert}", pre_tokenizer=split({"String": "-"}, behavior, invert))
        cut(f"split-regex-{behavior}-{invert}",
            pre_tokenizer=split({"Regex": "[\\s\\-]|\\d\\d"}, behavior, invert))
    cut(f"punctuation-{behavior}", pre_tokenizer=one("Punctuation", behavior=behavior))
cut("punctuation-default", pre_tokenizer=one("Punctuation"))
cut("whitespace-split", pre_tokenizer=one("WhitespaceSplit"))
cut("whitespace", pre_tokenizer=one("Whitespace"))
cut("bert", pre_tokenizer=one("BertPreTokenizer"))
cut("delimiter", pre_tokenizer=one("CharDelimiterSplit", delimiter="\u2581"))
for each in (False, True):
    cut(f"digits-{each}", pre_tokenizer=one("Digits", individual_digits=each))
for scheme in ("always", "first", "never"):
    for do in (False, True):
        cut(f"metaspace-{scheme}-{do}", pre_tokenizer=one(
            "Metaspace", replacement="\u2581", prepend_scheme=scheme, split=do))
cut("metaspace-old-true", pre_tokenizer=one("Metaspace", replacement="_", add_prefix_space=True))
cut("metaspace-old-false", pre_tokenizer=one("Metaspace", replacement="_", add_prefix_space=False,
                                             prepend_scheme="never", str_rep="_"))
FIRST = one("Metaspace", replacement="\u2581", prepend_scheme="first", split=True)
cut("metaspace-first-behind-split", pre_tokenizer=sequence("pretokenizers", one("WhitespaceSplit"), FIRST))
for name, step in (("strip", one("Strip", strip_left=True, strip_right=False)), ("nmt", one("Nmt")),
                   ("replace", replace({"Regex": "^[a-z]{2}"}, "_")),
                   ("replace-one", replace({"Regex": "^[a-z]"}, "_")), ("nfd", one("NFD")),
                   ("prepend", one("Prepend", prepend="a"))):
    cut("metaspace-first-" + name, normalizer=step, pre_tokenizer=FIRST)
for prefix in (False, True):
    cut(f"byte-level-{prefix}", pre_tokenizer=sequence(
        "pretokenizers", one("WhitespaceSplit") if prefix else one("Digits", individual_digits=True),
        one("ByteLevel", add_prefix_space=prefix, trim_offsets=True, use_regex=not prefix)))
cut("byte-level-prefix-regex", pre_tokenizer=one("ByteLevel", add_prefix_space=True, trim_offsets=False))

# regexes
O200K = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
         "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
         "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}|"
         " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
KIMI = ("[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*"
        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}|"
        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
REGEXES = dict(
    o200k=O200K, kimi=KIMI, word="\\w+", nonword="\\W", edge="\\b", nonedge="\\B", hex="\\h+",
    nonhex="[\\H\\n]", lines="^.|.$", dotall="(?m:a.*d)", dot="l.+", upto="[a-z]{,2}-", lazy="\\w+?[-d]",
    possessive="[a-z]++\\d", atomic="(?>wor|word)w", nested="[a-c[x-z]&&[^b]]+", negated="[^a-z[0-9]\\s]+",
    nonspace="[\\S&&[^a-z]]+", property="\\p{^L}+", nonproperty="[\\P{L}a-c]+", behind="(?<=a)[^b]|(?<!o)r",
    caseless="(?i)HELLO|\u00e9", group="(ab|b|-)+", bracket="[]\\-x]", hyphen="[\\w-]+|[a-]", anchors="\\A.|.\\z|\n\\Z",
    newline="\\R", unicode="\\u4e2d|\\x{6587}|\\x41|\\t", punctuation="[\\p{P}\\p{S}]+", kana="[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    alternatives="|a", marks="\\p{M}+|\\p{Alphabetic}", scripts="\\p{Hiragana}|\\p{Hangul}+|\\p{Thai}|\\p{Cyrillic}")
for name, regex in REGEXES.items():
    cut("regex-" + name, pre_tokenizer=split({"Regex": regex}))

# BPE options
WORDS = ["low", "lower lowest", "newer  wide", "x\u00e9y\u00e9\u00e8z", "\u65e5\u672cz", "\u65e5z\u672c", "ab", "a"]
CHARS = list("abdelnorstwxyz ") + ["\u2581"]


def bpe(merges, extra=(), **options):
    entries = ["<unk>"] + CHARS + list(extra)
    entries += [m[0] + m[1][len(options.get("continuing_subword_prefix") or ""):] for m in merges]
    vocab = {}
    for e in entries:
        vocab.setdefault(e, len(vocab))
    return dict(type="BPE", vocab=vocab, merges=[list(m) for m in merges], **options)


LOW = [("l", "o"), ("lo", "w"), ("e", "r"), ("w", "e"), ("e", "s"), ("es", "t"), ("low", "er"), ("n", "e")]
emit("bpe-unk", file(bpe(LOW, unk_token="<unk>")), WORDS)
emit("bpe-fuse-unk", file(bpe(LOW, unk_token="<unk>", fuse_unk=True)), WORDS)
emit("bpe-no-unk", file(bpe(LOW)), WORDS)
emit("bpe-missing-unk", file(bpe(LOW, unk_token="<none>")), WORDS)
BYTES = ["<0xC3>", "<0xA9>", "<0xE6>", "<0x97>", "<0xA5>"]
emit("bpe-some-bytes", file(bpe(LOW + [("<0xC3>", "<0xA9>")], BYTES, unk_token="<unk>", byte_fallback=True)), WORDS)
emit("bpe-some-bytes-fused", file(bpe(LOW, BYTES, unk_token="<unk>", byte_fallback=True, fuse_unk=True)), WORDS)
SUFFIXED = [c + "</w>" for c in CHARS]
emit("bpe-suffix", file(
    bpe([("l", "o"), ("lo", "w</w>"), ("e", "r</w>"), ("w", "er</w>"), ("lo", "wer</w>")], SUFFIXED,
        unk_token="<unk>", end_of_word_suffix="</w>"),
    pre_tokenizer=one("WhitespaceSplit"), decoder=one("BPEDecoder", suffix="</w>")), WORDS)
PREFIXED = ["##" + c for c in CHARS]
emit("bpe-prefix", file(
    bpe([("l", "##o"), ("lo", "##w"), ("##e", "##r"), ("low", "##er")], PREFIXED, unk_token="<unk>",
        continuing_subword_prefix="##"),
    pre_tokenizer=one("WhitespaceSplit"), decoder=one("WordPiece", prefix="##", cleanup=False)), WORDS)
IGNORE = bpe(LOW, ["lowest", "newer"], unk_token="<unk>", ignore_merges=True)
emit("bpe-ignore-merges", file(IGNORE, pre_tokenizer=one("WhitespaceSplit")), WORDS)
OLD = bpe([], unk_token="<unk>", continuing_subword_prefix="", end_of_word_suffix="", dropout=0.0)
OLD["merges"] = ["#version: 0.2", "l o", "lo w", "e r"]
OLD["vocab"].update({"lo": 100, "low": 101, "er": 102})
emit("bpe-old-spelling", file(OLD), WORDS)
rng = random.Random(5)
LONG = ["".join(rng.choice("abelow") for _ in range(n)) for n in (23, 24, 25, 26, 60, 300)]
RANDOM = []
for _ in range(40):
    made = list("abelow") + [a + b for a, b in RANDOM]
    pair = (rng.choice(made), rng.choice(made))
    if pair not in RANDOM and len(pair[0] + pair[1]) < 7:
        RANDOM.append(pair)
emit("bpe-random", file(bpe(RANDOM, unk_token="<unk>")), LONG + ["a" * 50, "ab" * 40])

# Unigram, WordPiece
PIECES = [["<unk>", 0.0], ["\u2581", -2.0], ["\u2581a", -2.5], ["a", -3.0], ["b", -3.0], ["ab", -3.5], ["aba", -5.25],
          ["ba", -3.5], ["abab", -7.0], ["low", -4.0], ["l", -5.0], ["o", -5.0], ["w", -5.0], ["xy", -9.0]]
WORDS2 = ["ab", "abab ababa", "lowlow w", "xyz x", "\u00e9\u00e8a\u00e9", "zzz", "", "b a", "<unk>a", "x<unk>z", "\u65e5\u672c"]
MS = one("Metaspace", replacement="\u2581", prepend_scheme="always", split=True)
emit("unigram", file(dict(type="Unigram", unk_id=0, vocab=PIECES), pre_tokenizer=MS, decoder=MS), WORDS2)
emit("unigram-no-unk", file(dict(type="Unigram", unk_id=None, vocab=PIECES), pre_tokenizer=MS, decoder=MS), WORDS2)
ALL_BYTES = PIECES + [[f"<0x{b:02X}>", -20.0 - b] for b in range(256)]
FALLBACK = sequence("decoders", one("ByteFallback"), MS)
emit("unigram-bytes", file(dict(type="Unigram", unk_id=0, vocab=ALL_BYTES, byte_fallback=True),
                           pre_tokenizer=MS, decoder=FALLBACK), WORDS2,
     ids=[[14 + 0xE2, 14 + 0x96, 14 + 0x81, 3], [14 + 0xC3, 14 + 0xA9, 1, 14 + 0xC3, 1], [14 + 0xE2, 14 + 0x96], [1, 2, 1]])
emit("unigram-twice", file(dict(type="Unigram", unk_id=0, vocab=PIECES + [["ab", -1.0]])), WORDS2)
emit("unigram-joined", file(dict(type="Unigram", unk_id=0, vocab=PIECES + [["zz", -30.0], ["z\u00e9", -99.0]])),
     ["zz", "z\u00e9", "zzz", "azzb", "z\u00e9z"])
WP = {w: i for i, w in enumerate(["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a", "a", "##b", "b", ".", "'", "##s",
                                  "do", "not", "n't", "##n't", "\u65e5", "##\u672c", "!", "s"])}


def wordpiece(most=100, unk="[UNK]"):
    return dict(type="WordPiece", unk_token=unk, continuing_subword_prefix="##", max_input_chars_per_word=most, vocab=WP)


for most in (5, 100):
    emit(f"wordpiece-{most}", file(wordpiece(most), pre_tokenizer=one("BertPreTokenizer"),
                                   decoder=one("WordPiece", prefix="##", cleanup=True)),
         ["unaffable", "a unaffable.", "abbbbb aab", "ab.b's!", "do not b", "\u65e5\u672c \u65e5\u65e5", "unx b"],
         ids=[[13, 14, 7, 11, 20], [7, 10, 19, 11, 12], [7, 16, 15, 11], [4, 5], [0]])
emit("wordpiece-fused", file(wordpiece(), pre_tokenizer=one("BertPreTokenizer"), decoder=sequence(
    "decoders", one("Fuse"), one("WordPiece", prefix="##", cleanup=True))), ["a b", "unaffable ."])
emit("wordpiece-no-unk", file(wordpiece(100, "[NONE]"), pre_tokenizer=one("BertPreTokenizer")), ["ab", "xx"])

# post-processors
SMALL = bpe(LOW, unk_token="<unk>")
for kind in ("BertProcessing", "RobertaProcessing"):
    options = dict(trim_offsets=True, add_prefix_space=False) if kind[0] == "R" else {}
    emit("post-" + kind, file(SMALL, post_processor=one(kind, sep=["b", 2], cls=["a", 1], **options)), ["low", "", "er"])
A, B = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}


def special(name):
    return {"SpecialToken": {"id": name, "type_id": 0}}


TEMPLATE = one("TemplateProcessing", single=[special("x"), special("y"), A, special("x")], pair=[A, B],
               special_tokens={"x": dict(id="x", ids=[1, 2], tokens=["a", "b"]), "y": dict(id="y", ids=[5], tokens=["l"])})
emit("post-template", file(SMALL, post_processor=TEMPLATE), ["low", ""])
emit("post-sequence", file(SMALL, post_processor=sequence("processors", TEMPLATE, one(
    "ByteLevel", add_prefix_space=True, trim_offsets=False))), ["low er"])
emit("post-twice", file(SMALL, post_processor=one("TemplateProcessing", single=[A, special("y"), A], pair=[A, B],
                                                  special_tokens=TEMPLATE["special_tokens"])), ["low"])

# decoders
SPACED = bpe([("\u2581", "l"), ("l", "o"), ("\u2581", "\u2581")], ["<0xE6>", "<0x97>", "<0xA5>", "<0xFF>", "\u0120a", "\u00c3", "\u00a9", "  x  "])
TOKENS = [added(len(SPACED["vocab"]), "<sp>", special=True), added(len(SPACED["vocab"]) + 1, "<t>")]
DECODERS = dict(
    none=None, fuse=one("Fuse"), fallback=one("ByteFallback"), byte_level=one("ByteLevel", add_prefix_space=True, trim_offsets=True),
    metaspace_never=one("Metaspace", replacement="\u2581", prepend_scheme="never", split=False),
    metaspace_first=one("Metaspace", replacement="\u2581", prepend_scheme="first", split=False),
    metaspace_old=one("Metaspace", replacement="\u2581", add_prefix_space=False, prepend_scheme="never"),
    strip_start=one("Strip", content=" ", start=2, stop=0), strip_stop=sequence("decoders", one("Fuse"), one("Strip", content=" ", start=1, stop=2)),
    strip_each=one("Strip", content="l", start=1, stop=0), replace_regex=replace({"Regex": "[lo]+"}, "_"),
    replace_behind=sequence("decoders", one("ByteFallback"), replace({"String": "\u65e5"}, "(day)")),
    fallback_metaspace=sequence("decoders", one("ByteFallback"), one("Metaspace", replacement="\u2581", prepend_scheme="always")),
    wordpiece=one("WordPiece", prefix="l", cleanup=True), bpe=one("BPEDecoder", suffix="o"),
    fuse_bpe=sequence("decoders", one("Fuse"), one("BPEDecoder", suffix="o")),
    bpe_strip=sequence("decoders", one("BPEDecoder", suffix="o"), one("Strip", content=" ", start=1, stop=0)),
    level_strip=sequence("decoders", one("ByteLevel", add_prefix_space=True, trim_offsets=True), one("Strip", content="a", start=1, stop=0)),
    nested=sequence("decoders", replace({"String": "\u2581"}, " "), sequence("decoders", one("ByteFallback"), one("Fuse")),
                    one("Strip", content=" ", start=1, stop=0)))
for name, decoder in DECODERS.items():
    vocab = SPACED["vocab"]
    day = [vocab[b] for b in ("<0xE6>", "<0x97>", "<0xA5>")]
    lists = [[vocab["\u2581l"], vocab["o"], vocab["\u2581"], vocab["lo"], vocab["\u2581\u2581"]], day + [vocab["a"]], day[:2] + [vocab["a"]],
             [vocab["a"]] + day, [vocab["<0xFF>"]] + day, [vocab["\u00c3"], vocab["\u00a9"], vocab["\u0120a"]], [vocab["  x  "]] * 2,
             [vocab["o"]] * 3, [vocab["lo"], vocab["a"], vocab["lo"]], TOKENS and [t["id"] for t in TOKENS] + [vocab["a"]], [99999], [vocab[" "]] * 4]
    emit("decoder-" + name, file(SPACED, decoder=decoder, tokens=TOKENS), ["lo"], ids=lists)

# added tokens
FLAGS = dict(plain={}, single=dict(single_word=True), left=dict(lstrip=True), right=dict(rstrip=True),
             both=dict(lstrip=True, rstrip=True), all=dict(single_word=True, lstrip=True, rstrip=True, special=True))
HAYSTACK = ["a<x>b", "<x>", " <x> ", "a <x>  b", "a\u00a0<x>\u3000\n b", "<x><x>", "<x> <x>  <x>", "a_<x>", "\u00e9<x> <x>\u0301", "\u200c<x>", "\u00b2<x>-",
            "<xx> <x", "<X> a", " <xyz> ", "b  <x>", "<x>\u180e"]
for name, flags in FLAGS.items():
    for normalized in (False, True):
        for normalizer in (None, one("Lowercase"), sequence("normalizers", one("Prepend", prepend="\u2581"), replace({"String": " "}, "\u2581"))):
            model = bpe(LOW, ["<", ">", "X", "\u2581a"], unk_token="<unk>")
            tokens = [added(len(model["vocab"]) + k, c, normalized=normalized, **flags) for k, c in enumerate(("<x>", "<X>Y", "<xyz>", "<x> <x>"))]
            label = normalizer["type"] if normalizer else "none"
            emit(f"added-{name}-{normalized}-{label}", file(model, normalizer=normalizer, tokens=tokens, decoder=one("Fuse")), HAYSTACK)
model = bpe(LOW, unk_token="<unk>")
emit("added-in-model", file(model, tokens=[added(model["vocab"]["low"], "low", special=True), added(model["vocab"][" "], " ", rstrip=True)]),
     ["lower", "a   lo w  low", "slow"])

# character classes, over all of Unicode
EVERY = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CLASSES = {}
CATEGORIES = ("L M N P S Z C Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp "
              "Cc Cf Co Alphabetic Han Hiragana Katakana Hangul Latin Cyrillic Greek Arabic Hebrew Thai "
              "Devanagari").split()
REGEX_CLASSES = [r"\p{%s}" % c for c in CATEGORIES if c != "Mn"]  # see oniguruma.c
REGEX_CLASSES += [r"\P{L}", r"\s", r"\S", r"\w", r"\W", r"[\w]", r"[\W]", r"\d", r"\D", r"\h", ".",
                  r"[^\s\p{L}\p{N}]", r"[\p{L}&&[^\p{Han}]]", r"[\S&&[^a-z]\n]", r"[^\r\n\p{L}\p{N}]",
                  r"(?i)[k\u017f]", r"(?i)\u00e5"]
for regex in REGEX_CLASSES:
    found = set()
    for piece, _ in pre_tokenizers.Split(Regex(regex), "removed", True).pre_tokenize_str(
            "".join(map(chr, EVERY))):
        found |= set(map(ord, piece))
    CLASSES[regex] = [len(found), sum(found)]


def predicate(name, holds):
    found = [c for c in EVERY if holds(chr(c))]
    CLASSES[name] = [len(found), sum(found)]


PUNCTUATION = pre_tokenizers.Punctuation("removed")
DIGITS = pre_tokenizers.Digits(True)
SPACES = pre_tokenizers.WhitespaceSplit()
ACCENTS = normalizers.StripAccents()
LOWER = normalizers.Lowercase()
predicate("punctuation", lambda c: not PUNCTUATION.pre_tokenize_str(c))
predicate("numeric", lambda c: len(DIGITS.pre_tokenize_str(c + "a" + c)) == 3)
predicate("space", lambda c: not SPACES.pre_tokenize_str(c))
predicate("mark", lambda c: not ACCENTS.normalize_str(c))
predicate("nonspacing", lambda c: not normalizers.BertNormalizer(False, False, True, False).normalize_str(c))
predicate("control", lambda c: not normalizers.BertNormalizer(True, False, False, False).normalize_str(c))
predicate("ideograph", lambda c: len(normalizers.BertNormalizer(False, True, False, False).normalize_str(c)) == 3)
changed = [c for c in EVERY if LOWER.normalize_str(chr(c)) != chr(c)]
CLASSES["lower"] = [len(changed), sum(ord(d) for c in changed for d in LOWER.normalize_str(chr(c)))]

PAIRS = pairs_model([parts for _, parts in CUTS])
for label, parts in CUTS:
    emit(label, file(PAIRS, **parts), TEXTS, decode=False)
for entry in OUT:
    if entry["tokenizer"]["model"] is PAIRS:
        entry["tokenizer"]["model"] = "pairs"
json.dump(dict(pairs=PAIRS, cases=OUT, classes=CLASSES), sys.stdout, ensure_ascii=True, separators=(",", ":"))
print()
