#include "tests/check_main.h"

#include <string.h>

#include "core/adapters/adapter.h"
#include "core/run/kvcache.h"
#include "tests/faults/fault.h"

#define PAGES 8

static struct kvcache *c;

static const struct kv_shape shape = {2, 1, 4};

static void setup(void)
{
    ck_assert_int_eq(kvcache_open(NULL, &shape, DT_F32, PAGES, &c, NULL), ST_OK);
}

static void teardown(void)
{
    kvcache_close(c);
}

static void key_of(int n, uint8_t out[PREFIX_KEY])
{
    int32_t tokens[KV_PAGE];
    uint8_t root[PREFIX_KEY] = {0};
    for (int i = 0; i < KV_PAGE; i++)
        tokens[i] = n;
    prefix_next(root, tokens, out);
}

START_TEST(pages_are_distinct_and_finite)
{
    bool seen[PAGES] = {0};
    for (int i = 0; i < PAGES; i++) {
        int32_t p = kvcache_take(c, COMPUTE_EXACT);
        ck_assert(p >= 0 && p < PAGES && !seen[p]);
        seen[p] = true;
    }
    ck_assert_int_eq(kvcache_take(c, COMPUTE_EXACT), -1);
    ck_assert_int_eq(kvcache_available(c), 0);
    for (int i = 0; i < PAGES; i++)
        kvcache_drop(c, i);
    ck_assert_int_eq(kvcache_used(c), 0);
    ck_assert_int_ge(kvcache_take(c, COMPUTE_EXACT), 0);
}
END_TEST

START_TEST(known_pages_are_found_shared_and_kept)
{
    uint8_t key[PREFIX_KEY];
    key_of(1, key);
    int32_t p = kvcache_take(c, COMPUTE_EXACT);
    ck_assert_int_eq(kvcache_find(c, key), -1);
    kvcache_know(c, p, key);
    ck_assert_int_eq(kvcache_find(c, key), p);
    ck_assert_int_eq(kvcache_used(c), 1);
    kvcache_drop(c, p);
    ck_assert_int_eq(kvcache_used(c), 1);
    kvcache_drop(c, p);
    ck_assert_int_eq(kvcache_used(c), 0);
    ck_assert_int_eq(kvcache_find(c, key), p); /* cached */
    ck_assert_int_eq(kvcache_used(c), 1);
}
END_TEST

START_TEST(eviction_is_least_recently_dropped_and_forgets)
{
    uint8_t key[PREFIX_KEY];
    int32_t pages[PAGES];
    for (int i = 0; i < PAGES; i++) {
        pages[i] = kvcache_take(c, COMPUTE_EXACT);
        key_of(i, key);
        kvcache_know(c, pages[i], key);
    }
    for (int i = 0; i < PAGES; i++)
        kvcache_drop(c, pages[(i + 3) % PAGES]);
    key_of(3, key); /* used again: now the most recent */
    kvcache_drop(c, kvcache_find(c, key));
    ck_assert_int_eq(kvcache_take(c, COMPUTE_EXACT), pages[4]);
    ck_assert_int_eq(kvcache_take(c, COMPUTE_EXACT), pages[5]);
    key_of(4, key);
    ck_assert_int_eq(kvcache_find(c, key), -1);
    key_of(3, key);
    ck_assert_int_eq(kvcache_find(c, key), pages[3]);
}
END_TEST

START_TEST(a_second_page_with_a_known_key_stays_unknown)
{
    uint8_t key[PREFIX_KEY];
    key_of(1, key);
    int32_t a = kvcache_take(c, COMPUTE_EXACT), b = kvcache_take(c, COMPUTE_EXACT);
    kvcache_know(c, a, key);
    kvcache_know(c, b, key);
    kvcache_drop(c, b);
    ck_assert_int_eq(kvcache_take(c, COMPUTE_EXACT), b); /* it was free, not cached */
    ck_assert_int_eq(kvcache_find(c, key), a);
}
END_TEST

START_TEST(keys_tell_everything_apart)
{
    static struct adapter a = {.identity = {1}}, b = {.identity = {2}};
    struct adapter *ab[] = {&a, &b}, *ba[] = {&b, &a};
    uint8_t keys[9][PREFIX_KEY];
    prefix_root("base", 0, COMPUTE_EXACT, NULL, 0, keys[0]);
    prefix_root("esab", 0, COMPUTE_EXACT, NULL, 0, keys[1]);
    prefix_root("base", 1, COMPUTE_EXACT, NULL, 0, keys[2]);
    prefix_root("base", 0, COMPUTE_FAST, NULL, 0, keys[3]);
    prefix_root("base", 0, COMPUTE_EXACT, ab, 1, keys[4]);
    prefix_root("base", 0, COMPUTE_EXACT, ba, 1, keys[5]);
    prefix_root("base", 0, COMPUTE_EXACT, ab, 2, keys[6]);
    prefix_root("base", 0, COMPUTE_EXACT, ba, 2, keys[7]);
    int32_t tokens[KV_PAGE] = {0};
    prefix_next(keys[0], tokens, keys[8]);
    for (int i = 0; i < 9; i++)
        for (int j = 0; j < i; j++)
            ck_assert(memcmp(keys[i], keys[j], PREFIX_KEY));
}
END_TEST

