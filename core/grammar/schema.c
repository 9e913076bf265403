/*
 * Owns what keywords mean together. A schema becomes one alternative for each type that it allows,
 * narrowed by that type's keywords; $ref becomes a call of a rule, so recursion is no matter.
 * allOf, and anyOf or $ref beside other keywords, are first merged into one schema where that is
 * plain (schema_merge.c). What we do not have is refused: a keyword that is ignored would be a lie.
 */
#include "core/grammar/schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/grammar/formats.h"
#include "core/grammar/kinds.h"
#include "core/grammar/regex.h"
#include "core/grammar/schema_arguments.h"
#include "core/grammar/schema_merge.h"
#include "core/grammar/schema_names.h"
#include "core/grammar/values.h"

#define DEPTH_MAX 64
#define COUNT_MAX 10000

#define PATH_BYTES_MAX 400

enum type { OBJECT = 1, ARRAY = 2, STRING = 4, NUMBER = 8, INTEGER = 16, BOOLEAN = 32, NONE = 64 };
#define ALL_TYPES (OBJECT | ARRAY | STRING | NUMBER | BOOLEAN | NONE)

static const struct {
    const char *name;
    enum type type;
} types[] = {{"object", OBJECT},   {"array", ARRAY},     {"string", STRING}, {"number", NUMBER},
             {"integer", INTEGER}, {"boolean", BOOLEAN}, {"null", NONE}};

/* Keywords, and the types that they narrow; 0: they say nothing about values, or are read apart. */
static const struct {
    const char *name;
    unsigned narrows;
} keywords[] = {{"type", 0},
                {"enum", 0},
                {"const", 0},
                {"anyOf", 0},
                {"oneOf", 0},
                {"allOf", 0},
                {"$ref", 0},
                {"properties", OBJECT},
                {"required", OBJECT},
                {"additionalProperties", OBJECT},
                {"items", ARRAY},
                {"prefixItems", ARRAY},
                {"minItems", ARRAY},
                {"maxItems", ARRAY},
                {"minLength", STRING},
                {"maxLength", STRING},
                {"pattern", STRING},
                {"format", STRING},
                {"minimum", NUMBER},
                {"maximum", NUMBER},
                {"exclusiveMinimum", NUMBER},
                {"exclusiveMaximum", NUMBER},
                {"title", 0},
                {"description", 0},
                {"default", 0},
                {"examples", 0},
                {"deprecated", 0},
                {"readOnly", 0},
                {"writeOnly", 0},
                {"$schema", 0},
                {"$comment", 0},
                {"$defs", 0},
                {"definitions", 0}};

struct reference {
    const char *pointer;
    unsigned only;
    int32_t rule;
    struct reference *next;
};

struct schema {
    struct builder *b;
    const json_t *root;
    struct values values;
    bool call;                      /* the next object is a call's arguments ... */
    const struct schema_tags *tags; /* ... in tags (NULL: Python's keywords) */
    unsigned only;                  /* types that the value between two tags may have; 0: no such */
    struct reference *references;
    int depth;
    enum status status;
    struct error *err;
};

static struct fragment read(struct schema *s, const json_t *schema, const char *path);

static void add_place(const char *part, size_t n, char *text, size_t size)
{
    size_t used = strlen(text);
    bool number = n && strspn(part, "0123456789") >= n;
    if (used + n + 3 <= size)
        snprintf(text + used, size - used, number ? "[%.*s]" : ".%.*s", (int)n, part);
}

/* Where in the field an error lies: "/a/0" and key are .a[0].key; key may be NULL. What does not
 * fit is left out. */
static void place(const char *path, const char *key, char *text, size_t size)
{
    *text = 0;
    for (const char *at = path + strspn(path, "#"); *at == '/'; at += strcspn(at, "/")) {
        at++;
        add_place(at, strcspn(at, "/"), text, size);
    }
    if (key)
        add_place(key, strlen(key), text, size);
}

