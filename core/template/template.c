/*
 * Owns the way from text to a template: tokens, tree, names. The text's bytes are copied once, by
 * the lexer; all that a template is lies in its heap.
 */
#include "core/template/template.h"

#include <stdlib.h>

#include "core/template/parser.h"
#include "core/template/scope.h"

#define TEXT_MAX   ((size_t)1 << 20) /* published ones have 1 to 60 KB */
#define MEMORY_MAX ((size_t)1 << 30)

static enum status parse(struct template *t, const char *text, size_t len, struct error *err)
{
    struct error own = ERROR_INIT; // the parser asks whether something was said already
    struct tokens tokens = {0};
    if (!lexer_read(&t->heap, text, len, &tokens, &own)) {
        struct parser p = {.heap = &t->heap, .at = tokens.v, .err = &own};
        struct node top = {.kind = NODE_IF}; // of which only the depth is used
        if (statement_parse(&p, NULL, &top, &t->body) && parser_frame_end(&p, NULL) &&
            !scope_resolve(t))
            error_memory(&own, "resolving the names of a chat template");
    }
    if (own.code == ST_OUT_OF_MEMORY && t->heap.over)
        error_set(&own, ST_TEMPLATE_UNSUPPORTED, "chat template: too large");
    enum status s = own.code;
    if (s && err)
        error_move(err, &own);
    error_clear(&own);
    return s;
}

enum status template_parse(const char *text, size_t len, struct template **out, struct error *err)
{
    *out = NULL;
    if (len > TEXT_MAX)
        return error_set(err, ST_TEMPLATE_UNSUPPORTED, "chat template: longer than %zu bytes",
                         TEXT_MAX);
    struct template *t = calloc(1, sizeof *t);
    if (!t)
        return error_memory(err, "parsing a chat template");
    t->heap.limit = MEMORY_MAX;
    enum status s = parse(t, text, len, err);
    if (s)
        template_free(t);
    else
        *out = t;
    return s;
}

void template_free(struct template *t)
{
    if (!t)
        return;
    arena_free(&t->heap.arena);
    free(t);
}
