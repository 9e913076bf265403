/*
 * Owns the four sources of a key and who wins: flags, then the environment, then the file, then the
 * table's own default. They are read in that order and a source never touches a key that an earlier
 * one has set, so a list comes whole from one source.
 *
 * A name that is no key is an error wherever it stands: a misspelt limit must not be silently
 * absent. A key of another command is an error on the command line only; one file and one set of
 * variables serve all commands. Variables that Kubernetes makes for a service named oftd
 * (OFTD_SERVICE_HOST, OFTD_PORT_8080_TCP, ...) are not ours.
 */
#include "config/keys.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

#define FILE_BYTES_MAX (1u << 20)

enum source { UNSET, PRESET, CONFIG_FILE, ENVIRONMENT, FLAGS };

struct reading {
    const struct command *command;
    struct config *c;
    unsigned char *set_by; /* [config_n_keys] enum source */
    struct error *err;
};

/* May this source still set the key? */
static bool is_open(const struct reading *r, const struct key *k, enum source source)
{
    return r->set_by[k - config_keys] <= UNSET || r->set_by[k - config_keys] == source;
}

static enum status set(struct reading *r, const struct key *k, const char *text, enum source source,
                       const struct config_source *from)
{
    r->set_by[k - config_keys] = (unsigned char)source;
    return config_value_set(k, r->c, text, from, r->err);
}

/* ---- names that are no key --------------------------------------------------------------------
 */

enum spelling { AS_FLAG, AS_VARIABLE, AS_MEMBER };

/* The key that the misspelt name was meant to be, spelled like it; NULL if none is near. */
static const char *nearest(unsigned commands, const char *name, enum spelling spelling,
                           char buf[CONFIG_VARIABLE_MAX])
{
    const struct key *found = NULL;
    const char *flags[256];
    char bare[CONFIG_VARIABLE_MAX];
    size_t n = 0, i = 0;
    for (; i < sizeof bare - 1 && name[i]; i++)
        bare[i] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
    bare[i] = 0;
    for (i = 0; i < config_n_keys && n < sizeof flags / sizeof flags[0]; i++)
        if (config_keys[i].flag && (config_keys[i].commands & commands))
            flags[n++] = config_keys[i].flag;
    const char *flag = nearest_word(bare, flags, n);
    found = flag ? config_key(flag, commands) : NULL;
    if (!found)
        return NULL;
    if (spelling == AS_VARIABLE)
        return config_variable(found, buf);
    snprintf(buf, CONFIG_VARIABLE_MAX, "%s%s", spelling == AS_FLAG ? "--" : "", found->flag);
    return buf;
}

static enum status unknown(struct reading *r, const char *spelled, const char *bare,
                           enum spelling spelling, const char *where)
{
    char buf[CONFIG_VARIABLE_MAX];
    unsigned commands = spelling == AS_FLAG ? r->command->bit : ~0u;
    const char *near = nearest(commands, bare, spelling, buf);
    return error_param(r->err, ST_UNKNOWN_FIELD, spelled, "%s%s%s%s: there is no such %s%s%s%s",
                       spelled, where ? " (" : "", where ? where : "", where ? ")" : "",
                       spelling == AS_FLAG ? "flag" : "key", near ? ": did you mean " : "",
                       near ? near : "", near ? "?" : "");
}

/* A flag that only other commands take. */
static enum status misplaced(struct reading *r, const char *spelled, const struct key *k)
{
    for (size_t i = 0; i < config_n_commands; i++)
        if (k->commands & config_commands[i].bit)
            return error_param(r->err, ST_UNKNOWN_FIELD, spelled,
                               "%s: no flag of `oftd %s` (`oftd %s` takes it)", spelled,
                               r->command->name, config_commands[i].name);
    return ST_OK;
}

/* ---- flags ------------------------------------------------------------------------------------
 */

struct arguments {
    int argc, at;
    char **argv;
};

