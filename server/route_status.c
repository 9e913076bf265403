/* Health for people, Kubernetes and the inference protocol. No key, no engine work. */
#include <stdio.h>

#include "server/handlers.h"
#include "server/reply.h"
#include "server/server.h"

static void add_retry_after(struct request *q)
{
    char text[16];
    snprintf(text, sizeof text, "%d", q->server->options.retry_after_s);
    reply_header(q, "Retry-After", text);
}

void route_health(struct request *q)
{
    static const char *const words[] = {"loading", "ok", "draining", "failed"};
    double progress = 0;
    enum engine_state state = engine_state(q->server->engine, &progress);
    if (state == ENGINE_READY) {
        reply_json(q, 200, json_pack("{s:s}", "status", words[state]));
        return;
    }
    add_retry_after(q);
    if (state == ENGINE_LOADING)
        reply_json(q, 503,
                   json_pack("{s:s, s:f}", "status", words[state], "progress",
                             progress >= 0 && progress <= 1 ? progress : 0.0));
    else
        reply_json(q, 503, json_pack("{s:s}", "status", words[state]));
}

void route_v2_live(struct request *q)
{
    reply_json(q, 200, json_pack("{s:b}", "live", 1));
}

void route_v2_ready(struct request *q)
{
    double progress;
    bool ready = engine_state(q->server->engine, &progress) == ENGINE_READY;
    if (!ready)
        add_retry_after(q);
    reply_json(q, ready ? 200 : 503, json_pack("{s:b}", "ready", ready));
}
