/*
 * The facade: all that server/ sees of a model. It owns the worker (compute), the intake threads
 * (text to ids) and the loader (adapters, merges, exports), the model, the registry and the KV
 * pages. Everything that takes time is a ticket: submitted without blocking, read without blocking,
 * cancelled at any moment. Nothing here knows HTTP or JSON wording.
 *
 * Life: engine_new (checks options, starts nothing) -> engine_load (blocks; loads base and start-up
 * adapters) -> requests -> engine_drain -> engine_free. Requests before engine_load has finished
 * are NOT_READY, after engine_drain began DRAINING. All functions are thread-safe unless said.
 */
#ifndef OFTD_CORE_ENGINE_H
#define OFTD_CORE_ENGINE_H

#include <math.h>

#include "core/adapters/registry.h"
#include "core/grammar/kind.h"
#include "core/merge/merge.h"
#include "core/model/model.h"
#include "core/status.h"

struct engine;

struct engine_kernels { /* opened and closed by the caller (cmd_*.c) */
    const struct kernels *exact,
        *fast; /* the worker's tables; they share threads, are never used at once */
    const struct kernels *loader; /* exact, one thread, of the CPU */
    const struct kernels *host;   /* of a device: the worker's of the CPU; NULL: exact is one */
};

struct engine_options {
    const char *model_dir;   /* a folder (checkpoint_locate has been applied) */
    const char *served_name; /* id of the base; NULL: the folder's name */
    const struct chain *chain;
    struct engine_kernels kernels;
    struct model_options model;
    enum compute compute_generate, compute_forward; /* defaults of a request */
    const struct adapter_request *adapters; /* --adapter, loaded by engine_load; all or exit */
    size_t n_adapters;
    void (*failed)(void *ctx); /* the device has; once, on the worker's thread. NULL is fine */
    void *failed_ctx;
    const char *const *adapter_roots;
    size_t n_adapter_roots;
    bool autoload;
    struct adapter_options adapter;
    const char *export_dir;
    uint64_t kv_memory, adapter_memory, merge_memory; /* bytes; kv 0: chosen from what is free */
    int32_t max_rows;                                 /* rows of a step */
    int32_t prefill_chunk;  /* prompt rows of a step while others decode */
    double prefill_stretch; /* and how many steps without them it may last, 0: any number */
    int32_t max_sequences;  /* running at once */
    int32_t max_queue;      /* requests waiting */
    int64_t max_queue_tokens;
    int32_t max_forward_rows; /* sequences in one /v1/forward */
    uint64_t max_reply_bytes;
    int32_t max_n; /* choices a request */
    int32_t intake_threads;
    bool spare_core;     /* the loader has a core that the worker's threads leave free */
    bool speculate;      /* generations guess ahead (core/run/draft.h) */
    enum dtype kv_dtype; /* F32, F16, I8: keys and values in fast mode; a decoder's */
};

enum status engine_new(const struct engine_options *options, struct engine **out,
                       struct error *err);
enum status engine_load(struct engine *e, progress_report *progress, void *progress_ctx,
                        struct error *err);
/* New work gets DRAINING; returns when nothing runs or timeout_ms has passed (then the rest is
 * cancelled). */
void engine_drain(struct engine *e, int64_t timeout_ms);
void engine_free(struct engine *e); /* stops the threads, cancels what is left; NULL is fine */

enum engine_state { ENGINE_LOADING, ENGINE_READY, ENGINE_DRAINING, ENGINE_FAILED };
enum engine_state engine_state(const struct engine *e, double *progress);
/* ST_OK when requests are taken, else NOT_READY / DRAINING. */
enum status engine_check(const struct engine *e, struct error *err);
const struct model *engine_model(const struct engine *e); /* after load; borrowed */
const char *engine_name(const struct engine *e);          /* the base's id */
const char *engine_root(const struct engine *e);          /* its folder */
bool engine_has_tokenizer(const struct engine *e);
const struct engine_options *
engine_options(const struct engine *e); /* as resolved (kv_memory, ...) */

/* ---- tickets ------------------------------------------------------------------------------------
 */

struct ticket; /* refcounted; a submit gives one reference, ticket_free drops it (and cancels what
                  still runs) */

/* Called at most once per arming, on any thread, with no lock held; must not block (it resumes a
 * connection). */
typedef void ticket_wake(void *arg);

enum ticket_until { TICKET_EVENT /* something new to read */, TICKET_END };

/* Arms the wake-up and returns true, or returns false when there is something to read (or it ended)
 * already. */
