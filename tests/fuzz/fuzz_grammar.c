/* Any text as a grammar, and what follows "---" as a text of it. The first byte is the kind. */
#include "core/grammar/grammar.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static struct tokenizer *tokenizer;
static struct spellings *spellings;

static void open_once(void)
{
    if (tokenizer)
        return;
    fuzz_check(!tokenizer_load("demo/base", &tokenizer, NULL) && tokenizer);
    fuzz_check(!spellings_open(tokenizer, tokenizer_size(tokenizer), &spellings, NULL));
}

/* A token is allowed only if the grammar takes it. */
static void check_tokens(struct tables *t)
{
    uint64_t bits[64];
    struct follower f = {0};
    int32_t tokens[8];
    bool ends, any, alive;
    for (int32_t n = 0; n < 8; n++) {
        if (follow_allowed(t, &f, tokens, n, bits, &ends, &any, NULL) || !any)
            return;
        int32_t id = 0;
        while (!(bits[id / 64] >> id % 64 & 1))
            id++;
        tokens[n] = id;
        struct follower again = {0};
        if (!follow_tokens(t, &again, tokens, n + 1, &alive, NULL))
            fuzz_check(alive);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *grammar, *text = NULL;
    size_t len, text_len = 0;
    struct automaton a;
    struct tables *t = NULL;
    struct error err = ERROR_INIT;
    bool alive, ends;
    open_once();
    if (!size || size > 4096)
        return 0;
    enum grammar_kind kind = (enum grammar_kind)(1 + *data % 6);
    data++;
    size--;
    fuzz_part(&data, &size, &grammar, &len);
    fuzz_part(&data, &size, &text, &text_len);
    enum status s = grammar_compile(kind, (const char *)grammar, len, &a, &err);
    fuzz_check(!s || (err.code == s && *err.text));
    if (!s && !tables_open(&a, spellings, (size_t)16 << 20, &t, NULL)) {
        if (!follow_text(t, (const char *)text, text_len, &alive, &ends, NULL))
            fuzz_check(alive || !ends);
        check_tokens(t);
    }
    tables_close(t);
    automaton_clear(&a);
    error_clear(&err);
    return 0;
}
