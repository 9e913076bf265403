/* The admin plane of the fake engine, and its figures; a part of fake_engine.c. */
void adapter_info_clear(struct adapter_info *info)
{
    free(info->name);
    free(info->path);
    free(info->block_sizes);
    free(info->error);
    findings_clear(&info->warnings);
    memset(info, 0, sizeof *info);
}

static bool fill_info(struct engine *e, const char *name, struct adapter_info *out)
{
    *out = (struct adapter_info){.name = strdup(name),
                                 .path = strdup("/adapters"),
                                 .state = ADAPTER_READY,
                                 .generation = e->generation,
                                 .matched = 2,
                                 .total = 2,
                                 .neumann = true,
                                 .terms = 5};
    strcpy(out->digest, "sha256:00");
    out->block_sizes = calloc(1, sizeof *out->block_sizes);
    if (!out->name || !out->path || !out->block_sizes) {
        adapter_info_clear(out);
        return false;
    }
    out->block_sizes[0] = 32;
    out->n_block_sizes = 1;
    return true;
}

bool registry_name_valid(const char *name)
{
    static const char word[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strlen(name);
    return n > 0 && n <= 128 && strspn(name, word) == n && !strchr("._-", *name);
}

enum status engine_adapter_list(struct engine *e, bool available, struct adapter_info **out,
                                size_t *n, struct error *err)
{
    pthread_mutex_lock(&e->lock);
    size_t count = (size_t)e->n_loaded + (available ? 1 : 0);
    struct adapter_info *v = calloc(count + 1, sizeof *v);
    bool whole = v != NULL;
    for (size_t i = 0; i < count && whole; i++)
        whole = fill_info(e, i < (size_t)e->n_loaded ? e->loaded[i] : "late", &v[i]);
    if (whole && available)
        v[count - 1].state = ADAPTER_AVAILABLE;
    pthread_mutex_unlock(&e->lock);
    *out = v;
    *n = count;
    if (whole)
        return ST_OK;
    for (size_t i = 0; v && i < count; i++)
        adapter_info_clear(&v[i]);
    free(v);
    *out = NULL;
    *n = 0;
    return error_memory(err, "faking");
}

enum status engine_adapter_info(struct engine *e, const char *name, struct adapter_info *out,
                                struct error *err)
{
    pthread_mutex_lock(&e->lock);
    bool there = loaded(e, name), whole = there && fill_info(e, name, out);
    pthread_mutex_unlock(&e->lock);
    if (!there)
        return error_set(err, ST_ADAPTER_NOT_FOUND, "there is no adapter '%s'", name);
    return whole ? ST_OK : error_memory(err, "faking");
}

enum status engine_adapter_load(struct engine *e, const struct adapter_request *req,
                                struct ticket **out, struct error *err)
{
    pthread_mutex_lock(&e->lock);
    bool there = loaded(e, req->name);
    pthread_mutex_unlock(&e->lock);
    if (there && req->replace == REPLACE_NEVER)
        return error_param(err, ST_NAME_IN_USE, "name", "%s is loaded", req->name);
    if (req->path && strstr(req->path, ".."))
        return error_param(err, ST_PATH_OUTSIDE_ROOT, "path", "%s", req->path);
    if (req->path && !strcmp(req->path, "bad")) {
        struct findings f = {0};
        findings_add(&f, SEVERITY_ERROR, ST_TENSOR_MISSING, "m", NULL, "x", "nothing", "bad: gone");
        findings_add(&f, SEVERITY_WARNING, ST_COFT_OUT_OF_BOUNDS, NULL, NULL, NULL, NULL, "hm");
        return error_from_findings(err, &f);
    }
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    pthread_mutex_lock(&e->lock);
    if (!there)
        snprintf(e->loaded[e->n_loaded++], sizeof e->loaded[0], "%s", req->name);
    e->generation++;
    pthread_mutex_unlock(&e->lock);
    snprintf(t->job_name, sizeof t->job_name, "%s", req->name);
    t->job.replaced = there;
    t->job.adapter = (struct adapter_info){
        .name = t->job_name, .path = t->text, .state = ADAPTER_READY, .generation = e->generation};
    submit(e, t, out);
    return ST_OK;
}

enum status engine_adapter_unload(struct engine *e, const char *name, double timeout_s,
                                  struct ticket **out, struct error *err)
{
    (void)timeout_s;
    int found = -1;
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < e->n_loaded; i++)
        if (!strcmp(e->loaded[i], name))
            found = i;
    if (found >= 0 && found != --e->n_loaded)
        strcpy(e->loaded[found], e->loaded[e->n_loaded]);
    pthread_mutex_unlock(&e->lock);
    if (found < 0)
        return error_set(err, ST_ADAPTER_NOT_FOUND, "there is no adapter '%s'", name);
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    t->job.bytes = 1234;
    submit(e, t, out);
    return ST_OK;
}

enum status engine_adapter_batch(struct engine *e, const struct adapter_request *load,
                                 size_t n_load, const char *const *unload, size_t n_unload,
                                 struct ticket **out, struct error *err)
{
    (void)load;
    (void)n_load;
    (void)unload;
    (void)n_unload;
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    submit(e, t, out);
    return ST_OK;
}

