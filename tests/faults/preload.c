/*
 * The same against a live daemon: this and fault.c are one shared object for LD_PRELOAD.
 *
 *     OFTD_FAULT=1 LD_PRELOAD=preload.so oftd serve ...
 *     sigqueue(PID, SIGUSR2, N)      the Nth allocation (thread, mapping) from here on fails
 *     sigqueue(PID, SIGUSR2, 0)      none does
 *
 * On standard error it answers each signal, after it has done it, with a line that says whether the
 * one before fired, how many were counted, and how many are alive; and where one is made to fail it
 * leaves the stack, innermost first, so that a test can say whose allocation it was:
 *
 *     fault: fires
 *     /lib/libmicrohttpd.so.12(MHD_create_response_from_buffer+0x2a)[0x7f162dbe104e]
 *     ...
 *     fault: armed at 12, before 1 of 11, alive 20340
 *
 * The variable is taken out of the environment, so that the daemon does not meet a key that it does
 * not know.
 */
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/faults/fault.h"

#define DEPTH 24

/* A line is put together without stdio, which allocates. */
struct line {
    char text[120];
    size_t len;
};

static void put(struct line *l, const char *text)
{
    size_t n = strlen(text);
    if (n > sizeof l->text - l->len)
        n = sizeof l->text - l->len;
    memcpy(l->text + l->len, text, n);
    l->len += n;
}

static void put_number(struct line *l, long n)
{
    char digits[24];
    size_t d = sizeof digits - 1;
    digits[d] = '\0';
    do
        digits[--d] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    put(l, digits + d);
}

static void say(const struct line *l)
{
    ssize_t written = write(STDERR_FILENO, l->text, l->len);
    (void)written;
}

static void leave_stack(void)
{
    void *frames[DEPTH];
    int n = backtrace(frames, DEPTH);
    struct line l = {.len = 0};
    put(&l, "\nfault: fires\n");
    say(&l);
    backtrace_symbols_fd(frames, n, STDERR_FILENO);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    int saved = errno;
    bool before = fault_disarm();
    long alive = fault_live();
    struct line l = {.len = 0};
    put(&l, "\nfault: armed at ");
    put_number(&l, info->si_value.sival_int);
    put(&l, ", before ");
    put_number(&l, before);
    put(&l, " of ");
    put_number(&l, fault_count());
    put(&l, ", alive ");
    put_number(&l, alive);
    put(&l, "\n");
    fault_arm(info->si_value.sival_int);
    say(&l);
    errno = saved;
}

__attribute__((constructor)) static void start(void)
{
    if (!getenv("OFTD_FAULT"))
        return;
    unsetenv("OFTD_FAULT");
    void *frames[1];
    backtrace(frames, 1); // its first call loads a library
    fault_watch(leave_stack);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigaction(SIGUSR2, &action, NULL);
}