static struct fragment refuse(struct schema *s, const char *path, const char *key, const char *what)
{
    char param[sizeof s->err->param];
    place(path, key, param, sizeof param);
    if (!s->status && !s->b->failed)
        s->status = error_param(s->err, ST_INVALID_VALUE, param, "schema%s%s%s: %s", path,
                                key ? "/" : "", key ? key : "", what);
    return fragment_never(s->b);
}

static bool going(const struct schema *s)
{
    return !s->status && !s->b->failed;
}

/* path/key, in the arena; "" when there is no memory. It is for people: what does not fit is left
 * out. */
static const char *below(struct schema *s, const char *path, const char *key)
{
    size_t n = strlen(path) + strlen(key) + 2;
    if (n > PATH_BYTES_MAX)
        return path;
    char *text = arena_alloc(&s->b->arena, n);
    if (!text) {
        s->b->failed = ST_OUT_OF_MEMORY;
        return "";
    }
    snprintf(text, n, "%s/%s", path, key);
    return text;
}

static const char *below_at(struct schema *s, const char *path, const char *key, size_t i)
{
    char number[24];
    snprintf(number, sizeof number, "%zu", i);
    return below(s, below(s, path, key), number);
}

/* ---- what a schema says ---- */

static unsigned narrows(struct schema *s, const json_t *schema, const char *path)
{
    const char *key;
    json_t *value;
    unsigned all = 0;
    json_object_foreach((json_t *)schema, key, value)
    {
        size_t i = 0, n = sizeof keywords / sizeof keywords[0];
        while (i < n && strcmp(keywords[i].name, key) != 0)
            i++;
        bool idle = (!strcmp(key, "uniqueItems") && json_is_false(value)) ||
                    (!strcmp(key, "$id") && !*path); // it names all; deeper, $ref would be of it
        if (i == n && !idle)
            refuse(s, path, key, "this keyword is not supported");
        else if (!idle)
            all |= keywords[i].narrows;
    }
    return all;
}

static unsigned type_of_name(struct schema *s, const json_t *name, const char *path)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (json_is_string(name) && !strcmp(json_string_value(name), types[i].name))
            return types[i].type;
    refuse(s, path, "type",
           "expected object, array, string, number, integer, boolean, null or a list of them");
    return 0;
}

static unsigned types_of(struct schema *s, const json_t *schema, const char *path)
{
    const json_t *type = json_object_get(schema, "type");
    unsigned all = 0, narrowed = narrows(s, schema, path);
    json_t *one;
    size_t i;
    if (!type) // keywords of one type are most likely meant for it
        return narrowed && !(narrowed & (narrowed - 1)) ? narrowed : ALL_TYPES;
    if (!json_is_array(type))
        return type_of_name(s, type, path);
    json_array_foreach((json_t *)type, i, one)
    {
        all |= type_of_name(s, one, path);
    }
    return all & NUMBER ? all & ~(unsigned)INTEGER : all;
}

/* A count, `none` if the keyword is absent. */
static int64_t count(struct schema *s, const json_t *schema, const char *path, const char *key,
                     int64_t none)
{
    const json_t *v = json_object_get(schema, key);
    double x = json_number_value(v);
    if (!v)
        return none;
    if (!json_is_number(v) || x < 0 || x != floor(x) || x > COUNT_MAX) {
        refuse(s, path, key, "expected a whole number from 0 to 10000");
        return none;
    }
    return (int64_t)x;
}

/* ---- strings, numbers ---- */

/* Between quotes, or as it is between tags. */
static struct fragment quoted(struct schema *s, struct fragment content)
{
    return s->only ? content : values_quoted(&s->values, content);
}

static struct fragment characters(struct schema *s, int64_t from, int64_t to)
{
    struct chars none = {0}, all = chars_not(s->b, &none);
    if (!s->only)
        return values_string(&s->values, from, to);
    if (from > 0 || to != REPEAT_MANY)
        return fragment_repeat(s->b, chars_fragment(s->b, &all), from, to);
    return fragment_without(s->b, s->tags->stop, strlen(s->tags->stop), "", SPECIAL_BYTE - 1);
}

