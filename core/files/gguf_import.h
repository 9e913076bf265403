/*
 * A GGUF file turned into a Hugging Face folder that this program serves.
 */
#ifndef OFTD_CORE_FILES_GGUF_IMPORT_H
#define OFTD_CORE_FILES_GGUF_IMPORT_H

#include <stdint.h>

#include "core/progress.h"
#include "core/status.h"

struct gguf_report {
    int64_t steps;  /* modules written as HQQ */
    int64_t plain;  /* tensors written as they are or as float32 */
    uint64_t bytes; /* of all tensors written */
    bool tokenizer; /* is there one */
};

/* progress (may be NULL) hears how much is done, 0 to 1. output must not exist. Errors: those of
 * gguf_open, gguf_llama_read, gguf_tokenizer_read and the writer; TENSOR_MISSING,
 * TENSOR_UNEXPECTED, TENSOR_SHAPE_MISMATCH, NON_FINITE_WEIGHTS. Memory taken does not grow with the
 * weights. */
enum status gguf_import(const char *file, const char *output, progress_report *progress, void *ctx,
                        struct gguf_report *report, struct error *err);

#endif