bool ticket_wait(struct ticket *t, enum ticket_until until, ticket_wake *wake, void *arg);
/* Blocks until it ended (command line, tests). */
void ticket_join(struct ticket *t);
bool ticket_ended(const struct ticket *t);
/* After the end: the outcome; err (may be NULL) is copied from the ticket. */
enum status ticket_status(struct ticket *t, struct error *err);
/* Stops the work within one step; the ticket still ends (CANCELLED). Idempotent. */
void ticket_cancel(struct ticket *t);
/* Drops the reference and cancels what still runs. When it returns no wake-up of this ticket runs
 * or will run (it waits for one that is running, unless it is called from inside it: hold no lock
 * that the wake-up takes). NULL is fine. */
void ticket_free(struct ticket *t);
/* Drops the reference and lets the work go on (a load that nobody waits for). As ticket_free else.
 */
void ticket_detach(struct ticket *t);

struct ticket_times { /* seconds since submit; < 0: not reached */
    double admitted, first_token, ended;
};
void ticket_times(const struct ticket *t, struct ticket_times *out);

struct adapter_ref { /* what a request runs on; known once it is admitted, borrowed from the ticket
                      */
    const char *name, *digest;
    uint64_t generation;
};

/* ---- generation ---------------------------------------------------------------------------------
 */

#define UNSET_INT   INT32_MIN
#define UNSET_FLOAT NAN

/* Limits of one request that are no configuration; beyond them: INVALID_VALUE. */
#define LOGPROBS_MAX   20
#define STOPS_MAX      64
#define STOP_BYTES_MAX 4096 /* of one stop string */
#define CHOICES_MAX    4096 /* prompts times n */

/* A conversation; its prompt is rendered with the base's chat template on an intake thread. */
struct chat {
    json_t *variables;   /* an object: messages (a list), tools, add_generation_prompt and what else
                            the template reads; it must not change any more */
    bool continue_final; /* the last message, whose content is a text, is left open */
    const char *thought; /* what begins a thought in the template's texts; lasts; NULL: nothing */
};
struct prompt {
    const char *text; /* or NULL: ids */
    size_t text_len;
    const int32_t *ids;
    size_t n_ids;
    const struct chat *chat; /* or NULL; a text then */
    const char *second;      /* with text: the other one of a pair, or NULL */
    size_t second_len;
};
struct logit_bias {
    int32_t token;
    float bias;
};
struct text {
    const char *v;
    size_t len;
};

/* Everything is copied by the submit (of a conversation a reference is taken). max_tokens: unset is
 * the base's own default, else 16, or what fits after a conversation; more than fits the context is
 * cut to what fits, 0 scores the prompt (echo). With
 * several prompts and choices the pieces of each (prompt, choice) come in order. */
struct generate_request {
    const struct prompt *prompts;
    size_t n_prompts;
    const char *param;           /* the field that holds them; NULL: prompt */
    const char *const *adapters; /* names in order; 0: base */
    size_t n_adapters;
    const float *strengths;                             /* [n_adapters] or NULL */
    int32_t n, max_tokens, min_tokens, top_k, logprobs; /* UNSET_INT: default; logprobs < 0: none */
    float temperature, top_p, min_p, repetition_penalty, presence_penalty,
        frequency_penalty; /* UNSET_FLOAT: default */
    bool has_seed;
    uint64_t seed;
    bool echo, ignore_eos, skip_special, add_special;
    bool score_prompt;       /* its tokens come first, with logprob and rank, echoed or not */
    int32_t prompt_logprobs; /* and so many alternatives each */
    const struct text *stop;
    size_t n_stop;
    const int32_t *stop_token_ids;
    size_t n_stop_token_ids;
    const struct logit_bias *logit_bias;
    size_t n_logit_bias;
    int compute; /* enum compute, or -1: default */
    enum grammar_kind
        grammar;              /* what the text must be; a choice that ends by itself is all of it */
    struct text grammar_text; /* core/grammar/kind.h */
    const char *grammar_param; /* the field that says so; NULL: the text does */
    const char *request_id;
};

enum finish_reason { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_ERROR };

struct token_logprob {
    int32_t id;
    float logprob;
    const char *piece; /* its text at this place (an unfinished character reads U+FFFD) */
    size_t piece_len;
};
struct token_info {
    int32_t id;
    bool prompt;       /* a prompt token (echo, score_prompt) */
    const char *piece; /* its text */
    size_t piece_len;
    size_t text_offset;              /* bytes of the choice's text before it */
    float logprob;                   /* NAN: none (the first of the prompt) */
    int32_t rank;                    /* of a scored prompt: tokens at least as likely, itself too */
    const struct token_logprob *top; /* [n_top], descending */
    int32_t n_top;
};
/* Something new in one choice. Memory belongs to the ticket and lives as long. */
struct piece {
    int32_t prompt, choice;
    struct text text;                /* whole UTF-8 characters; may be empty */
    const struct token_info *tokens; /* the tokens behind it, in order */
    size_t n_tokens;
    enum finish_reason finish; /* FINISH_NONE until the last piece of the choice */
    int32_t stop_token;        /* the end or stop token that finished it, -1: none */
};