static struct fragment string(struct schema *s, const json_t *schema, const char *path)
{
    const json_t *pattern = json_object_get(schema, "pattern");
    const json_t *format = json_object_get(schema, "format");
    int64_t from = count(s, schema, path, "minLength", 0);
    int64_t to = count(s, schema, path, "maxLength", REPEAT_MANY);
    bool length = from > 0 || to != REPEAT_MANY;
    struct fragment content;
    if (to != REPEAT_MANY && to < from)
        return refuse(s, path, "maxLength", "it is below minLength");
    if ((pattern != NULL) + (format != NULL) + length > 1)
        return refuse(s, path, NULL, "pattern, format and a length together are not supported");
    if (format) {
        const char *regex = format_regex(json_string_value(format));
        if (!regex)
            return refuse(s, path, "format", "expected " FORMATS);
        if (regex_read(s->b, regex, strlen(regex), REGEX_WHOLE, &content, s->err))
            return refuse(s, path, "format", "cannot be read");
        return quoted(s, content);
    }
    if (!pattern)
        return characters(s, from, to);
    if (!json_is_string(pattern))
        return refuse(s, path, "pattern", "expected a string");
    enum status st = regex_read(s->b, json_string_value(pattern), json_string_length(pattern),
                                s->only ? REGEX_SEARCH : REGEX_JSON_SEARCH, &content, s->err);
    if (st && !s->status) {
        s->status = st;
        if (s->err)
            place(path, "pattern", s->err->param, sizeof s->err->param);
    }
    return quoted(s, content);
}

/* The tighter of an end and an open end. */
static struct bound bound(struct schema *s, const json_t *schema, const char *path,
                          const char *closed, const char *open, int sign)
{
    const json_t *a = json_object_get(schema, closed), *b = json_object_get(schema, open);
    struct bound out = {.given = a || b};
    if ((a && !json_is_number(a)) || (b && !json_is_number(b)))
        refuse(s, path, a && !json_is_number(a) ? closed : open, "expected a number");
    out.open = b && (!a || sign * json_number_value(b) >= sign * json_number_value(a));
    out.at = json_number_value(out.open ? b : a);
    return out;
}

static struct fragment number(struct schema *s, const json_t *schema, const char *path, bool whole)
{
    struct bound low = bound(s, schema, path, "minimum", "exclusiveMinimum", 1);
    struct bound high = bound(s, schema, path, "maximum", "exclusiveMaximum", -1);
    struct fragment out;
    if (!low.given && !high.given)
        return whole ? values_integer(&s->values) : values_number(&s->values);
    if (!whole) {
        struct error why = ERROR_INIT;
        if (values_decimals(&s->values, low, high, &out, &why))
            refuse(s, path, NULL, why.text);
        return out;
    }
    const double limit = 1e15;
    if (fabs(low.at) > limit || fabs(high.at) > limit)
        return refuse(s, path, NULL, "bounds of an integer must lie between -1e15 and 1e15");
    double first = low.open ? floor(low.at) + 1 : ceil(low.at);
    double last = high.open ? ceil(high.at) - 1 : floor(high.at);
    first = low.given ? first : -limit * 1000;
    last = high.given ? last : limit * 1000;
    if (first > last)
        return refuse(s, path, NULL, "no integer lies between the bounds");
    return values_integers(&s->values, (int64_t)first, (int64_t)last);
}

/* ---- arrays ---- */

