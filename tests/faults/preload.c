/*
 * The same against a live daemon: one shared object for LD_PRELOAD (fault.c is included, so that
 * one command builds it).
 *
 *     OFTD_FAULT_AT=N [OFTD_FAULT_STEP=M] LD_PRELOAD=preload.so oftd serve ...
 *     kill -USR2 PID     the Nth allocation (thread, mapping) from here on fails; the next USR2
 *                        arms the (N+M)th, so one daemon can be swept
 *
 * It says so on standard error, "fault: armed at N" (with " (the one before fired)" when it did).
 * The variables are taken out of the environment, so that the daemon does not meet keys that it
 * does not know.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/faults/fault.c"

static long at, step;

static void say(long n, bool before)
{
    char text[80], digits[24];
    size_t len = 0, d = 0;
    memcpy(text, "fault: armed at ", 16);
    len = 16;
    do
        digits[d++] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    while (d)
        text[len++] = digits[--d];
    if (before) {
        memcpy(text + len, " (the one before fired)", 23);
        len += 23;
    }
    text[len++] = '\n';
    ssize_t written = write(STDERR_FILENO, text, len);
    (void)written;
}

static void on_signal(int number)
{
    (void)number;
    bool before = fault_disarm();
    say(at, before);
    fault_arm(at);
    at += step;
}

static long take(const char *name)
{
    const char *text = getenv(name);
    long n = text ? strtol(text, NULL, 10) : 0;
    unsetenv(name);
    return n;
}

__attribute__((constructor)) static void start(void)
{
    at = take("OFTD_FAULT_AT");
    step = take("OFTD_FAULT_STEP");
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    if (at > 0)
        sigaction(SIGUSR2, &action, NULL);
}