enum status engine_generate(struct engine *e, const struct generate_request *req,
                            struct ticket **out, struct error *err);
/* The next unread piece: true, or false when there is none now. */
bool ticket_read(struct ticket *t, struct piece *out);
/* Known once admitted. */
size_t ticket_adapters(const struct ticket *t, const struct adapter_ref **out);
struct usage {
    int64_t prompt_tokens, generated_tokens, cached_tokens;
};
void ticket_usage(const struct ticket *t, struct usage *out);
/* Known with the first piece: the template has left a thought open at the prompt's end. */
bool ticket_thinks(const struct ticket *t);

/* ---- the raw pass -------------------------------------------------------------------------------
 */

enum output {
    OUTPUT_LOGITS = 1,
    OUTPUT_LAST_LOGITS = 2,
    OUTPUT_HIDDEN = 4,
    OUTPUT_LOGPROBS = 8, /* log softmax of every position: [T, V] */
    OUTPUT_EMBEDDING = 16
};
struct name_list {
    const char *const *names;
    size_t n;
};
/* Images of one size. */
struct images {
    const float *pixels; /* [n, channels, height, width] */
    int32_t n;
    struct image_size size;
};
struct forward_request {
    const struct prompt *rows;
    const struct images *images; /* instead of rows, or NULL; n_rows of them */
    size_t n_rows;
    const struct name_list *adapters; /* [n_rows] or NULL: base */
    const float *strengths;           /* of every row's adapters, or NULL: 1 */
    const char *param;                /* the field that holds the rows; NULL: input_ids */
    unsigned outputs;                 /* OUTPUT_* */
    int compute;                      /* -1: default */
    bool add_special;
    const char *request_id;
    /* What the reply spends, for its limit: bytes a number (0: as decimal digits), and positions a
     * row at least (it is filled up). */
    int32_t number_bytes, positions;
};
struct forward_row {
    int32_t tokens;  /* T */
    int hidden_rank; /* of an image's hidden state, which is [hidden_shape]; 0: [T, H] */
    int64_t hidden_shape[3];
    int32_t width; /* V: of the vocabulary, or the labels of the row's classification head */
    /* What the logits are of. A sequence's are one vector: `logits` and `logprobs` are [V] too. */
    enum classifier_kind classifier;
    int32_t labels_at; /* the position at which a sequence's labels are read */
    const struct adapter_ref *adapters;
    size_t n_adapters;
    const float *logits, *last_logits, *hidden, *logprobs,
        *embedding; /* [T,V] [V] [T,H] [T,V] [H]; NULL: not asked */
};
/* NOT_SUPPORTED: logits of a row that has no head. REPLY_TOO_LARGE before computing. */
enum status engine_forward(struct engine *e, const struct forward_request *req, struct ticket **out,
                           struct error *err);
const struct forward_row *ticket_forward(const struct ticket *t, size_t *n); /* after a good end */

struct module_request {
    const char *module;
    struct name_list adapters;
    const float *x;     /* [rows, k] or NULL */
    const int32_t *ids; /* [rows], an embedding */
    int32_t rows;
    int64_t width;        /* k as sent */
    struct images images; /* a Conv2d; pixels NULL: none */
    int compute;
    const char *request_id;
};
/* A linear module takes x, an embedding ids, a Conv2d images, none takes another's (INVALID_VALUE);
 * MODULE_NOT_FOUND. */
enum status engine_module(struct engine *e, const struct module_request *req, struct ticket **out,
                          struct error *err);
/* After a good end: rows (or images) of n numbers; of an image they are [shape], else shape is [n].
 */
const float *ticket_module(const struct ticket *t, int32_t *rows, int64_t *n);
int ticket_module_shape(const struct ticket *t, int64_t shape[3]); /* returns the rank */

/* ---- text
 * ---------------------------------------------------------------------------------------- */

enum status engine_tokenize(struct engine *e, const char *text, size_t len, bool add_special,
                            struct ticket **out, struct error *err);
enum status engine_detokenize(struct engine *e, const int32_t *ids, size_t n, bool skip_special,
                              struct ticket **out, struct error *err);
/* The prompt that a conversation becomes; ticket_text tells it. */
enum status engine_render(struct engine *e, const struct chat *chat, struct ticket **out,
                          struct error *err);