static struct fragment array(struct schema *s, const json_t *schema, const char *path)
{
    struct builder *b = s->b;
    const json_t *prefix = json_object_get(schema, "prefixItems");
    const json_t *items = json_object_get(schema, "items");
    size_t n = json_array_size(prefix);
    int64_t from = count(s, schema, path, "minItems", 0);
    int64_t to = count(s, schema, path, "maxItems", REPEAT_MANY);
    if ((prefix && !json_is_array(prefix)) || json_is_array(items))
        return refuse(s, path, prefix ? "prefixItems" : "items",
                      "expected a list of schemas in prefixItems, a schema in items");
    if (to != REPEAT_MANY && to < from)
        return refuse(s, path, "maxItems", "it is below minItems");
    /* from the last one back: what may follow when i items are there */
    bool more = !json_is_false(items) && (to == REPEAT_MANY || to > (int64_t)n);
    struct fragment rest = fragment_empty(b);
    if (more) {
        int32_t rule = builder_rule(b);
        builder_define(b, rule,
                       items ? read(s, items, below(s, path, "items")) : values_any(&s->values));
        struct fragment item = fragment_call(b, rule);
        int64_t least = from > (int64_t)n ? from - (int64_t)n : 0;
        int64_t most = to == REPEAT_MANY ? to : to - (int64_t)n;
        if (n == 0) { // the first one has no comma
            struct fragment next =
                fragment_then(b, values_comma(&s->values), fragment_copy(b, item));
            next = fragment_repeat(b, next, least ? least - 1 : 0,
                                   most == REPEAT_MANY ? most : most - 1);
            rest = fragment_repeat(b, fragment_then(b, item, next), least > 0, 1);
        } else {
            rest =
                fragment_repeat(b, fragment_then(b, values_comma(&s->values), item), least, most);
        }
    } else if (from > (int64_t)n) {
        return refuse(s, path, "minItems", "there cannot be as many items");
    }
    for (size_t i = n; i-- > 0 && going(s);) {
        if (to != REPEAT_MANY && (int64_t)i >= to)
            continue;
        struct fragment item =
            read(s, json_array_get(prefix, i), below_at(s, path, "prefixItems", i));
        if (i)
            item = fragment_then(b, values_comma(&s->values), item);
        rest = fragment_repeat(b, fragment_then(b, item, rest), (int64_t)i < from, 1);
    }
    return values_between(&s->values, '[', rest, ']');
}

/* ---- objects ---- */

static struct fragment name_of(struct schema *s, const char *key, size_t len)
{
    json_t *name = json_stringn(key, len);
    if (!name)
        s->b->failed = ST_OUT_OF_MEMORY;
    struct fragment f = name ? values_constant(&s->values, name) : fragment_never(s->b);
    json_decref(name);
    return f;
}

static bool is_required(const json_t *required, const char *key, size_t len)
{
    size_t i;
    json_t *one;
    json_array_foreach((json_t *)required, i, one)
    {
        if (json_string_length(one) == len && !memcmp(json_string_value(one), key, len))
            return true;
    }
    return false;
}

/* name: value of each property as a rule of its own. */
struct member {
    int32_t rule;
    bool required;
};

/* What may follow when something stands already: rule i is ", member i" and rule i + 1. */
static int32_t followers(struct schema *s, const struct member *v, size_t n, struct fragment others,
                         int32_t *rules)
{
    struct builder *b = s->b;
    rules[n] = builder_rule(b);
    builder_define(b, rules[n], others);
    for (size_t i = n; i-- > 0;) {
        struct fragment one =
            fragment_then(b, values_comma(&s->values), fragment_call(b, v[i].rule));
        one = fragment_repeat(b, one, v[i].required, 1);
        rules[i] = builder_rule(b);
        builder_define(b, rules[i], fragment_then(b, one, fragment_call(b, rules[i + 1])));
    }
    return rules[0];
}

