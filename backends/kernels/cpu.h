/* Opens the tables of this machine's processor. */
#ifndef OFTD_BACKENDS_KERNELS_CPU_H
#define OFTD_BACKENDS_KERNELS_CPU_H

#include "core/kernels.h"
#include "core/status.h"

/* A table with its own threads. isa: "auto" (or NULL: the best this processor has), "portable",
 * "avx2", "avxvnni" (avx2 and AVX-VNNI), "avx512", "amx" (avx512 and tiles), "neon"; one that the
 * processor lacks is ST_NOT_SUPPORTED, an unknown one ST_INVALID_VALUE. threads: 0 or less:
 * cpu_threads(). Closed with
 * (*out)->close(*out). */
enum status cpu_kernels_open(const char *isa, enum compute mode, int threads, struct kernels **out,
                             struct error *err);
/* A table of another mode with the instruction set and the threads of `with` (a CPU table); the two
 * must never run at once. Each is closed for itself, in any order. */
enum status cpu_kernels_share(const struct kernels *with, enum compute mode, struct kernels **out,
                              struct error *err);

/* Processors that this process may use: affinity mask and cgroup quota (rounded down), at least 1.
 */
int cpu_threads(void);
/* Whether this processor has everything that the twin of that name is compiled for. */
bool cpu_has(const char *isa);

#endif
