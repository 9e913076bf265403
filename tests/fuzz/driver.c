/*
 * Owns a fuzz run without libFuzzer: replays a corpus, then mutates it for SECONDS of processor
 * time, always the same way (FUZZ_SEED changes it). Blind to coverage, so it finds shallow faults;
 * but it needs nothing but a compiler, runs in every build of the tests, and what it found once
 * stays in the corpus.
 *
 * An input that crashes, aborts, computes for longer than FUZZ_LIMIT or waits for longer than
 * FUZZ_WAIT is left in
 * ./crash-NAME.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define INPUT_MAX  (1u << 16)
#define FUZZ_LIMIT 20  /* seconds of processor time one input may take, sanitizers included */
#define FUZZ_WAIT  600 /* seconds of any kind; a busy machine takes longer than the input needs */

struct input {
    uint8_t *data;
    size_t size;
};

static struct input *corpus;
static size_t n_corpus;
static uint8_t current[INPUT_MAX];
static size_t current_size;
static char crash_path[PATH_MAX];

/* Pieces that the formats we read are made of. */
static const char *const words[] = {
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "0",
    "1e9",
    "1.5",
    "{}",
    "[]",
    "\\u0000",
    "\\ud8",
    "\xff",
    "\xc3",
    "../",
    "/",
    "\n---\n",
    "=",
    "--",
    "a",
    ".",
    "\"a\":",
    "\"a\",",
    "[[0,1]]",
    "999999999",
    "\\",
    "__metadata__",
    "dtype",
    "F32",
    "shape",
    "[0,4]",
    "2147483648",
    "9223372036854775807",
    "data_offsets",
};
#define N_WORDS (sizeof words / sizeof words[0])

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next() % n) : 0;
}

/* Replaces [at, at + cut) of the current input by n bytes; what does not fit is cut off. */
static void replace(size_t at, size_t cut, const uint8_t *bytes, size_t n)
{
    static uint8_t tail[INPUT_MAX];
    size_t rest = current_size - at - cut;
    memcpy(tail, current + at + cut, rest);
    if (n > INPUT_MAX - at)
        n = INPUT_MAX - at;
    if (rest > INPUT_MAX - at - n)
        rest = INPUT_MAX - at - n;
    if (n)
        memmove(current + at, bytes, n);
    memcpy(current + at + n, tail, rest);
    current_size = at + n + rest;
}

static void mutate(void)
{
    size_t at = below(current_size + 1), left = current_size - at;
    const char *word = words[below(N_WORDS)];
    switch (below(7)) {
    case 0: // a bit
        if (left)
            current[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1: // a byte
        if (left)
            current[at] = (uint8_t)next();
        break;
    case 2: // a word put in
        replace(at, 0, (const uint8_t *)word, strlen(word));
        break;
    case 3: // a word put over
        replace(at, below(left < 8 ? left + 1 : 8), (const uint8_t *)word, strlen(word));
        break;
    case 4: // a piece left out
        replace(at, below(left + 1), NULL, 0);
        break;
    case 5: { // a piece doubled
        static uint8_t copy[256];
        size_t n = below(left < sizeof copy ? left + 1 : sizeof copy);
        memcpy(copy, current + at, n);
        replace(at, 0, copy, n);
        break;
    }
    default: { // the end of another input
        const struct input *x = &corpus[below(n_corpus)];
        size_t from = below(x->size + 1);
        replace(at, left, x->data + from, x->size - from);
    }
    }
}

/* Async-signal-safe. */
static void save(int number)
{
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ssize_t n = write(fd, current, current_size);
    (void)n;
    static const char text[] = "fuzz: the input that did it is in ";
    n = write(STDERR_FILENO, text, sizeof text - 1);
    n = write(STDERR_FILENO, crash_path, strlen(crash_path));
    n = write(STDERR_FILENO, "\n", 1);
    signal(number, SIG_DFL);
    raise(number);
}

static void run(void)
{
    // a copy of exactly this size, so that a sanitizer sees one byte too far
    uint8_t *exact = malloc(current_size ? current_size : 1);
    if (!exact)
        return;
    memcpy(exact, current, current_size);
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = FUZZ_LIMIT}, NULL);
    alarm(FUZZ_WAIT);
    LLVMFuzzerTestOneInput(exact, current_size);
    free(exact);
}

static void take(const struct input *x)
{
    memcpy(current, x->data, x->size);
    current_size = x->size;
}

static bool add(const char *path)
{
    struct input x = {.data = malloc(INPUT_MAX)};
    struct input *more = realloc(corpus, (n_corpus + 1) * sizeof *more);
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (more)
        corpus = more;
    if (!x.data || !more || (path && !f)) {
        free(x.data);
        if (f)
            fclose(f);
        return false;
    }
    x.size = f ? fread(x.data, 1, INPUT_MAX, f) : 0;
    if (f)
        fclose(f);
    corpus[n_corpus++] = x;
    return true;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_plain(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static bool load(const char *dir)
{
    struct dirent **names = NULL;
    bool whole = true;
    int n = scandir(dir, &names, is_plain, by_name);
    if (n < 0) {
        perror(dir);
        return false;
    }
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
        whole &= add(path);
        free(names[i]);
    }
    free(names);
    return whole;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s SECONDS [CORPUS]\n", argv[0]);
        return 2;
    }
    const char *name = strrchr(argv[0], '/'), *seed = getenv("FUZZ_SEED");
    snprintf(crash_path, sizeof crash_path, "crash-%s", name ? name + 1 : argv[0]);
    if (seed)
        state ^= strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u;
    if (!add(NULL) || (argc > 2 && !load(argv[2])))
        return 2;
    static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGPROF, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], save);
    for (size_t i = 0; i < n_corpus; i++) {
        take(&corpus[i]);
        run();
    }
    long runs = 0;
    struct timespec used;
    time_t end = atol(argv[1]);
    for (; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0 && used.tv_sec < end; runs++) {
        take(&corpus[below(n_corpus)]);
        for (size_t n = 1 + below(8); n-- > 0;)
            mutate();
        run();
    }
    printf("%s: %zu inputs, %ld mutations\n", argv[0], n_corpus, runs);
    for (size_t i = 0; i < n_corpus; i++)
        free(corpus[i].data);
    free(corpus);
    return 0;
}