/* All members in order; others: a further member, or in < 0. */
static struct fragment members(struct schema *s, const struct member *v, size_t n,
                               struct fragment other)
{
    struct builder *b = s->b;
    int32_t *rules = arena_alloc(&b->arena, (n + 1) * sizeof *rules);
    if (!rules) {
        b->failed = ST_OUT_OF_MEMORY;
        return fragment_never(b);
    }
    struct fragment others = fragment_empty(b), first = fragment_never(b);
    if (other.in >= 0) {
        struct fragment next = fragment_then(b, values_comma(&s->values), fragment_copy(b, other));
        others = fragment_repeat(b, next, 0, REPEAT_MANY);
    }
    followers(s, v, n, others, rules);
    bool required = false;
    for (size_t i = 0; i < n && !required; i++) {
        struct fragment start = fragment_call(b, v[i].rule);
        first = fragment_or(b, first, fragment_then(b, start, fragment_call(b, rules[i + 1])));
        required = v[i].required;
    }
    if (required)
        return first;
    if (other.in >= 0)
        first = fragment_or(b, first, fragment_then(b, other, fragment_call(b, rules[n])));
    return fragment_or(b, first, fragment_empty(b));
}

/* ---- the arguments of a call ---- */

/* Do the tags tell a string from other values? */
static bool tells(const struct schema *s)
{
    return s->tags && s->tags->other;
}

/* Types by kinds; where the tags do not tell, what may be a string is one, or null. */
static unsigned types_between_tags(const struct schema *s, unsigned kinds)
{
    unsigned all = kinds & KIND_NULL ? NONE : 0;
    if (kinds & KIND_STRING && !tells(s))
        return all | STRING;
    all |= kinds & KIND_STRING ? STRING : 0;
    all |= kinds & KIND_NUMBER ? NUMBER | INTEGER : 0;
    all |= kinds & KIND_BOOLEAN ? BOOLEAN : 0;
    return all | (kinds & KIND_NESTED ? OBJECT | ARRAY : 0);
}

/* An argument with a value of some types (0: it is not between tags); schema NULL: with any name,
 * and any value. */
static struct fragment argument_of(struct schema *s, const char *key, size_t len,
                                   const json_t *schema, const char *path, unsigned only)
{
    struct fragment value;
    s->only = only;
    if (schema)
        value = read(s, schema, path);
    else
        value = only & STRING ? characters(s, 0, REPEAT_MANY) : values_any(&s->values);
    s->only = 0;
    struct fragment name = schema ? fragment_text(s->b, key, len) : arguments_any_name(s->b);
    return arguments_one(&s->values, s->tags, name, value, tells(s) && !(only & STRING));
}

static struct fragment argument(struct schema *s, const char *key, size_t len, const json_t *schema,
                                const char *path)
{
    unsigned kinds = schema ? kinds_allowed(s->root, schema) : 0, only = 0;
    if (schema && !arguments_hold(s->tags, key, len))
        return refuse(s, path, NULL, "the base's way of writing calls cannot write this name");
    if (s->tags)
        only = types_between_tags(s, kinds ? kinds : tells(s) ? ~0u : KIND_STRING);
    if (!tells(s) || !(only & STRING) || only == STRING)
        return argument_of(s, key, len, schema, path, only);
    struct fragment string = argument_of(s, key, len, schema, path, STRING);
    return fragment_or(s->b, string, argument_of(s, key, len, schema, path, only & ~STRING));
}

/* Where nothing is known of them. */
static struct fragment any_argument(struct schema *s)
{
    return argument(s, NULL, 0, NULL, NULL);
}

static struct fragment arguments(struct schema *s, const struct member *v, size_t n,
                                 struct fragment other)
{
    struct fragment f = fragment_empty(s->b);
    if (!s->tags)
        return values_between(&s->values, '(', members(s, v, n, other), ')');
    for (size_t i = 0; i < n; i++)
        f = fragment_then(s->b, f,
                          fragment_repeat(s->b, fragment_call(s->b, v[i].rule), v[i].required, 1));
    return other.in < 0 ? f : fragment_then(s->b, f, fragment_repeat(s->b, other, 0, REPEAT_MANY));
}

/* ---- objects ---- */