/* Random takes, shares and drops against a model of who holds what. */
START_TEST(random_life)
{
    int refs[PAGES] = {0}, used = 0;
    uint32_t rng = 12345;
    for (int step = 0; step < 20000; step++) {
        rng = rng * 1664525 + 1013904223;
        int what = rng >> 29, n = (int)(rng >> 16 & 15);
        uint8_t key[PREFIX_KEY];
        key_of(n, key);
        if (what < 3) {
            int32_t p = kvcache_take(c, COMPUTE_EXACT);
            ck_assert((p < 0) == (used == PAGES));
            if (p < 0)
                continue;
            ck_assert_int_eq(refs[p], 0);
            refs[p] = 1;
            used++;
            kvcache_know(c, p, key);
        } else if (what == 3) {
            int32_t p = kvcache_find(c, key);
            if (p >= 0)
                used += refs[p]++ == 0;
        } else if (refs[n % PAGES]) {
            kvcache_drop(c, n % PAGES);
            used -= --refs[n % PAGES] == 0;
        }
        ck_assert_int_eq(kvcache_used(c), used);
    }
}
END_TEST

/* Both modes in one memory, at random, against a model of who holds which frames. */
START_TEST(random_life_of_both)
{
    enum { FRAMES = 41 };
    static const enum dtype types[] = {DT_F16, DT_I8};
    static const struct kv_shape wide = {1, 2, 64};
    struct kvcache *both;
    ck_assert_int_eq(kvcache_open(NULL, &wide, types[_i], FRAMES, &both, NULL), ST_OK);
    int32_t per = kvcache_per_page(both, COMPUTE_EXACT), n = kvcache_frames(both);
    ck_assert_int_eq(per, _i ? 4 : 2);
    ck_assert_int_eq(n, 40);
    ck_assert_int_eq(kvcache_per_page(both, COMPUTE_FAST), 1);
    const struct kv *narrow = kvcache_kv(both, COMPUTE_FAST);
    ck_assert(narrow->k == kvcache_kv(both, COMPUTE_EXACT)->k);
    ck_assert(narrow->page_bytes * (size_t)per >= 2 * kv_head_bytes(DT_F32, 64));
    int refs[FRAMES] = {0}, size[FRAMES] = {0}, used = 0, taken[2] = {0}, found = 0;
    uint32_t rng = 99;
    for (int step = 0; step < 40000; step++) {
        rng = rng * 1664525 + 1013904223;
        int what = rng >> 28 & 7, id = (int)(rng >> 16 & 31);
        enum compute mode = id & 1 ? COMPUTE_EXACT : COMPUTE_FAST;
        uint8_t key[PREFIX_KEY];
        key_of(id, key);
        if (what < 3) {
            int32_t p = kvcache_take(both, mode), frames = kvcache_per_page(both, mode);
            bool room = false;
            for (int f = 0; f < n; f += frames) {
                bool clear = true;
                for (int i = 0; i < n; i++)
                    clear &= !refs[i] || i >= f + frames || i + size[i] <= f;
                room |= clear;
            }
            ck_assert((p >= 0) == room);
            if (p < 0)
                continue;
            ck_assert(p % frames == 0 && p + frames <= n);
            for (int i = 0; i < n; i++)
                ck_assert(!refs[i] || i >= p + frames || i + size[i] <= p);
            refs[p] = 1;
            size[p] = frames;
            used += frames;
            taken[mode]++;
            if (step & 1)
                kvcache_know(both, p, key);
        } else if (what == 3) {
            int32_t p = kvcache_find(both, key);
            if (p >= 0) {
                ck_assert_int_eq(size[p], kvcache_per_page(both, mode));
                used += refs[p]++ ? 0 : size[p];
                found++;
            }
        } else {
            int p = (int)(rng >> 8 & 63) % n;
            if (!refs[p])
                continue;
            kvcache_drop(both, p);
            used -= --refs[p] ? 0 : size[p];
        }
        ck_assert_int_eq(kvcache_used(both), used);
        ck_assert_int_eq(kvcache_available(both), n - used);
    }
    ck_assert(taken[0] > 1000 && taken[1] > 1000 && found > 100);
    kvcache_close(both);
}
END_TEST

START_TEST(opening_may_fail)
{
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct kvcache *v = NULL;
        enum status st = kvcache_open(NULL, &shape, DT_I8, 8, &v, NULL);
        bool fired = fault_disarm();
        ck_assert_int_eq(st, fired ? ST_OUT_OF_MEMORY : ST_OK);
        kvcache_close(v);
        ck_assert_int_eq(fault_live(), before);
    }
    struct kvcache *v = NULL;
    const struct kv_shape vast = {1 << 30, 1 << 30, 1 << 30};
    ck_assert_int_eq(kvcache_open(NULL, &vast, DT_F16, 1 << 30, &v, NULL), ST_INVALID_VALUE);
    ck_assert_ptr_null(v);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kvcache");
    TCase *t = tcase_create("kvcache");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, pages_are_distinct_and_finite);
    tcase_add_test(t, known_pages_are_found_shared_and_kept);
    tcase_add_test(t, eviction_is_least_recently_dropped_and_forgets);
    tcase_add_test(t, a_second_page_with_a_known_key_stays_unknown);
    tcase_add_test(t, keys_tell_everything_apart);
    tcase_add_test(t, random_life);
    tcase_add_loop_test(t, random_life_of_both, 0, 2);
    tcase_add_test(t, opening_may_fail);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
