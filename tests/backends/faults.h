/* Every allocation that a back end makes fails once: OUT_OF_MEMORY, nothing leaked, nothing left.
 */
#ifndef OFTD_TESTS_BACKENDS_FAULTS_H
#define OFTD_TESTS_BACKENDS_FAULTS_H

#include "tests/backends/fixture.h"
#include "tests/faults/fault.h"

static inline enum status faults_put(struct tensor_sink *self, const char *suffix, enum dtype dtype,
                                     int rank, const int64_t *shape, const void *data,
                                     struct error *err)
{
    (void)self, (void)suffix, (void)dtype, (void)rank, (void)shape, (void)data, (void)err;
    return ST_OK;
}

static inline void faults_check(enum status st, bool fired, long before)
{
    ck_assert_int_eq(st, fired ? ST_OUT_OF_MEMORY : ST_OK);
    ck_assert_int_eq(fault_live(), before);
}

/* Loading this module; and requantizing and storing it, where the back end does that. */
static inline void faults_check_module(const struct backend *b, const struct module_spec *spec)
{
    struct error err = ERROR_INIT;
    struct weight w, again;
    FAULT_EACH(n)
    {
        long before = fault_live();
        enum status st = b->load(spec, (struct slice){0}, &w, &err);
        bool fired = fault_disarm();
        ck_assert(!st == (w.data != NULL));
        weight_clear(&w);
        error_clear(&err);
        faults_check(st, fired, before);
    }
    if (!b->requantize)
        return;
    ck_assert_int_eq(b->load(spec, (struct slice){0}, &w, &err), ST_OK);
    float *values = fixture_decode(&w);
    FAULT_EACH(n)
    {
        long before = fault_live();
        enum status st = b->requantize(&w, values, &again, &err);
        bool fired = fault_disarm();
        ck_assert(!st == (again.data != NULL));
        weight_clear(&again);
        error_clear(&err);
        faults_check(st, fired, before);
    }
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct tensor_sink sink = {.put = faults_put};
        enum status st = b->store(&w, &sink, &err);
        bool fired = fault_disarm();
        error_clear(&err);
        faults_check(st, fired, before);
    }
    free(values);
    weight_clear(&w);
}

#endif
