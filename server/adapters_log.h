/* Loads and unloads end in the log, whichever route asked for them. */
#ifndef OFTD_SERVER_ADAPTERS_LOG_H
#define OFTD_SERVER_ADAPTERS_LOG_H

#include "server/log.h"
#include "server/request.h"

void adapters_log_loaded(struct log *log, const char *id, const struct adapter_info *a);
void adapters_log_refused(struct log *log, const char *id, const char *name,
                          const struct error *err);
void adapters_log_unloaded(struct log *log, const char *id, const char *name, uint64_t bytes);

/* After the end of q's ticket, a load or an unload of name: its outcome, logged. */
enum status adapters_log_load(struct request *q, const char *name, struct error *err);
enum status adapters_log_unload(struct request *q, const char *name, struct error *err);

#endif
