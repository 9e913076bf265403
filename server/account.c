#include "server/account.h"

#include <stdio.h>

#include "server/names.h"
#include "server/reply.h"

static void add_milliseconds(struct request *q, const char *name, double seconds)
{
    char text[32];
    if (seconds < 0)
        return;
    snprintf(text, sizeof text, "%.3f", 1e3 * seconds);
    reply_header(q, name, text);
}

static void add_count(struct request *q, const char *name, int64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)n);
    reply_header(q, name, text);
}

void account_headers(struct request *q, bool generated)
{
    const struct adapter_ref *refs = NULL;
    struct ticket_times times;
    struct usage usage = {0, 0, 0};
    size_t n = ticket_adapters(q->ticket, &refs);
    names_headers(q, refs, n);
    ticket_times(q->ticket, &times);
    ticket_usage(q->ticket, &usage);
    q->prompt_tokens = usage.prompt_tokens;
    q->generated_tokens = generated ? usage.generated_tokens : 0;
    add_milliseconds(q, "x-queue-time-ms", times.admitted);
    add_milliseconds(q, "x-time-to-first-token-ms", times.first_token);
    add_count(q, "x-prompt-tokens", usage.prompt_tokens);
    if (generated)
        add_count(q, "x-generated-tokens", usage.generated_tokens);
}
