/* What generations take: the sum, and the memory that one leaves to the next. */
#include "core/adapters/ledger.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

#include <stdint.h>
#include <string.h>

#define SMALL ((size_t)1 << 20)
/* Six of them lie by themselves, one allocation each (core/slabs.h). */
#define LOT (3 * SMALL)

/* So many allocations are alive, where they are counted (not under a sanitizer). */
static void expect_alive(long n)
{
    if (fault_live())
        ck_assert_int_eq(fault_live(), n);
}

START_TEST(it_counts)
{
    struct ledger *l = ledger_new();
    ledger_add(l, 10);
    ledger_add(ledger_ref(l), 5);
    ledger_sub(l, 10);
    ledger_unref(l);
    ck_assert_uint_eq(ledger_bytes(l), 5);
    ledger_unref(l);
    ledger_add(NULL, 1);
    ledger_unref(NULL);
    ck_assert_uint_eq(ledger_bytes(NULL), 0);
}
END_TEST

static void *taken(struct ledger *l, size_t size)
{
    char *p = ledger_take(l, size);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % 64, 0);
    memset(p, 1, size);
    return p;
}

/* A large block serves what is as large or little smaller, and nothing else. */
START_TEST(what_one_leaves_serves_the_next)
{
    long before = fault_live();
    struct ledger *l = ledger_new();
    long alive = fault_live();
    void *p = taken(l, 9 * LOT);
    ledger_leave(l, p, 9 * LOT);
    void *q = taken(l, 9 * LOT);
    ck_assert_ptr_eq(q, p);
    ledger_leave(l, q, 9 * LOT);
    q = taken(l, 85 * LOT / 10);
    ck_assert_ptr_eq(q, p);
    ledger_leave(l, q, 85 * LOT / 10); // it is known as no larger from now on
    expect_alive(alive + 1);
    static const size_t others[] = {9 * LOT, 6 * LOT};
    for (int i = 0; i < 2; i++) {
        q = taken(l, others[i]);
        expect_alive(alive + 2);
        ck_assert_ptr_ne(q, p);
        ledger_leave(NULL, q, others[i]);
    }
    expect_alive(alive + 1);
    q = taken(l, 8 * LOT);
    ck_assert_ptr_eq(q, p);
    ledger_leave(l, q, 8 * LOT);
    ledger_unref(l);
    ck_assert_int_eq(fault_live(), before);
}
END_TEST

/* No more than one generation's two blocks are kept, the newest; small ones never. */
START_TEST(no_more_is_kept_than_one_leaves)
{
    long before = fault_live();
    struct ledger *l = ledger_new();
    long alive = fault_live();
    void *small = taken(l, SMALL), *p[4];
    ledger_leave(l, small, SMALL);
    ledger_leave(l, NULL, 9 * LOT);
    expect_alive(alive);
    for (size_t i = 0; i < 4; i++)
        p[i] = taken(l, (10 + 10 * i) * LOT);
    for (size_t i = 0; i < 4; i++)
        ledger_leave(l, p[i], (10 + 10 * i) * LOT);
    expect_alive(alive + 2);
    for (size_t i = 2; i < 4; i++)
        ck_assert_ptr_eq(taken(l, (10 + 10 * i) * LOT), p[i]);
    expect_alive(alive + 2);
    for (size_t i = 2; i < 4; i++)
        ledger_leave(NULL, p[i], (10 + 10 * i) * LOT);
    ledger_unref(l);
    ck_assert_int_eq(fault_live(), before);
}
END_TEST

/* What is expected is ready, once, whatever else was spare; and only what is large. */
START_TEST(what_is_expected_is_ready)
{
    long before = fault_live();
    struct ledger *l = ledger_new();
    long alive = fault_live();
    ck_assert(!ledger_prepare(l));
    ledger_expect(l, 9 * LOT, 6 * LOT);
    for (int i = 0; i < 2; i++) {
        int units = 0;
        while (ledger_prepare(l))
            units++;
        expect_alive(alive + 2);
        ck_assert_int_eq(units, (27 + 1) / 2 + 18 / 2); // of 2 MiB
        ck_assert(!ledger_prepare(l));
        void *p = taken(l, 9 * LOT), *q = taken(l, 6 * LOT);
        expect_alive(alive + 2);
        ledger_leave(NULL, p, 9 * LOT);
        ledger_leave(NULL, q, 6 * LOT);
    }
    ledger_leave(l, taken(l, 9 * LOT), 9 * LOT);
    ledger_leave(l, taken(l, 90 * LOT), 90 * LOT);
    for (int units = 0; ledger_prepare(l); units++)
        ck_assert_int_lt(units, 18 / 2 + (27 + 1) / 2);
    expect_alive(alive + 2);
    ledger_unref(l);
    ck_assert_int_eq(fault_live(), before);
}
END_TEST

/* One that is taken before all of it was touched serves as well. */
START_TEST(a_half_ready_block_serves)
{
    struct ledger *l = ledger_new();
    long alive = fault_live();
    ledger_expect(l, SMALL, 9 * LOT);
    ck_assert(ledger_prepare(l));
    expect_alive(alive + 1);
    void *p = taken(l, 9 * LOT);
    expect_alive(alive + 1);
    ledger_expect(l, 0, 0);
    ck_assert(!ledger_prepare(l));
    ledger_leave(NULL, p, 9 * LOT);
    ledger_unref(l);
}
END_TEST

START_TEST(without_memory)
{
    FAULT_EACH(n)
    {
        long alive = fault_live();
        struct ledger *l = ledger_new();
        void *p = l ? ledger_take(l, 9 * LOT) : NULL;
        ledger_expect(l, 9 * LOT, 9 * LOT);
        bool ready = p && ledger_prepare(l);
        bool failed = fault_disarm();
        ck_assert(ready || failed); // how much memory there is may also fail
        ledger_leave(l, p, 9 * LOT);
        ledger_unref(l);
        ck_assert_int_eq(fault_live(), alive);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/ledger");
    TCase *c = tcase_create("ledger");
    tcase_add_test(c, it_counts);
    tcase_add_test(c, what_one_leaves_serves_the_next);
    tcase_add_test(c, no_more_is_kept_than_one_leaves);
    tcase_add_test(c, what_is_expected_is_ready);
    tcase_add_test(c, a_half_ready_block_serves);
    tcase_add_test(c, without_memory);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