static struct fragment object(struct schema *s, const json_t *schema, const char *path)
{
    bool call = s->call;
    s->call = false;
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *required = json_object_get(schema, "required");
    const json_t *additional = json_object_get(schema, "additionalProperties");
    size_t n = json_object_size(properties), known = 0, i = 0, len;
    const char *key;
    json_t *value;
    if (properties && !json_is_object(properties))
        return refuse(s, path, "properties", "expected an object");
    if (required && !json_is_array(required))
        return refuse(s, path, "required", "expected a list of names");
    struct member *v = arena_alloc(&s->b->arena, (n + 1) * sizeof *v);
    if (!v) {
        s->b->failed = ST_OUT_OF_MEMORY;
        return fragment_never(s->b);
    }
    json_object_keylen_foreach((json_t *)properties, key, len, value)
    {
        if (!going(s) || !builder_spend(s->b, json_array_size(required)))
            break;
        v[i].rule = builder_rule(s->b);
        v[i].required = is_required(required, key, len);
        known += v[i].required;
        const char *at = below(s, below(s, path, "properties"), key);
        struct fragment f = call ? argument(s, key, len, value, at) : read(s, value, at);
        if (!call) // the name comes second: what is wrong with the value is told first
            f = values_member(&s->values, name_of(s, key, len), f);
        builder_define(s->b, v[i++].rule, f);
    }
    if (!going(s))
        return fragment_never(s->b);
    if (known < json_array_size(required))
        return refuse(s, path, "required", "it names what properties does not");
    struct fragment other = {-1, -1};
    if (call)
        return arguments(s, v, n, n || json_is_false(additional) ? other : any_argument(s));
    if (additional ? !json_is_false(additional) : n == 0) {
        struct fragment inner = additional
                                    ? read(s, additional, below(s, path, "additionalProperties"))
                                    : values_any(&s->values);
        struct fragment name = n ? schema_other_name(&s->values, properties)
                                 : values_string(&s->values, 0, REPEAT_MANY);
        other = values_member(&s->values, name, inner);
    }
    return values_between(&s->values, '{', members(s, v, n, other), '}');
}

/* ---- schemas ---- */

/* As Python prints it, and so templates between tags. */
static struct fragment pythons(struct schema *s, const json_t *v)
{
    const char *word = json_is_null(v) ? "None" : json_is_true(v) ? "True" : "False";
    return fragment_text(s->b, word, strlen(word));
}

static struct fragment typed(struct schema *s, const json_t *schema, const char *path)
{
    unsigned all = types_of(s, schema, path), only = s->only;
    struct fragment f = no_fragment;
    all &= only ? only : ~0u;
    s->only = 0;
    if (all & OBJECT)
        f = fragment_or(s->b, f, object(s, schema, path));
    if (all & ARRAY)
        f = fragment_or(s->b, f, array(s, schema, path));
    s->only = only;
    if (all & STRING)
        f = fragment_or(s->b, f, string(s, schema, path));
    if (all & (NUMBER | INTEGER))
        f = fragment_or(s->b, f, number(s, schema, path, !(all & NUMBER)));
    if (all & BOOLEAN)
        f = fragment_or(s->b, f, values_boolean(&s->values));
    if (all & NONE)
        f = fragment_or(s->b, f, values_null(&s->values));
    if (all & BOOLEAN && only && !tells(s))
        f = fragment_or(s->b, f,
                        fragment_or(s->b, pythons(s, json_true()), pythons(s, json_false())));
    if (all & NONE && only && !tells(s))
        f = fragment_or(s->b, f, pythons(s, json_null()));
    return f.in >= 0 ? f : fragment_never(s->b);
}

static bool has_type(const json_t *v, unsigned all)
{
    double x = json_number_value(v);
    return (json_is_object(v) && all & OBJECT) || (json_is_array(v) && all & ARRAY) ||
           (json_is_string(v) && all & STRING) || (json_is_number(v) && all & NUMBER) ||
           (json_is_number(v) && all & INTEGER && x == floor(x)) ||
           (json_is_boolean(v) && all & BOOLEAN) || (json_is_null(v) && all & NONE);
}

