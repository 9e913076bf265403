/* What an inference reply tells of its ticket in headers (and the log), once the ticket's times and
 * usage are known: which adapters it ran on, how long it waited, what it read and wrote. */
#ifndef OFTD_SERVER_ACCOUNT_H
#define OFTD_SERVER_ACCOUNT_H

#include "server/request.h"

/* The x- headers of q's ticket; generated: also what it has generated (a stream does not know). */
void account_headers(struct request *q, bool generated);

#endif