/* One "--flag", "--flag=value" or "--flag value". */
static enum status read_flag(struct reading *r, struct arguments *a)
{
    const char *arg = a->argv[a->at++], *equals = strchr(arg, '='), *value = equals;
    char spelled[96];
    size_t len = equals ? (size_t)(equals - arg) : strlen(arg);
    snprintf(spelled, sizeof spelled, "%.*s", (int)(len < 90 ? len : 90), arg);
    const struct config_source from = {spelled, NULL};
    const char *bare = len > 2 && !strncmp(arg, "--", 2) ? spelled + 2 : "";
    const struct key *k = config_key(bare, r->command->bit);
    if (!k && !equals && !strncmp(bare, "no-", 3)) {
        k = config_key(bare + 3, r->command->bit);
        if (k && k->kind == KIND_BOOL)
            return set(r, k, "false", FLAGS, &from);
        k = NULL;
    }
    if (!k) {
        const struct key *elsewhere = config_key(bare, ~0u);
        return elsewhere ? misplaced(r, spelled, elsewhere)
                         : unknown(r, spelled, bare, AS_FLAG, NULL);
    }
    if (value)
        value++;
    else if (k->kind == KIND_BOOL)
        value = "true";
    else if (a->at < a->argc)
        value = a->argv[a->at++];
    else
        return error_param(r->err, ST_INVALID_VALUE, spelled, "%s: a value is missing", spelled);
    return set(r, k, value, FLAGS, &from);
}

static enum status read_positional(struct reading *r, const char *text)
{
    const char *id = r->command->positional;
    const struct key *k = id ? config_key_by_id(id) : NULL;
    if (!k || (!config_is_repeatable(k) && r->set_by[k - config_keys] == FLAGS))
        return error_param(r->err, ST_INVALID_VALUE, "argument",
                           "`oftd %s` does not take the argument \"%.200s\"", r->command->name,
                           text);
    const struct config_source from = {k->value, NULL};
    enum status s = set(r, k, text, FLAGS, &from);
    if (s == ST_INVALID_VALUE && r->err)
        snprintf(r->err->param, sizeof r->err->param, "argument");
    return s;
}