/* f, or this value; between tags a string that would end there stands for nothing. */
static struct fragment constant(struct schema *s, const json_t *v, struct fragment f)
{
    if (s->only && !tells(s) && (json_is_boolean(v) || json_is_null(v)))
        f = fragment_or(s->b, f, pythons(s, v));
    if (!s->only || !json_is_string(v))
        return fragment_or(s->b, f, values_constant(&s->values, v));
    const char *word = json_string_value(v);
    size_t len = json_string_length(v), stop = strlen(s->tags->stop);
    if (memmem(word, len, s->tags->stop, stop))
        return f;
    return fragment_or(s->b, f, fragment_text(s->b, word, len));
}

/* enum or const: the values that have the type. */
static struct fragment constants(struct schema *s, const json_t *schema, const char *path)
{
    const json_t *list = json_object_get(schema, "enum"), *one = json_object_get(schema, "const");
    unsigned all = json_object_get(schema, "type") ? types_of(s, schema, path) : ALL_TYPES;
    struct fragment f = no_fragment;
    all &= s->only ? s->only : ~0u;
    if (narrows(s, schema, path))
        return refuse(s, path, list ? "enum" : "const",
                      "beside keywords that narrow it further it is not supported");
    if (list && !json_is_array(list))
        return refuse(s, path, "enum", "expected a list");
    for (size_t i = 0; i < (list ? json_array_size(list) : 1) && going(s); i++) {
        const json_t *v = list ? json_array_get(list, i) : one;
        if (has_type(v, all) && (!list || !one || json_equal(v, one)))
            f = constant(s, v, f);
    }
    return f.in >= 0 ? f : refuse(s, path, list ? "enum" : "const", "no value is left");
}

static struct fragment reference(struct schema *s, const json_t *ref, const char *path)
{
    const char *pointer = json_string_value(ref);
    if (!pointer)
        return refuse(s, path, "$ref", "expected a string");
    for (const struct reference *r = s->references; r && builder_spend(s->b, 2); r = r->next)
        if (!strcmp(r->pointer, pointer) && r->only == s->only)
            return fragment_call(s->b, r->rule);
    const json_t *target = schema_find(s->root, pointer);
    if (!target)
        return refuse(s, path, "$ref", "expected a pointer (#/...) to what the schema has");
    struct reference *r = arena_alloc(&s->b->arena, sizeof *r);
    if (!r) {
        s->b->failed = ST_OUT_OF_MEMORY;
        return fragment_never(s->b);
    }
    *r = (struct reference){pointer, s->only, builder_rule(s->b), s->references};
    s->references = r;
    int depth = s->depth;
    s->depth = 0;
    builder_define(s->b, r->rule, read(s, target, pointer));
    s->depth = depth;
    return fragment_call(s->b, r->rule);
}

/* Is there anything beside this keyword that narrows? */
static bool alone(const json_t *schema, const char *keyword)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value)
    {
        if (strcmp(key, keyword) != 0 && !schema_idle(key))
            return false;
    }
    return true;
}

/* The schema without the keyword, with another one merged into it. */
static struct fragment merged(struct schema *s, const json_t *schema, const char *keyword,
                              const json_t *other, const char *path)
{
    json_t *whole = NULL;
    char why[128];
    enum status st = schema_merge(s->b, s->root, schema, keyword, other, &whole, why, sizeof why);
    struct fragment f = fragment_never(s->b);
    if (st == ST_OUT_OF_MEMORY)
        s->b->failed = st;
    else if (st)
        refuse(s, path, keyword, why);
    else
        f = read(s, whole, path);
    json_decref(whole);
    return f;
}

