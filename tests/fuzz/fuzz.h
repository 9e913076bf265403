/*
 * What every fuzz target fuzz_WHAT.c defines, and what it may use. A target builds with libFuzzer
 *
 *     clang -fsanitize=fuzzer,address -I. ... tests/fuzz/fuzz_WHAT.c liboftd.a ...
 *     ./fuzz_WHAT tests/fuzz/corpus/WHAT
 *
 * and, with any compiler, with driver.c: fuzz_WHAT SECONDS [CORPUS]. It must take any bytes, keep
 * nothing from one call to the next, and abort (fuzz_check) when an invariant is broken.
 */
#ifndef OFTD_TESTS_FUZZ_FUZZ_H
#define OFTD_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define fuzz_check(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Takes the bytes up to the line "---" (or all) as *part and moves on behind it; false at the end.
 * How one input holds several files. */
static inline bool fuzz_part(const uint8_t **data, size_t *size, const uint8_t **part, size_t *len)
{
    if (!*data)
        return false;
    const uint8_t *cut = *size ? memmem(*data, *size, "\n---\n", 5) : NULL;
    *part = *data;
    *len = cut ? (size_t)(cut - *data) : *size;
    *size = cut ? *size - *len - 5 : 0;
    *data = cut ? cut + 5 : NULL;
    return true;
}

#endif
