/*
 * Failure as a test input: the N-th allocation from now fails, once. It counts what the program and
 * every shared library take (malloc, calloc, realloc, aligned_alloc, posix_memalign, memalign and
 * all that is built on them: strdup, asprintf, getline, fopen, jansson, PCRE2), pthread_create and
 * mmap; and it counts what is alive, so that a test sees a leak on the path that failed.
 *
 *     FAULT_EACH (n) {                          // 1, 2, 3, ... until nothing failed
 *         long before = fault_live();
 *         enum status s = thing_open(..., &thing, &err);
 *         bool fired = fault_disarm();          // before anything else allocates
 *         ck_assert_int_eq(s, fired ? ST_OUT_OF_MEMORY : ST_OK);
 *         ... clear ...
 *         ck_assert_int_eq(fault_live(), before);
 *     }
 *
 * Link tests/faults/fault.c into the test program. All threads count while it is armed. Under a
 * sanitizer, which needs malloc for itself, nothing ever fails, fault_live() is 0 and the loop runs
 * once.
 */
#ifndef OFTD_TESTS_FAULTS_FAULT_H
#define OFTD_TESTS_FAULTS_FAULT_H

#include <stdbool.h>

/* From now on the nth (>= 1) call fails; forgets an earlier arming. Async-signal-safe. */
void fault_arm(long nth);
/* Nothing fails any more; was one made to fail since fault_arm? */
bool fault_disarm(void);
bool fault_fired(void);
/* Allocations that nobody has freed yet. */
long fault_live(void);
/* Calls counted since fault_arm. */
long fault_count(void);
/* seen() is called where a failure is made, in its thread, below the allocator: it must neither
 * allocate nor lock. NULL: nobody. */
void fault_watch(void (*seen)(void));

/* Arms the nth; false, disarmed, when the round before (n > 1) ended without a failure. */
bool fault_continue(long n);
#define FAULT_EACH(n) for (long n = 1; fault_continue(n); n++)

#endif