static enum status read_flags(struct reading *r, int argc, char **argv)
{
    struct arguments a = {.argc = argc, .argv = argv};
    bool flags = true;
    enum status s = ST_OK;
    while (a.at < argc && !s) {
        const char *arg = argv[a.at];
        if (flags && !strcmp(arg, "--")) {
            flags = false;
            a.at++;
        } else if (flags && arg[0] == '-' && arg[1]) {
            s = read_flag(r, &a);
        } else {
            s = read_positional(r, arg);
            a.at++;
        }
    }
    return s;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

/* ---- environment ------------------------------------------------------------------------------
 */

/* Does Kubernetes (or Docker's links) make this variable for a service named oftd or oftd-...? */
static bool is_service_link(const char *name, const char *value)
{
    const char *port = strstr(name, "_PORT");
    if (strstr(name, "_SERVICE_HOST") || strstr(name, "_SERVICE_PORT"))
        return true;
    if (!port)
        return false;
    return port[5] ? port[5] == '_' && isdigit((unsigned char)port[6])
                   : strstr(value, "://") != NULL;
}

/* The value of a variable, whole or, for a list, piece by piece. */
static enum status set_variable(struct reading *r, const struct key *k, const char *value,
                                const struct config_source *from)
{
    if (!config_is_repeatable(k))
        return set(r, k, value, ENVIRONMENT, from);
    enum status s = ST_OK;
    char *copy = strdup(value), *rest = NULL;
    const char *separator = k->kind == KIND_PATHS ? ":" : ",";
    if (!copy)
        return error_memory(r->err, "reading the environment");
    for (char *piece = strtok_r(copy, separator, &rest); piece && !s;
         piece = strtok_r(NULL, separator, &rest))
        s = set(r, k, piece, ENVIRONMENT, from);
    free(copy);
    return s;
}

static enum status read_environment(struct reading *r, char **envp)
{
    enum status s = ST_OK;
    for (; envp && *envp && !s; envp++) {
        const char *equals = strchr(*envp, '=');
        char name[96];
        if (strncmp(*envp, "OFTD_", 5) || !equals || !equals[1]) // empty: as if it were not there
            continue;
        size_t len = (size_t)(equals - *envp);
        snprintf(name, sizeof name, "%.*s", (int)(len < 90 ? len : 90), *envp);
        char flag[96];
        for (size_t i = 5; i <= strlen(name); i++)
            flag[i - 5] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
        const struct config_source from = {name, "environment"};
        const struct key *k = config_key(flag, r->command->bit);
        bool upper = true;
        for (size_t i = 0; name[i]; i++)
            upper &= !islower((unsigned char)name[i]) && name[i] != '-';
        if (upper && k) {
            if (is_open(r, k, ENVIRONMENT))
                s = set_variable(r, k, equals + 1, &from);
        } else if (!upper || (!config_key(flag, ~0u) && !is_service_link(name, equals + 1))) {
            s = unknown(r, name, name + 5, AS_VARIABLE, "environment");
        }
    }
    return s;
}

/* ---- file -------------------------------------------------------------------------------------
 */

static enum status set_member(struct reading *r, const struct key *k, const json_t *v,
                              const struct config_source *from);

/* The elements of a list, or the members of an object of pairs. */
static enum status set_members(struct reading *r, const struct key *k, const json_t *v,
                               const struct config_source *from)
{
    enum status s = ST_OK;
    const char *name;
    json_t *value;
    r->set_by[k - config_keys] = CONFIG_FILE; // an empty list is a list, too
    for (size_t i = 0; i < json_array_size(v) && !s; i++) {
        const json_t *x = json_array_get(v, i);
        s = json_is_string(x)
                ? set_member(r, k, x, from)
                : error_param(r->err, ST_INVALID_VALUE, from->spelled,
                              "%s (%s): expected an array of strings", from->spelled, from->where);
    }
    json_object_foreach((json_t *)v, name, value)
    {
        if (s)
            break;
        s = json_is_string(value)
                ? config_value_pair(k, r->c, name, json_string_value(value), from, r->err)
                : error_param(r->err, ST_INVALID_VALUE, from->spelled,
                              "%s (%s): expected an object of strings", from->spelled, from->where);
    }
    return s;
}

static enum status set_number(struct reading *r, const struct key *k, const json_t *v,
                              const struct config_source *from)
{
    char text[64];
    if (json_is_integer(v))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    else
        snprintf(text, sizeof text, "%.17g", json_real_value(v));
    return set(r, k, text, CONFIG_FILE, from);
}

static enum status set_member(struct reading *r, const struct key *k, const json_t *v,
                              const struct config_source *from)
{
    bool pairs = k->kind == KIND_PAIRS && json_is_object(v);
    if (json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v))
        return set(r, k, json_string_value(v), CONFIG_FILE, from);
    if (json_is_boolean(v) && k->kind == KIND_BOOL)
        return set(r, k, json_is_true(v) ? "true" : "false", CONFIG_FILE, from);
    if (json_is_number(v) && k->kind != KIND_BOOL && !config_is_repeatable(k))
        return set_number(r, k, v, from);
    if (pairs || (config_is_repeatable(k) && json_is_array(v)))
        return set_members(r, k, v, from);
    if (k->kind == KIND_RANGES && json_is_array(v)) {
        char *text = json_text(v, JSON_COMPACT);
        enum status s = text ? set(r, k, text, CONFIG_FILE, from)
                             : error_memory(r->err, "reading the configuration");
        free(text);
        return s;
    }
    char range[CONFIG_RANGE_MAX];
    return error_param(r->err, ST_INVALID_VALUE, from->spelled,
                       "%s (%s): expected %s, got another JSON type", from->spelled, from->where,
                       config_range_text(k, range));
}

static enum status read_members(struct reading *r, json_t *members, const char *path)
{
    enum status s = ST_OK;
    const char *name;
    json_t *value, *seen = json_object();
    if (!seen)
        return error_memory(r->err, "reading the configuration");
    json_object_foreach(members, name, value)
    {
        char spelled[96];
        snprintf(spelled, sizeof spelled, "%.90s", name);
        const struct config_source from = {spelled, path};
        const struct key *any = config_key(name, ~0u), *k = config_key(name, r->command->bit);
        if (!any || !strcmp(any->id, "config"))
            s = unknown(r, spelled, name, AS_MEMBER, path);
        else if (json_object_get(seen, any->flag))
            s = error_param(r->err, ST_CONFIG_DUPLICATE_KEY, spelled,
                            "%s (%s): the key is there in two spellings", spelled, path);
        else if (json_object_set_new(seen, any->flag, json_true()))
            s = error_memory(r->err, "reading the configuration");
        else if (k && is_open(r, k, CONFIG_FILE))
            s = set_member(r, k, value, &from);
        if (s)
            break;
    }
    json_decref(seen);
    return s;
}

