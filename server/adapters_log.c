/* Who changed what is served, and to which bytes: the lines an operator looks for afterwards. */
#include "server/adapters_log.h"

#include "server/server.h"

void adapters_log_loaded(struct log *log, const char *id, const struct adapter_info *a)
{
    log_event(log, LOG_INFO, "adapter_loaded", LOG_TEXT("id", id), LOG_TEXT("adapter", a->name),
              LOG_INT("generation", (int64_t)a->generation), LOG_TEXT("digest", a->digest));
}

void adapters_log_refused(struct log *log, const char *id, const char *name,
                          const struct error *err)
{
    log_event(log, LOG_WARNING, "adapter_refused", LOG_TEXT("id", id), LOG_TEXT("adapter", name),
              LOG_TEXT("code", status_code(err->code)), LOG_TEXT("message", err->text));
}

void adapters_log_unloaded(struct log *log, const char *id, const char *name, uint64_t bytes)
{
    log_event(log, LOG_INFO, "adapter_unloaded", LOG_TEXT("id", id), LOG_TEXT("adapter", name),
              LOG_INT("bytes", (int64_t)bytes));
}

enum status adapters_log_load(struct request *q, const char *name, struct error *err)
{
    enum status s = ticket_status(q->ticket, err);
    if (s)
        adapters_log_refused(q->server->log, q->id, name, err);
    else
        adapters_log_loaded(q->server->log, q->id, &ticket_job(q->ticket)->adapter);
    return s;
}

enum status adapters_log_unload(struct request *q, const char *name, struct error *err)
{
    enum status s = ticket_status(q->ticket, err);
    if (!s)
        adapters_log_unloaded(q->server->log, q->id, name, ticket_job(q->ticket)->bytes);
    return s;
}
