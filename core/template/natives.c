/*
 * Owns the tables and the binding of arguments to parameters: positional ones first, then by name,
 * as Python does it.
 */
#include "core/template/natives.h"

#include <string.h>

#include "core/template/operate.h"

enum table { FILTER, TEST, FUNCTION, METHOD, HIDDEN };

static const struct {
    enum table table;
    enum value_kind kind; /* METHOD, HIDDEN */
    enum natives_found found;
    struct native native;
} rows[] = {
#define NATIVE_FILTER(name, function, parameters, required)                                        \
    {FILTER, VALUE_MISSING, NATIVES_FOUND, {name, parameters, required, function}},
#define NATIVE_TEST(name, function, parameters, required)                                          \
    {TEST, VALUE_MISSING, NATIVES_FOUND, {name, parameters, required, function}},
#define NATIVE_FUNCTION(name, function, parameters, required)                                      \
    {FUNCTION, VALUE_MISSING, NATIVES_FOUND, {name, parameters, required, function}},
#define NATIVE_METHOD(kind, name, function, parameters, required)                                  \
    {METHOD, kind, NATIVES_FOUND, {name, parameters, required, function}},
#define NATIVE_HIDDEN(kind, name, found) {HIDDEN, kind, found, {name, "", 0, NULL}},
#include "core/template/natives.def"
};
#define N_ROWS (sizeof rows / sizeof rows[0])

/* Is name one of those in a list with blanks between? Its place, or -1. */
static int place(const char *names, const struct text *name)
{
    for (int i = 0; *names; i++) {
        size_t n = 0;
        while (n < name->len && names[n] == name->v[n] && names[n] > ' ')
            n++;
        if (n == name->len && names[n] <= ' ')
            return i;
        names = strchr(names + n, ' ');
        if (!names)
            break;
        names++;
    }
    return -1;
}

static const struct native *find(enum table table, const struct text *name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (rows[i].table == table && place(rows[i].native.name, name) >= 0)
            return &rows[i].native;
    return NULL;
}

const struct native *natives_filter(const struct text *name)
{
    return find(FILTER, name);
}

const struct native *natives_test(const struct text *name)
{
    return find(TEST, name);
}

const struct native *natives_function(const struct text *name)
{
    return find(FUNCTION, name);
}

const struct native *natives_method(enum value_kind kind, const struct text *name,
                                    enum natives_found *found)
{
    *found = NATIVES_NONE;
    for (size_t i = 0; i < N_ROWS; i++) {
        if (rows[i].kind != kind || (rows[i].table != METHOD && rows[i].table != HIDDEN) ||
            place(rows[i].native.name, name) < 0)
            continue;
        *found = rows[i].found;
        return rows[i].table == METHOD ? &rows[i].native : NULL;
    }
    return NULL;
}

bool natives_is_attribute(const struct text *name)
{
    return find(METHOD, name) || find(HIDDEN, name);
}

bool natives_lacks_function(const struct text *name)
{
    enum natives_found found;
    natives_method(VALUE_FUNCTION, name, &found);
    return found == NATIVES_LACKED;
}

bool natives_lacks_method(const struct text *name)
{
    bool lacked = false, other = find(METHOD, name);
    for (size_t i = 0; i < N_ROWS; i++) {
        bool is = rows[i].table == HIDDEN && place(rows[i].native.name, name) >= 0;
        lacked |= is && rows[i].kind == VALUE_TEXT;
        other |= is && rows[i].found == NATIVES_UNSAFE;
    }
    return lacked && !other;
}

#define NAME(native) (int)strcspn((native)->name, " "), (native)->name

enum status natives_bind(struct render *r, const struct call *given, struct value *args,
                         struct call *out)
{
    const struct native *native = given->native;
    const char *names = native->parameters;
    bool by_name = names[0] != '/';
    *out = *given;
    if (names[0] == '*')
        return ST_OK;
    names += by_name ? 0 : 2;
    size_t n = *names != 0;
    for (const char *p = names; *p; p++)
        n += *p == ' ';
    if (given->n > n)
        return render_fail(r, "%.*s() takes at most %zu arguments (%zu given)", NAME(native), n,
                           given->n);
    memset(args, 0, n * sizeof *args);
    if (given->n)
        memcpy(args, given->args, given->n * sizeof *args);
    for (size_t i = 0; i < given->n_named; i++) {
        const struct text *name = given->named[i].name;
        int at = by_name ? place(names, name) : -1;
        if (at < 0)
            return render_fail(r, "%.*s() got an unexpected keyword argument '%.*s'", NAME(native),
                               (int)name->len, name->v);
        if (args[at].kind != VALUE_MISSING)
            return render_fail(r, "%.*s() got multiple values for argument '%.*s'", NAME(native),
                               (int)name->len, name->v);
        args[at] = given->named[i].v;
    }
    for (int i = 0; i < native->required; i++)
        if (args[i].kind == VALUE_MISSING)
            return render_fail(r, "%.*s() misses a required argument", NAME(native));
    out->args = args;
    out->n = n;
    out->named = NULL;
    out->n_named = 0;
    return ST_OK;
}

enum status natives_number(struct render *r, struct value v, int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    return v.kind == VALUE_MISSING ? ST_OK : operate_index(r, v, out);
}
