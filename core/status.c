/*
 * Owns the words of every outcome and the two containers that carry them upward. All of it must
 * work when memory has run out: a finding or a sentence that cannot be stored is counted or cut,
 * never a second failure.
 */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/grow.h"

static const struct {
    const char *code, *text;
} rows[ST_COUNT_] = {
#define STATUS(name, code, text) [ST_##name] = {code, text},
#include "core/status.def"
#undef STATUS
};

const char *status_code(enum status s)
{
    return (unsigned)s < ST_COUNT_ ? rows[s].code : rows[ST_INTERNAL].code;
}

const char *status_text(enum status s)
{
    return (unsigned)s < ST_COUNT_ ? rows[s].text : rows[ST_INTERNAL].text;
}

static void finding_clear(struct finding *f)
{
    free(f->module);
    free(f->field);
    free(f->expected);
    free(f->got);
    free(f->message);
    memset(f, 0, sizeof *f);
}

/* Copies s (NULL stays NULL); false when memory runs out. */
static bool copy(char **to, const char *s)
{
    *to = s ? strdup(s) : NULL;
    return !s || *to;
}

/* Takes off the end of a cut text what is no whole UTF-8 character. */
static void trim_utf8(char *text)
{
    size_t n = strlen(text), i = n;
    while (i && n - i < 4 && ((unsigned char)text[i - 1] & 0xc0) == 0x80)
        i--;
    if (!i)
        return;
    unsigned char lead = (unsigned char)text[i - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (n - (i - 1) < want)
        text[i - 1] = 0;
}

static struct finding *findings_slot(struct findings *f)
{
    if (f->n >= FINDINGS_MAX)
        return NULL;
    if (!GROW(f->v, f->cap, f->n + 1, 8))
        return NULL;
    return memset(&f->v[f->n], 0, sizeof f->v[0]);
}

enum status findings_add(struct findings *f, enum severity severity, enum status code,
                         const char *module, const char *field, const char *expected,
                         const char *got, const char *fmt, ...)
{
    if (severity == SEVERITY_ERROR)
        f->errors++;
    struct finding *x = findings_slot(f);
    if (!x) {
        f->lost = true;
        return code;
    }
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    trim_utf8(text);
    x->code = code;
    x->severity = severity;
    x->permanent = code != ST_FILE_UNREADABLE && code != ST_CAPACITY_EXCEEDED &&
                   code != ST_OUT_OF_MEMORY && code != ST_ADAPTER_BUSY && code != ST_NAME_IN_USE;
    bool whole = copy(&x->module, module) && copy(&x->field, field) &&
                 copy(&x->expected, expected) && copy(&x->got, got) && copy(&x->message, text);
    if (!whole) {
        finding_clear(x);
        f->lost = true;
        return code;
    }
    f->n++;
    return code;
}

void findings_move(struct findings *to, struct findings *from)
{
    for (size_t i = 0; i < from->n; i++) {
        struct finding *x = findings_slot(to);
        if (!x) {
            to->lost = true;
            finding_clear(&from->v[i]);
            continue;
        }
        *x = from->v[i];
        to->n++;
    }
    to->errors += from->errors;
    to->lost |= from->lost;
    free(from->v);
    memset(from, 0, sizeof *from);
}

void findings_clear(struct findings *f)
{
    for (size_t i = 0; i < f->n; i++)
        finding_clear(&f->v[i]);
    free(f->v);
    memset(f, 0, sizeof *f);
}

enum status findings_first(const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->v[i].severity == SEVERITY_ERROR)
            return f->v[i].code;
    return f->errors ? ST_OUT_OF_MEMORY : ST_OK;
}

static enum status set(struct error *e, enum status code, const char *param, const char *fmt,
                       va_list ap)
{
    if (!e)
        return code;
    e->code = code;
    snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    if (fmt)
        vsnprintf(e->text, sizeof e->text, fmt, ap);
    else
        snprintf(e->text, sizeof e->text, "%s", status_text(code));
    trim_utf8(e->text);
    return code;
}

enum status error_set(struct error *e, enum status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set(e, code, NULL, fmt, ap);
    va_end(ap);
    return code;
}

enum status error_param(struct error *e, enum status code, const char *param, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set(e, code, param, fmt, ap);
    va_end(ap);
    return code;
}

void error_within(struct error *e, const char *outer)
{
    char inner[sizeof e->param];
    if (!e)
        return;
    memcpy(inner, e->param, sizeof inner);
    snprintf(e->param, sizeof e->param, "%s%s", outer, inner);
}

enum status error_from_findings(struct error *e, struct findings *f)
{
    if (!f->errors) {
        findings_clear(f);
        return ST_OK;
    }
    enum status code = findings_first(f);
    const char *text = NULL;
    for (size_t i = 0; i < f->n && !text; i++)
        if (f->v[i].severity == SEVERITY_ERROR)
            text = f->v[i].message;
    if (!text)
        error_memory(e, "listing what is wrong");
    else if (f->errors > 1)
        error_set(e, code, "%s (and %zu more)", text, f->errors - 1);
    else
        error_set(e, code, "%s", text);
    if (e)
        findings_move(&e->findings, f);
    else
        findings_clear(f);
    return code;
}

void error_move(struct error *to, struct error *from)
{
    if (to) {
        error_clear(to);
        *to = *from;
        memset(from, 0, sizeof *from);
    } else {
        error_clear(from);
    }
}

void error_clear(struct error *e)
{
    if (!e)
        return;
    findings_clear(&e->findings);
    json_decref(e->details);
    memset(e, 0, sizeof *e);
}
