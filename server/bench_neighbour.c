/*
 * The neighbour is a child of this process that is stopped and continued by signals: it needs no
 * memory, no clock and no lock, and it ends with its parent, however that ends. No process but this
 * one is ever signalled.
 */
#include "server/bench_neighbour.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static _Noreturn void compute(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    raise(SIGSTOP);
    for (volatile unsigned i = 0;; i++)
        ;
}

/* Until it sleeps; false when it has ended. */
static bool sleeps(pid_t pid)
{
    int status = 0;
    pid_t r;
    do
        r = waitpid(pid, &status, WUNTRACED);
    while (r < 0 && errno == EINTR);
    return r == pid && WIFSTOPPED(status);
}

enum status bench_neighbour_start(struct bench_neighbour *n, struct error *err)
{
    pid_t parent = getpid();
    n->pid = fork();
    if (n->pid == 0)
        compute(parent);
    if (n->pid > 0 && sleeps(n->pid))
        return ST_OK;
    n->pid = 0;
    return error_set(err, ST_INTERNAL, "cannot start a process to measure beside: %s",
                     strerror(errno));
}

void bench_neighbour_run(const struct bench_neighbour *n)
{
    if (n->pid > 0)
        kill(n->pid, SIGCONT);
}

void bench_neighbour_rest(struct bench_neighbour *n)
{
    if (n->pid > 0 && kill(n->pid, SIGSTOP) == 0 && !sleeps(n->pid))
        n->pid = 0; // somebody ended it: the number may be another's by now
}

double bench_neighbour_seconds(const struct bench_neighbour *n)
{
    clockid_t clock;
    struct timespec t;
    if (n->pid <= 0 || clock_getcpuclockid(n->pid, &clock) || clock_gettime(clock, &t))
        return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_neighbour_end(struct bench_neighbour *n)
{
    if (n->pid <= 0)
        return;
    kill(n->pid, SIGKILL);
    while (waitpid(n->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    n->pid = 0;
}
