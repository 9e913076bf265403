/* The data plane of the fake engine; a part of fake_engine.c. */
static bool prompt_is(const struct prompt *p, const char *word)
{
    return p->text && p->text_len == strlen(word) && !memcmp(p->text, word, p->text_len);
}

/* Takes what a conversation says. */
static bool use_chat(struct ticket *t, const struct prompt *p)
{
    const json_t *messages = json_object_get(p->chat->variables, "messages");
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *says = json_string_value(json_object_get(last, "content"));
    t->usage.prompt_tokens += (int64_t)json_array_size(messages);
    t->fail = says && !strcmp(says, "fail");
    t->broken = says && !strcmp(says, "broken");
    if (!says || t->broken || t->fail)
        return true;
    int steps = ((int)strlen(says) + SCRIPT_STEP - 1) / SCRIPT_STEP;
    if (t->max_tokens >= steps) {
        t->max_tokens = steps ? steps : 1;
        t->script = strdup(says);
        return t->script != NULL;
    }
    return true;
}

enum status engine_generate(struct engine *e, const struct generate_request *req,
                            struct ticket **out, struct error *err)
{
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    enum status s = use_adapters(e, t, req->adapters, req->n_adapters, err);
    if (s) {
        unref(t);
        unref(t);
        return s;
    }
    pthread_mutex_lock(&e->lock);
    e->last[0] = 0;
    for (size_t i = 0; i < req->n_adapters && i < 2; i++)
        snprintf(e->last + strlen(e->last), sizeof e->last - strlen(e->last), "%s%s", i ? "," : "",
                 req->adapters[i]);
    pthread_mutex_unlock(&e->lock);
    t->n_prompts = (int)req->n_prompts;
    t->n = req->n == UNSET_INT ? 1 : req->n;
    t->max_tokens = req->max_tokens == UNSET_INT ? 16 : req->max_tokens;
    if (req->prompts->chat && req->max_tokens == UNSET_INT)
        t->max_tokens = 1000;
    if (req->prompts->chat && !use_chat(t, req->prompts))
        return give_up(t, err);
    for (size_t i = 0; i < req->n_prompts && !req->prompts->chat; i++)
        t->usage.prompt_tokens += req->prompts[i].text ? (int64_t)req->prompts[i].text_len
                                                       : (int64_t)req->prompts[i].n_ids;
    t->fail |= prompt_is(&req->prompts[0], "fail");
    t->broken |= prompt_is(&req->prompts[0], "broken");
    submit(e, t, out);
    return ST_OK;
}

enum status engine_forward(struct engine *e, const struct forward_request *req, struct ticket **out,
                           struct error *err)
{
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    for (size_t i = 0; i < req->n_rows && req->adapters; i++) {
        enum status s = use_adapters(e, t, req->adapters[i].names, req->adapters[i].n, err);
        if (s) {
            unref(t);
            unref(t);
            return s;
        }
    }
    pthread_mutex_lock(&e->lock);
    e->submitter = pthread_self();
    pthread_mutex_unlock(&e->lock);
    unsigned outputs = req->outputs ? req->outputs : OUTPUT_LAST_LOGITS;
    size_t longest = 1;
    for (size_t i = 0; i < req->n_rows; i++)
        if (req->rows[i].n_ids > longest)
            longest = req->rows[i].n_ids;
    t->n_rows = req->n_rows;
    t->rows = calloc(t->n_rows, sizeof *t->rows);
    t->numbers = calloc(longest * VOCAB, sizeof(float));
    if (!t->rows || !t->numbers)
        return give_up(t, err);
    for (size_t i = 0; i < longest * VOCAB; i++)
        t->numbers[i] = (float)i / 7;
    if (prompt_is(&req->rows[0], "nan"))
        t->numbers[3] = NAN;
    for (size_t i = 0; i < t->n_rows; i++) {
        struct forward_row *r = &t->rows[i];
        r->width = VOCAB;
        r->tokens = req->rows[i].text ? 1 : (int32_t)req->rows[i].n_ids;
        t->usage.prompt_tokens += r->tokens;
        bool labels = t->n_refs && !strcmp(t->names[0], "beta");
        r->classifier = labels ? CLASSIFIER_SEQUENCE : CLASSIFIER_NONE;
        r->width = labels ? 1 : VOCAB;
        r->logits = outputs & OUTPUT_LOGITS ? t->numbers : NULL;
        r->last_logits = outputs & OUTPUT_LAST_LOGITS ? t->numbers : NULL;
        r->hidden = outputs & OUTPUT_HIDDEN ? t->numbers : NULL;
        r->logprobs = outputs & OUTPUT_LOGPROBS ? t->numbers : NULL;
        r->embedding = outputs & OUTPUT_EMBEDDING ? t->numbers : NULL;
        r->adapters = t->refs_v;
        r->n_adapters = t->n_refs;
    }
    submit(e, t, out);
    return ST_OK;
}

enum status engine_module(struct engine *e, const struct module_request *req, struct ticket **out,
                          struct error *err)
{
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    t->module_rows = req->rows;
    t->module_n = req->ids ? HIDDEN : 3;
    t->numbers = calloc((size_t)t->module_rows * (size_t)t->module_n, sizeof(float));
    if (!t->numbers)
        return give_up(t, err);
    for (int64_t i = 0; i < t->module_rows * t->module_n; i++)
        t->numbers[i] = (float)i;
    submit(e, t, out);
    return ST_OK;
}

enum status engine_tokenize(struct engine *e, const char *text, size_t len, bool add_special,
                            struct ticket **out, struct error *err)
{
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    t->ids = calloc(len + 1, sizeof *t->ids);
    if (!t->ids)
        return give_up(t, err);
    for (size_t i = 0; i < len; i++)
        t->ids[i] = (unsigned char)text[i];
    t->n_ids = len;
    if (add_special)
        t->ids[t->n_ids++] = 1;
    submit(e, t, out);
    return ST_OK;
}

enum status engine_detokenize(struct engine *e, const int32_t *ids, size_t n, bool skip_special,
                              struct ticket **out, struct error *err)
{
    (void)skip_special;
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    for (size_t i = 0; i < n && i < sizeof t->text - 1; i++)
        t->text[i] = (char)ids[i];
    submit(e, t, out);
    return ST_OK;
}

enum status engine_render(struct engine *e, const struct chat *chat, struct ticket **out,
                          struct error *err)
{
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    t->script = json_dumps(chat->variables, JSON_COMPACT);
    if (!t->script)
        return give_up(t, err);
    submit(e, t, out);
    return ST_OK;
}

const char *engine_piece(const struct engine *e, int32_t id, size_t *len)
{
    static const char *const pieces[] = {"a", "b", "c", "d"};
    (void)e;
    *len = 1;
    return pieces[id & 3];
}
