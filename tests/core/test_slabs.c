/* Arrays in slabs: zero, apart, and given back to the system. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/memory.h"
#include "core/slabs.h"
#include "tests/check_main.h"

#define HELD  64
#define STEPS 4000

struct held {
    struct block *block;
    char *p;
    size_t size;
};

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* From a few bytes to what is nearly too large, most of them small. */
static size_t random_size(uint64_t *state)
{
    size_t size = (size_t)1 << next(state) % 24;
    return size + next(state) % size;
}

static bool is(const char *p, size_t size, char c)
{
    return p[0] == c && !memcmp(p, p + 1, size - 1);
}

static void give(struct held *h, char mark)
{
    ck_assert(is(h->p, h->size, mark));
    slabs_give(h->block);
    *h = (struct held){0};
}

/* Random takes and gives; everything holds what was written, and is zero before. */
static void *walk(void *arg)
{
    uint64_t state = (uintptr_t)arg;
    struct held held[HELD] = {{0}};
    for (int step = 0; step < STEPS; step++) {
        int i = (int)(next(&state) % HELD);
        char mark = (char)(i + 1);
        struct held *h = &held[i];
        if (h->block)
            give(h, mark);
        h->size = random_size(&state);
        if (h->size >= SLABS_LARGE)
            h->size = SLABS_LARGE - 1;
        h->block = slabs_take(h->size, &h->p);
        ck_assert_ptr_nonnull(h->block);
        ck_assert_uint_eq((uintptr_t)h->p % 64, 0);
        ck_assert(is(h->p, h->size, 0));
        memset(h->p, mark, h->size);
    }
    for (int i = 0; i < HELD; i++)
        if (held[i].block)
            give(&held[i], (char)(i + 1));
    return NULL;
}

START_TEST(blocks_are_zero_and_apart)
{
    walk((void *)(uintptr_t)(_i + 1));
}
END_TEST

START_TEST(threads_share_slabs)
{
    pthread_t t[3];
    for (uintptr_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, walk, (void *)(i + 7)), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
}
END_TEST

/* Pages of [p, p + size) that are in memory. */
static size_t resident(char *p, size_t size)
{
    char *first = p - (uintptr_t)p % HUGE_PAGE;
    size_t pages = (size_t)(p + size - first) / 4096, n = 0;
    unsigned char *in = calloc(pages, 1);
    ck_assert_ptr_nonnull(in);
    ck_assert_int_eq(mincore(first, pages * 4096, in), 0);
    for (size_t i = 0; i < pages; i++)
        n += in[i] & 1;
    free(in);
    return n;
}

START_TEST(what_is_given_back_takes_no_memory)
{
    struct held a, b, c;
    a.block = slabs_take(4096, &a.p);
    b.block = slabs_take(3 * HUGE_PAGE, &b.p);
    c.block = slabs_take(4096, &c.p);
    ck_assert(a.block && b.block && c.block);
    memset(b.p, 1, 3 * HUGE_PAGE);
    ck_assert_uint_ge(resident(b.p, 3 * HUGE_PAGE), 3 * HUGE_PAGE / 4096);
    slabs_give(b.block);
    // all but the huge pages that a neighbour has a part of
    ck_assert_uint_le(resident(b.p, 3 * HUGE_PAGE), 2 * HUGE_PAGE / 4096);
    struct held again = {.block = slabs_take(3 * HUGE_PAGE, &again.p)};
    ck_assert_ptr_eq(again.p, b.p);
    ck_assert(is(again.p, 3 * HUGE_PAGE, 0));
    slabs_give(c.block);
    slabs_give(again.block);
    slabs_give(a.block);
}
END_TEST

START_TEST(arrays_of_all_sizes)
{
    static const size_t sizes[] = {
        1, 16383, 16384, HUGE_PAGE + 1, SLABS_LARGE - 64, SLABS_LARGE, 2 * SLABS_LARGE + 5};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *p = memory_alloc(sizes[i]);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        ck_assert(is(p, sizes[i], 0));
        memset(p, 1, sizes[i]);
        memory_free(p);
    }
    memory_free(NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core");
    TCase *t = tcase_create("slabs");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, blocks_are_zero_and_apart, 0, 3);
    tcase_add_test(t, threads_share_slabs);
    tcase_add_test(t, what_is_given_back_takes_no_memory);
    tcase_add_test(t, arrays_of_all_sizes);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
