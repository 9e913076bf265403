/*
 * The work behind a ticket that goes to the worker or to intake: a copy of what was asked for, then
 * what became of it. It belongs to whoever holds the ticket at that moment (ticket.h).
 *
 *   submitter: request_*      copies and checks what can be checked without reading text
 *   intake:    request_ids    text to ids;  request_plan  sequences and result buffers
 *   loader:    request_enter  adapters that have to be loaded first
 *   worker:    runs the sequences (scheduler.c)
 *   whoever ends it: request_end
 */
#ifndef OFTD_CORE_RUN_REQUEST_H
#define OFTD_CORE_RUN_REQUEST_H

#include "core/model/image.h"
#include "core/run/chat.h"
#include "core/run/route.h"
#include "core/run/sampler.h"
#include "core/run/ticket.h"
#include "core/tokenizer/tokenizer.h"

struct sequence;
struct grammar;
struct grammars;

enum request_kind {
    REQUEST_GENERATE,
    REQUEST_FORWARD,
    REQUEST_IMAGES, /* a raw pass of pixel_values; like a module's, it runs slice by slice */
    REQUEST_MODULE,
    REQUEST_TOKENIZE,
    REQUEST_DETOKENIZE,
    REQUEST_RENDER
};

/* What requests are checked against; set by the engine once the model is there. */
struct request_host {
    const struct model *model;
    const struct tokenizer *tokenizer; /* NULL: none */
    const struct chat_templates *chat;
    const struct engine_options *options;
    int64_t max_len[2];       /* by mode: positions of a sequence that model and KV cache allow */
    struct sampling defaults; /* generation_config.json's, else OpenAI's */
    struct registry *registry;
    struct merged *merged;
    struct grammars *grammars; /* NULL: no tokenizer */
};

struct request {
    enum request_kind kind;
    const struct request_host *host;
    struct prompt *prompts; /* [n_prompts], in the arena */
    size_t n_prompts;
    struct chat chat;        /* of the first prompt; a reference */
    const char *param;       /* what the client calls them */
    struct token_ids *ids;   /* [n_prompts] */
    struct token_ids *types; /* [n_prompts], of pairs on a network that has token types */
    bool add_special, skip_special;
    struct chain_names *names; /* [n_routes] */
    struct route *routes;      /* one (generate, module), or one a row (forward) */
    size_t n_routes;
    bool pending; /* some route needs the loader */
    enum compute compute;

    struct sampling sampling; /* generate */
    int32_t n;
    bool echo;
    enum grammar_kind grammar_kind;
    struct text grammar_text;
    const char *grammar_param;
    struct grammar *grammar; /* by reference, from intake on; NULL: none */
    const struct text *stop;
    size_t n_stop;

    struct sequence *sequences; /* [n_sequences]: prompt-major, choices within */
    size_t n_sequences, open;   /* open: not finished yet (worker) */
    size_t started;             /* have run (worker) */
    enum status status;         /* what the worker found wrong */
    struct error error;

    unsigned outputs;                /* forward: OUTPUT_* */
    int32_t number_bytes, positions; /* forward: of the reply, see struct forward_request */
    struct forward_row *rows;        /* [n_prompts] */
    float *results;                  /* one block behind all rows; malloc */

    int32_t module, module_rows, module_done; /* module */
    int64_t module_in, module_out;
    struct image_plan images; /* images, or a Conv2d by itself (module_rows: images) */
    const float *pixels;
    int32_t at_once; /* images of a slice; 0: rows of numbers or ids */
    const float *module_x;
    const int32_t *module_ids;
    float *module_result; /* [module_rows, module_out]; malloc */

    char *text; /* detokenize, render: the answer; malloc */
    size_t text_len;
};

/* Does it run slice by slice beside the sequences, without the way through intake? */
static inline bool request_in_slices(const struct request *r)
{
    return r->kind == REQUEST_MODULE || r->kind == REQUEST_IMAGES;
}

/* Copies and checks. On failure the ticket is left for ticket_discard. */
enum status request_generate(struct ticket *t, const struct request_host *host,
                             const struct generate_request *req, struct error *err);
enum status request_forward(struct ticket *t, const struct request_host *host,
                            const struct forward_request *req, struct error *err);
enum status request_module(struct ticket *t, const struct request_host *host,
                           const struct module_request *req, struct error *err);
enum status request_tokenize(struct ticket *t, const struct request_host *host, const char *text,
                             size_t len, bool add_special, struct error *err);
enum status request_detokenize(struct ticket *t, const struct request_host *host,
                               const int32_t *ids, size_t n, bool skip_special, struct error *err);

enum status request_render(struct ticket *t, const struct request_host *host,
                           const struct chat *chat, struct error *err);

/* What it will cost in tokens at most, before tokenizing (bytes stand for tokens of a text). */
int64_t request_estimate(const struct request *r);
/* Finds adapters and views of all routes; see route_enter. pending tells what is left. */
enum status request_enter(struct ticket *t, bool may_load, struct error *err);
/* Text to ids, and their lengths against the context; what the text must be to a grammar. */
enum status request_ids(struct ticket *t, struct error *err);
/* Sequences and result buffers, of those that have some: after this the worker needs no memory that
 * it must have, but for the maps of images. */
enum status request_plan(struct ticket *t, struct error *err);
/* Detokenize, render: the whole work. */
enum status request_text(struct ticket *t, struct error *err);

/* Gives back the routes of a request that goes nowhere. */
void request_leave(struct request *r);
/* Gives back routes and sequences and ends the ticket, which must not be touched afterwards. */
void request_end(struct ticket *t, enum status status, struct error *err);

#endif
