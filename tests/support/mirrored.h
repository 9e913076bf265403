/*
 * A device's table as if it were a CPU's: each call takes numbers from the host's memory, brings
 * all of them to the device, has its slot work there and brings back what it wrote. So whatever
 * checks a CPU table on the host's arrays checks a device, unchanged. Slow, and for tests alone.
 */
#ifndef OFTD_TESTS_SUPPORT_MIRRORED_H
#define OFTD_TESTS_SUPPORT_MIRRORED_H

#include "core/kernels.h"

/* Over device, which it closes with itself; aborts when memory runs out. */
struct kernels *mirrored_open(struct kernels *device);

#endif
