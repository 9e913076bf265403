/*
 * A table of kernels with memory of its own on a machine that has none: a CPU table's arithmetic,
 * over pages that can be touched inside of its calls alone. Whatever of core/ reads or writes a
 * device's memory as if it were the host's ends there with SIGSEGV; what is released becomes NaNs.
 */
#ifndef OFTD_TESTS_SUPPORT_GUARDED_H
#define OFTD_TESTS_SUPPORT_GUARDED_H

#include "core/kernels.h"

/* Over inner, which it closes with itself; aborts where the system gives no pages. */
struct kernels *guarded_open(struct kernels *inner);
/* Bytes that alloc has given and release has not got back. */
size_t guarded_held(void);
/* The n-th alloc from now on fails (n from 1), and all after it; 0: none. */
void guarded_fail(int n);

#endif