enum status engine_adapter_validate(struct engine *e, const struct adapter_request *req,
                                    struct ticket **out, struct error *err)
{
    (void)req;
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    findings_add(&t->job.findings, SEVERITY_ERROR, ST_TENSOR_MISSING, "m", NULL, "x", "nothing",
                 "gone");
    submit(e, t, out);
    return ST_OK;
}

/* ---- merges ---- */

static bool add_name(struct job_result *r, const char *name)
{
    char **names = realloc(r->names, (r->n_names + 1) * sizeof *names);
    if (!names)
        return false;
    r->names = names;
    char *copy = strdup(name);
    if (copy)
        r->names[r->n_names++] = copy;
    return copy != NULL;
}

enum status engine_merge(struct engine *e, const struct merge_request *req, struct ticket **out,
                         struct error *err)
{
    if (!strcmp(req->adapters.names[0], "gptq"))
        return error_set(err, ST_MERGE_FORBIDDEN_GPTQ, NULL);
    static struct merge_module_report row = {.module = 1, .backend = "default", .rel_fro = 0.01};
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    for (size_t i = 0; i < req->adapters.n; i++)
        if (!add_name(&t->job, req->adapters.names[i]))
            return give_up(t, err);
    t->job.modules = 1;
    t->job.report = (struct merge_report){.modules = &row, .n = 1, .rel_fro_max = 0.01};
    pthread_mutex_lock(&e->lock);
    if (e->n_merged < 4 && req->adapters.n <= 2 && !req->options.dry_run) {
        for (size_t i = 0; i < req->adapters.n; i++)
            snprintf(e->merged[e->n_merged].names[i], sizeof e->merged[0].names[i], "%s",
                     req->adapters.names[i]);
        e->merged[e->n_merged++].n = req->adapters.n;
    }
    pthread_mutex_unlock(&e->lock);
    submit(e, t, out);
    return ST_OK;
}

/* Does the fake's merge i go? */
static bool meant(struct engine *e, size_t i, const struct name_list *names)
{
    size_t same = 0;
    for (size_t k = 0; k < e->merged[i].n; k++) {
        if (names->n == 1 && !strcmp(e->merged[i].names[k], names->names[0]))
            return true;
        same += k < names->n && !strcmp(e->merged[i].names[k], names->names[k]);
    }
    return !names->n || (same == names->n && same == e->merged[i].n);
}

enum status engine_unmerge(struct engine *e, const struct name_list *adapters, struct ticket **out,
                           struct error *err)
{
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    pthread_mutex_lock(&e->lock);
    size_t kept = 0;
    for (size_t i = 0; i < e->n_merged; i++) {
        if (!meant(e, i, adapters)) {
            e->merged[kept++] = e->merged[i];
            continue;
        }
        for (size_t k = 0; k < e->merged[i].n; k++)
            add_name(&t->job, e->merged[i].names[k]);
    }
    bool any = kept < e->n_merged;
    e->n_merged = kept;
    pthread_mutex_unlock(&e->lock);
    if (!any) {
        unref(t);
        unref(t);
        return error_set(err, ST_NOT_MERGED, NULL);
    }
    submit(e, t, out);
    return ST_OK;
}

enum status engine_export(struct engine *e, const struct export_request *req, struct ticket **out,
                          struct error *err)
{
    (void)req;
    struct ticket *t = ticket_make(e);
    if (!t)
        return error_memory(err, "faking");
    t->job.bytes = 99;
    submit(e, t, out);
    return ST_OK;
}

enum status engine_merges(struct engine *e, struct merge_info **out, size_t *n, struct error *err)
{
    pthread_mutex_lock(&e->lock);
    struct merge_info *v = calloc(e->n_merged + 1, sizeof *v);
    bool whole = v != NULL;
    for (size_t i = 0; i < e->n_merged && whole; i++) {
        v[i].adapters = calloc(e->merged[i].n, sizeof *v[i].adapters);
        whole = v[i].adapters != NULL;
        for (size_t k = 0; k < e->merged[i].n && whole; k++) {
            v[i].adapters[k] = strdup(e->merged[i].names[k]);
            whole = v[i].adapters[k] != NULL;
            v[i].n_adapters += whole;
        }
    }
    *n = e->n_merged;
    pthread_mutex_unlock(&e->lock);
    *out = v;
    if (whole)
        return ST_OK;
    merge_infos_free(v, v ? *n : 0);
    *out = NULL;
    *n = 0;
    return error_memory(err, "faking");
}

void merge_infos_free(struct merge_info *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < v[i].n_adapters; k++)
            free(v[i].adapters[k]);
        free(v[i].adapters);
    }
    free(v);
}

int32_t model_module(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_modules; i++)
        if (!strcmp(m->modules[i].name, name))
            return (int32_t)i;
    return -1;
}

void engine_stats(struct engine *e, struct engine_stats *out)
{
    (void)e;
    memset(out, 0, sizeof *out);
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
        out->inter_token.bounds[i] = i == HISTOGRAM_BUCKETS - 1 ? INFINITY : i + 1;
    out->end_to_end = out->queue_time = out->adapter_load = out->time_to_first_token =
        out->inter_token;
    strcpy(out->running_names, "alpha,beta");
}
