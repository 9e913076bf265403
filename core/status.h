/*
 * Outcomes. Every function that can fail returns an enum status (ST_OK is 0) and takes a trailing
 * struct error that whoever knows most fills: the code clients see, one sentence that names the
 * thing, the field of the request (if one), and all findings where several things are wrong at
 * once. Nothing here prints, exits or knows HTTP.
 *
 * Ownership: an error is a plain value that starts zeroed (ERROR_INIT) and is cleared by
 * error_clear; its findings and details belong to it. Passing NULL for an error is allowed
 * everywhere and means that the caller wants the code alone.
 */
#ifndef OFTD_CORE_STATUS_H
#define OFTD_CORE_STATUS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

enum status {
#define STATUS(name, code, text) ST_##name,
#include "core/status.def"
#undef STATUS
    ST_COUNT_
};

/* The stable code and the default sentence of a status; never NULL. */
const char *status_code(enum status s);
const char *status_text(enum status s);

enum severity { SEVERITY_ERROR, SEVERITY_WARNING };

/* One thing that is wrong with a file. Strings are owned by the list; NULL where it does not apply.
 * permanent: trying again cannot help. */
struct finding {
    enum status code;
    enum severity severity;
    bool permanent;
    char *module, *field, *expected, *got, *message;
};

struct findings {
    struct finding *v;
    size_t n, cap;
    size_t errors; /* how many of the n are errors */
    bool lost;     /* memory ran out, or there were more than FINDINGS_MAX: some are not listed */
};
#define FINDINGS_MAX 1000

/* Adds one; the sentence is printf-like and names file and thing. Never fails (see lost); an error
 * that cannot be stored still counts in errors. Returns the code, for `return findings_add(...)`.
 */
enum status findings_add(struct findings *f, enum severity severity, enum status code,
                         const char *module, const char *field, const char *expected,
                         const char *got, const char *fmt, ...)
    __attribute__((format(printf, 8, 9)));
/* Moves all of from to the end of to. */
void findings_move(struct findings *to, struct findings *from);
void findings_clear(struct findings *f);
/* The code of the first error among them, ST_OK if there is none. */
enum status findings_first(const struct findings *f);

struct error {
    enum status code;
    char text[768];
    char param[96];           /* field of the request, "" if none */
    struct findings findings; /* all at once, where several things are wrong */
    json_t *details;          /* further members of error.details (a merge report), or NULL */
};
#define ERROR_INIT                                                                                 \
    {                                                                                              \
        .code = ST_OK                                                                              \
    }

/* Sets code and sentence (fmt NULL: the default sentence), keeps findings. Returns code. */
enum status error_set(struct error *e, enum status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with the request's field. */
enum status error_param(struct error *e, enum status code, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Its field is within `outer`: .b of a is a.b. */
void error_within(struct error *e, const char *outer);
/* Out of memory while doing `what`. Inline, so that every reader sees that it is a failure. */
static inline enum status error_memory(struct error *e, const char *what)
{
    error_set(e, ST_OUT_OF_MEMORY, "out of memory while %s", what);
    return ST_OUT_OF_MEMORY;
}
/* Makes the findings the error: its code is the first error's, its sentence that finding's with
 * "(and N more)" behind it. Consumes f. ST_OK (and the warnings dropped) if it holds no error. */
enum status error_from_findings(struct error *e, struct findings *f);
/* Moves from into to (to's former content is freed), leaving from clear. */
void error_move(struct error *to, struct error *from);
void error_clear(struct error *e);

#endif