static struct fragment one_of(struct schema *s, const json_t *schema, const char *path,
                              const char *keyword)
{
    const json_t *list = json_object_get(schema, keyword);
    bool bare = alone(schema, keyword);
    struct fragment f = no_fragment;
    if (!json_is_array(list) || !json_array_size(list))
        return refuse(s, path, keyword, "expected a list of schemas");
    if (!strcmp(keyword, "oneOf") && !schema_disjoint(s->b, s->root, list))
        return refuse(s, path, keyword,
                      "only schemas of which no two can hold at once are supported (types, or a "
                      "required property with a constant of its own): use anyOf");
    for (size_t i = 0; i < json_array_size(list) && going(s); i++) {
        const json_t *one = json_array_get(list, i);
        f = fragment_or(s->b, f,
                        bare ? read(s, one, below_at(s, path, keyword, i))
                             : merged(s, schema, keyword, one, path));
    }
    return f;
}

static struct fragment all_of(struct schema *s, const json_t *schema, const char *path)
{
    const json_t *list = json_object_get(schema, "allOf");
    if (!json_is_array(list) || !json_array_size(list))
        return refuse(s, path, "allOf", "expected a list of schemas");
    return merged(s, schema, "allOf", NULL, path);
}

static struct fragment read(struct schema *s, const json_t *schema, const char *path)
{
    if (!going(s))
        return fragment_never(s->b);
    if (json_is_true(schema))
        return values_any(&s->values);
    if (json_is_false(schema))
        return fragment_never(s->b);
    if (!json_is_object(schema))
        return refuse(s, path, NULL, "a schema is an object, true or false");
    if (++s->depth > DEPTH_MAX)
        return refuse(s, path, NULL, "schemas are nested too deep");
    struct fragment f;
    const json_t *ref = json_object_get(schema, "$ref");
    narrows(s, schema, path);
    if (json_object_get(schema, "allOf"))
        f = all_of(s, schema, path);
    else if (ref)
        f = alone(schema, "$ref") ? reference(s, ref, path) : merged(s, schema, "$ref", ref, path);
    else if (json_object_get(schema, "anyOf"))
        f = one_of(s, schema, path, "anyOf");
    else if (json_object_get(schema, "oneOf"))
        f = one_of(s, schema, path, "oneOf");
    else if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
        f = constants(s, schema, path);
    else
        f = typed(s, schema, path);
    s->depth--;
    return f;
}

enum status schema_fragment(struct values *v, const json_t *schema, struct fragment *out,
                            struct error *err)
{
    struct schema s = {.b = v->b, .root = schema, .values = *v, .err = err};
    *out = read(&s, schema, "");
    *v = s.values;
    return s.status ? s.status : builder_failed(v->b, err);
}

enum status schema_arguments(struct values *v, const json_t *schema, const struct schema_tags *tags,
                             struct fragment *out, struct error *err)
{
    static const char *const beside[] = {"$ref", "anyOf", "oneOf", "allOf", "enum", "const"};
    struct schema s = {
        .b = v->b, .root = schema, .values = *v, .call = true, .tags = tags, .err = err};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++)
        if (json_object_get(schema, beside[i]))
            refuse(&s, "", beside[i],
                   "not supported here: the base writes no JSON, so arguments need properties");
    if (going(&s) && !json_is_object(schema))
        *out = arguments(&s, NULL, 0, any_argument(&s));
    else if (going(&s) && (types_of(&s, schema, "") & OBJECT))
        *out = object(&s, schema, "");
    else
        *out = refuse(&s, "", "type", "the arguments of a call are an object");
    *v = s.values;
    return s.status ? s.status : builder_failed(v->b, err);
}

enum status schema_read(struct builder *b, const json_t *schema, struct error *err)
{
    struct values v;
    struct fragment f;
    values_open(&v, b);
    enum status s = schema_fragment(&v, schema, &f, err);
    builder_define(b, 0, f);
    return s;
}

enum status schema_any_object(struct builder *b, struct error *err)
{
    struct values v;
    values_open(&v, b);
    builder_define(b, 0, values_object(&v));
    return builder_failed(b, err);
}