static enum status read_file(struct reading *r)
{
    json_t *members = NULL;
    if (!r->c->config)
        return ST_OK;
    enum status s = json_read(r->c->config, FILE_BYTES_MAX, &members, r->err);
    if (!s)
        s = read_members(r, members, r->c->config);
    json_decref(members);
    return s;
}

/* ---- defaults and rules -----------------------------------------------------------------------
 */

static enum status read_presets(struct reading *r)
{
    enum status s = ST_OK;
    for (size_t i = 0; i < config_n_keys && !s; i++) {
        const struct key *k = &config_keys[i];
        const struct config_source from = {k->flag, "default"};
        if (k->preset && r->set_by[i] == UNSET)
            s = set(r, k, k->preset, PRESET, &from);
    }
    return s;
}

static enum status check_needed(struct reading *r)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct key *k = &config_keys[i];
        if (!(k->needed & r->command->bit) || r->set_by[i] > PRESET)
            continue;
        bool positional = r->command->positional && !strcmp(r->command->positional, k->id);
        bool named = k->flag && (!positional || config_is_repeatable(k));
        return error_param(r->err, ST_MISSING_FIELD, k->flag ? k->flag : k->id,
                           "`oftd %s` needs %s%s%s", r->command->name, named ? "--" : "",
                           named ? k->flag : "", named ? "" : k->value);
    }
    return ST_OK;
}

/* Keys that mean nothing alone. */
static enum status check_together(struct reading *r)
{
    static const char *const pairs[][2] = {{"tls_cert", "tls_key"}, {"module", "output"}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const struct key *a = config_key_by_id(pairs[i][0]), *b = config_key_by_id(pairs[i][1]);
        bool has_a = r->set_by[a - config_keys] > PRESET,
             has_b = r->set_by[b - config_keys] > PRESET;
        if (has_a == has_b || !(a->commands & b->commands & r->command->bit))
            continue;
        return error_param(r->err, ST_MISSING_FIELD, has_a ? b->flag : a->flag, "--%s needs --%s",
                           has_a ? a->flag : b->flag, has_a ? b->flag : a->flag);
    }
    return ST_OK;
}

static enum status read_all(struct reading *r, int argc, char **argv, char **envp)
{
    enum status s = read_flags(r, argc, argv);
    if (!s)
        s = read_environment(r, envp);
    if (!s)
        s = read_file(r);
    if (!s)
        s = read_presets(r);
    if (!s)
        s = check_needed(r);
    if (!s)
        s = check_together(r);
    return s;
}

static enum status unknown_command(const char *name, struct error *err)
{
    const char *names[16];
    for (size_t i = 0; i < config_n_commands; i++)
        names[i] = config_commands[i].name;
    const char *near = nearest_word(name, names, config_n_commands);
    return error_param(err, ST_UNKNOWN_FIELD, "argument", "%.100s: there is no such command%s%s%s",
                       name, near ? ": did you mean " : "", near ? near : "", near ? "?" : "");
}

enum status config_parse(const char *command, int argc, char **argv, char **envp,
                         struct config *out, struct error *err)
{
    struct reading r = {.command = config_command(command), .c = out, .err = err};
    memset(out, 0, sizeof *out);
    if (!r.command)
        return unknown_command(command, err);
    if (asks_for_help(argc, argv)) {
        out->help = true;
        return ST_OK;
    }
    r.set_by = calloc(config_n_keys, 1);
    if (!r.set_by)
        return error_memory(err, "reading the configuration");
    enum status s = read_all(&r, argc, argv, envp);
    free(r.set_by);
    if (s)
        config_clear(out);
    return s;
}

void config_clear(struct config *c)
{
    for (size_t i = 0; i < config_n_keys; i++)
        if (config_keys[i].id)
            config_value_clear(&config_keys[i], c);
    memset(c, 0, sizeof *c);
}

bool config_is_usage(const struct error *err)
{
    return err->code == ST_MISSING_FIELD || err->param[0] == '-' || !strcmp(err->param, "argument");
}