/* The chat template for a conversation with or without tools: ST_OK, or why there are none
 * (CHAT_TEMPLATE_MISSING) or it cannot be run. text (may be NULL): its text, borrowed. */
enum status engine_chat_template(const struct engine *e, bool tools, struct text *text,
                                 struct error *err);
const int32_t *ticket_ids(const struct ticket *t, size_t *n);
const char *ticket_text(const struct ticket *t, size_t *len);
/* The text of one id (vocabulary entry); borrowed from the model. */
const char *engine_piece(const struct engine *e, int32_t id, size_t *len);

/* ---- adapters, merges, exports: work of the loader
 * ------------------------------------------------ */

enum status engine_adapter_load(struct engine *e, const struct adapter_request *req,
                                struct ticket **out, struct error *err);
/* Drains up to timeout_s (< 0: for ever); the ticket then tells the bytes freed. A name whose load
 * failed is forgotten; one whose load runs is unloaded after it. */
enum status engine_adapter_unload(struct engine *e, const char *name, double timeout_s,
                                  struct ticket **out, struct error *err);
enum status engine_adapter_batch(struct engine *e, const struct adapter_request *load,
                                 size_t n_load, const char *const *unload, size_t n_unload,
                                 struct ticket **out, struct error *err);
enum status engine_adapter_validate(struct engine *e, const struct adapter_request *req,
                                    struct ticket **out, struct error *err);
enum status engine_adapter_list(struct engine *e, bool available, struct adapter_info **out,
                                size_t *n, struct error *err);
enum status engine_adapter_info(struct engine *e, const char *name, struct adapter_info *out,
                                struct error *err);
void engine_rescan(struct engine *e);

enum merge_mode { MERGE_RESIDENT, MERGE_IN_PLACE };
struct merge_request {
    struct name_list adapters;
    enum merge_mode mode;
    struct merge_options options; /* .memory is filled by the engine */
};
enum status engine_merge(struct engine *e, const struct merge_request *req, struct ticket **out,
                         struct error *err);
/* No name: all that is merged. One: every merge in which it takes part. Several: the one merge of
 * these, in this order. */
enum status engine_unmerge(struct engine *e, const struct name_list *adapters, struct ticket **out,
                           struct error *err);
struct export_request {
    struct name_list adapters; /* 0: the base */
    const char *path;          /* below export_dir; trusted: any */
    bool trusted, plain;
    enum dtype dtype;
};
enum status engine_export(struct engine *e, const struct export_request *req, struct ticket **out,
                          struct error *err);

/* What a loader ticket brings back; which members are filled depends on the call. Borrowed from the
 * ticket. */
struct job_result {
    bool replaced;               /* load */
    struct adapter_info adapter; /* load */
    uint64_t bytes;              /* unload, unmerge, export: freed or written */
    struct findings findings;    /* validate */
    char **names;                /* merge, unmerge, batch */
    size_t n_names;
    struct merge_report report; /* merge */
    size_t modules;             /* merge */
};
const struct job_result *ticket_job(const struct ticket *t);

struct merge_info {
    char **adapters;
    size_t n_adapters;
    enum merge_mode mode;
    size_t modules;
    uint64_t bytes;
};
enum status engine_merges(struct engine *e, struct merge_info **out, size_t *n, struct error *err);
void merge_infos_free(struct merge_info *v, size_t n);

/* ---- figures
 * -------------------------------------------------------------------------------------- */

#define HISTOGRAM_BUCKETS 16
struct histogram {
    double bounds[HISTOGRAM_BUCKETS];   /* upper bounds; the last is +Inf */
    uint64_t counts[HISTOGRAM_BUCKETS]; /* not cumulative */
    double sum;
    uint64_t count;
};
struct engine_stats {
    int32_t running, waiting;
    double kv_usage; /* 0..1 */
    uint64_t kv_pages, kv_pages_used, kv_page_bytes;
    uint64_t prompt_tokens, generated_tokens, cached_tokens, preemptions, steps;
    double step_seconds, pass_seconds; /* of the worker; of that, in passes through the model */
    uint64_t drafts, draft_tokens, accepted_tokens; /* guesses computed; those that were right */
    uint64_t finished[FINISH_ERROR + 1];            /* choices by reason */
    struct histogram time_to_first_token, inter_token, end_to_end, queue_time, adapter_load;
    uint64_t weight_bytes, merge_bytes;
    struct registry_stats adapters;
    int32_t adapters_running,
        adapters_waiting; /* distinct adapters with running / waiting requests */
    char running_names[1024], waiting_names[1024]; /* comma-separated, cut at a whole name */
};
void engine_stats(struct engine *e, struct engine_stats *out);

#endif
