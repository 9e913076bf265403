/* Any bytes as a GGUF file: what opens keeps what it promises, and hyper-parameters and tokenizer
 * are read or refused. */
#include "core/files/gguf_blocks.h"
#include "core/files/gguf_llama.h"
#include "core/files/gguf_tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void read_values(const struct gguf *g)
{
    size_t n;
    const struct gguf_value *v = gguf_values(g, &n);
    for (size_t i = 0; i < n; i++) {
        struct gguf_value rest = v[i];
        struct gguf_text text;
        int64_t whole;
        float number;
        bool flag;
        gguf_integer(&v[i], &whole);
        gguf_float(&v[i], &number);
        gguf_bool(&v[i], &flag);
        if (gguf_string(&v[i], &text))
            fuzz_check(!memchr(text.v, 0, text.n) || text.n);
        while (gguf_is_array(&v[i], true) && gguf_next_string(&rest, &text))
            fuzz_check(!memchr(text.v, 0, text.n) || text.n);
        while (gguf_is_array(&v[i], false) && gguf_next_integer(&rest, &whole))
            ;
        fuzz_check(gguf_find(g, v[i].key) == &v[i]);
    }
}

static void read_tensors(const struct gguf *g, const uint8_t *data, size_t size)
{
    size_t n;
    const struct gguf_tensor *t = gguf_tensors(g, &n);
    for (size_t i = 0; i < n; i++) {
        float floats[GGUF_BLOCK];
        size_t block = gguf_block_bytes(t[i].type);
        fuzz_check(t[i].data >= data && t[i].bytes <= size);
        fuzz_check(t[i].data + t[i].bytes <= data + size);
        fuzz_check(gguf_tensor_find(g, t[i].name) == &t[i]);
        for (size_t at = 0; block && at < t[i].bytes; at += block)
            gguf_block_floats(t[i].type, t[i].data + at, floats);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct gguf_llama m;
    struct gguf_tokenizer tokenizer;
    struct error err = ERROR_INIT;
    enum status s = gguf_parse(data, size, "fuzz", &g, &err);
    fuzz_check(!s == !!g);
    fuzz_check(!s || *err.text);
    if (!s) {
        read_values(g);
        read_tensors(g, data, size);
        s = gguf_llama_read(g, &m, &err);
        json_decref(s ? NULL : gguf_llama_config(&m));
        fuzz_check(!s == !gguf_llama_read(g, &m, NULL));
        s = gguf_tokenizer_read(g, s ? 4 : m.vocab, &tokenizer, &err);
        gguf_tokenizer_clear(&tokenizer);
    }
    gguf_close(g);
    error_clear(&err);
    return 0;
}
