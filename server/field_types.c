/*
 * One type of field after the other, three times: how a value is checked, how it is said, what its
 * schema is. They stand in one file so that the description we publish is the check we make.
 */
#include "server/field_types.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/adapters/registry.h"

#define TOOL_CHOICES "auto|none|required"
#define NAME_PATTERN "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

/* ---- values ---- */

static bool is_int(const json_t *v, double low, double high)
{
    if (json_is_integer(v)) {
        double d = (double)json_integer_value(v);
        return d >= low && d <= high;
    }
    double d = json_is_real(v) ? json_real_value(v) : NAN;
    return d >= low && d <= high && d == floor(d) && fabs(d) <= 9007199254740992.0;
}

static bool is_number(const json_t *v, double low, double high)
{
    double d = json_is_number(v) ? json_number_value(v) : NAN;
    return d >= low && d <= high;
}

static bool is_id(const json_t *v)
{
    return is_int(v, 0, INT32_MAX);
}

/* Unicode characters of a string, as JSON schema counts. */
static size_t characters(const json_t *v)
{
    const char *s = json_string_value(v);
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(v); i++)
        n += (s[i] & 0xc0) != 0x80;
    return n;
}

static bool is_string(const json_t *v, double low, double high)
{
    return json_is_string(v) && characters(v) >= low && characters(v) <= high;
}

/* A string that C code may use: no NUL inside. */
static bool is_plain_string(const json_t *v, double low, double high)
{
    return is_string(v, low, high) && strlen(json_string_value(v)) == json_string_length(v);
}

static bool is_name(const json_t *v)
{
    return is_plain_string(v, 1, 128) && registry_name_valid(json_string_value(v));
}

static bool is_word(const json_t *v, const char *words)
{
    if (!is_plain_string(v, 1, 64))
        return false;
    const char *s = json_string_value(v);
    size_t len = strlen(s);
    for (const char *w = words; w; w = strchr(w, '|')) {
        w += *w == '|';
        if (!strncmp(w, s, len) && (w[len] == '|' || !w[len]))
            return true;
    }
    return false;
}

static bool is_list(const json_t *v, double low, double high)
{
    return json_is_array(v) && json_array_size(v) >= low && json_array_size(v) <= high;
}

static bool all(const json_t *list, bool (*good)(const json_t *))
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!good(json_array_get(list, i)))
            return false;
    return true;
}

static bool is_text(const json_t *v)
{
    return json_is_string(v);
}

static bool is_stop(const json_t *v)
{
    return is_string(v, 1, 4096);
}

static bool is_finite_number(const json_t *v)
{
    return json_is_number(v) && isfinite((float)json_number_value(v));
}

static bool is_share(const json_t *v)
{
    return is_number(v, 0, 1);
}

static bool is_size(const json_t *v)
{
    return is_int(v, 1, INT32_MAX);
}

static bool is_id_list(const json_t *v)
{
    return is_list(v, 1, INT32_MAX) && all(v, is_id);
}

static bool is_names_or_null(const json_t *v)
{
    return json_is_null(v) || is_name(v) || (is_list(v, 0, 8) && all(v, is_name));
}

static bool is_bias(const json_t *v, double low, double high)
{
    const char *key;
    json_t *bias;
    if (!json_is_object(v) || json_object_size(v) > 4096)
        return false;
    json_object_foreach((json_t *)v, key, bias)
    {
        size_t digits = strspn(key, "0123456789");
        if (!digits || key[digits] || digits > 9 || (digits > 1 && *key == '0') ||
            !is_number(bias, low, high))
            return false;
    }
    return true;
}

static bool is_outputs(const json_t *v, const struct field_row *r)
{
    if (!is_list(v, r->low, r->high))
        return false;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!is_word(json_array_get(v, i), r->extra))
            return false;
    return true;
}

bool field_type_fits(const struct field_row *r, const json_t *v)
{
    switch (r->type) {
    case TYPE_TEXT:
        return is_string(v, r->low, r->high);
    case TYPE_STRING:
        return is_plain_string(v, r->low, r->high);
    case TYPE_NAME:
        return is_name(v);
    case TYPE_BOOL:
        return json_is_boolean(v);
    case TYPE_INT:
        return is_int(v, r->low, r->high);
    case TYPE_NUMBER:
        return is_number(v, r->low, r->high);
    case TYPE_ENUM:
        return is_word(v, r->extra);
    case TYPE_NAMES:
        return is_name(v) || (is_list(v, r->low, r->high) && all(v, is_name));
    case TYPE_NAME_LIST:
        return is_list(v, r->low, r->high) && all(v, is_name);
    case TYPE_ROW_ADAPTERS:
        return is_list(v, r->low, r->high) && all(v, is_names_or_null);
    case TYPE_STRENGTH:
        return is_share(v) || (is_list(v, 1, 8) && all(v, is_share));
    case TYPE_PROMPT:
        return json_is_string(v) || (is_list(v, r->low, INT32_MAX) && all(v, is_id)) ||
               (is_list(v, r->low, r->high) && (all(v, is_text) || all(v, is_id_list)));
    case TYPE_STOP:
        return is_stop(v) || (is_list(v, 0, r->high) && all(v, is_stop));
    case TYPE_TEXT_OR_TEXTS:
        return json_is_string(v) || (is_list(v, r->low, r->high) && all(v, is_text));
    case TYPE_TEXTS:
        return is_list(v, r->low, r->high) && all(v, is_text);
    case TYPE_IDS:
        return is_list(v, r->low, r->high) && all(v, is_id);
    case TYPE_IDS_LIST:
        return is_list(v, r->low, r->high) && all(v, is_id_list);
    case TYPE_NUMBERS:
        return is_list(v, r->low, r->high) && all(v, is_finite_number);
    case TYPE_ELEMENTS:
        return is_list(v, r->low, r->high);
    case TYPE_SHAPE:
        return is_list(v, r->low, r->high) && all(v, is_size);
    case TYPE_OUTPUTS:
        return is_outputs(v, r);
    case TYPE_BIAS:
        return is_bias(v, r->low, r->high);
    case TYPE_OBJECT:
        return json_is_object(v);
    case TYPE_LIST:
        return is_list(v, r->low, r->high);
    case TYPE_CONTENT:
        return json_is_string(v) || is_list(v, r->low, r->high);
    case TYPE_TOOL_CHOICE:
        return json_is_object(v) || is_word(v, TOOL_CHOICES);
    case TYPE_SCHEMA:
        return json_is_object(v) || json_is_boolean(v) || json_is_string(v);
    case TYPE_NONE:
        break;
    }
    return true;
}

/* ---- words ---- */

void field_type_describe(const struct field_row *r, char *text, size_t size)
{
    switch (r->type) {
    case TYPE_STRING:
    case TYPE_TEXT:
        snprintf(text, size, "a string of %.0f to %.0f characters", r->low, r->high);
        break;
    case TYPE_NAME:
        snprintf(text, size, "a name ([A-Za-z0-9][A-Za-z0-9._-]{0,127})");
        break;
    case TYPE_BOOL:
        snprintf(text, size, "true or false");
        break;
    case TYPE_INT:
        snprintf(text, size, "an integer from %.0f to %.0f", r->low, r->high);
        break;
    case TYPE_NUMBER:
        snprintf(text, size, "a number from %g to %g", r->low, r->high);
        break;
    case TYPE_ENUM:
        snprintf(text, size, "one of %s", r->extra);
        break;
    case TYPE_NAMES:
        snprintf(text, size, "a name, or a list of %.0f to %.0f names", r->low, r->high);
        break;
    case TYPE_NAME_LIST:
        snprintf(text, size, "a list of names");
        break;
    case TYPE_ROW_ADAPTERS:
        snprintf(text, size, "a list with a name, null or a list of names for each row");
        break;
    case TYPE_STRENGTH:
        snprintf(text, size, "a number from 0 to 1, or a list of them");
        break;
    case TYPE_PROMPT:
        snprintf(text, size, "a string, strings, token ids, or lists of token ids; not empty");
        break;
    case TYPE_STOP:
        snprintf(text, size, "a string, or at most %.0f strings; none of them empty", r->high);
        break;
    case TYPE_TEXT_OR_TEXTS:
        snprintf(text, size, "a string, or a list of %.0f to %.0f strings", r->low, r->high);
        break;
    case TYPE_TEXTS:
        snprintf(text, size, "a list of %.0f to %.0f strings", r->low, r->high);
        break;
    case TYPE_IDS:
        snprintf(text, size, "a list of token ids");
        break;
    case TYPE_IDS_LIST:
        snprintf(text, size, "a list of %.0f to %.0f lists of token ids, none empty", r->low,
                 r->high);
        break;
    case TYPE_NUMBERS:
        snprintf(text, size, "a flat list of numbers that a float holds");
        break;
    case TYPE_ELEMENTS:
        snprintf(text, size, "a list of the elements, flat or nested as the shape says");
        break;
    case TYPE_SHAPE:
        if (r->low < r->high)
            snprintf(text, size, "a list of %.0f to %.0f sizes", r->low, r->high);
        else
            snprintf(text, size, "a list of %.0f sizes", r->low);
        break;
    case TYPE_OUTPUTS:
        snprintf(text, size, "a list of %s", r->extra);
        break;
    case TYPE_BIAS:
        snprintf(text, size, "an object of token id -> number from %g to %g", r->low, r->high);
        break;
    case TYPE_OBJECT:
        snprintf(text, size, "an object");
        break;
    case TYPE_LIST:
        snprintf(text, size, "a list of %.0f to %.0f objects", r->low, r->high);
        break;
    case TYPE_CONTENT:
        snprintf(text, size, "a string, or a list of text parts");
        break;
    case TYPE_TOOL_CHOICE:
        snprintf(text, size, "one of %s, or a function of the tools", TOOL_CHOICES);
        break;
    case TYPE_SCHEMA:
        snprintf(text, size, "a JSON schema, or its text");
        break;
    case TYPE_NONE:
        snprintf(text, size, "any value");
    }
}

/* ---- schemas ---- */

/* Schema text of a type; %L and %H stand for the row's bounds. */
static const char *schema_text(enum field_type t)
{
#define ID      "{\"type\":\"integer\",\"minimum\":0,\"maximum\":2147483647}"
#define IDS     "{\"type\":\"array\",\"minItems\":1,\"items\":" ID "}"
#define NAME    "{\"type\":\"string\",\"pattern\":\"" NAME_PATTERN "\"}"
#define STRING  "{\"type\":\"string\"}"
#define SHARE   "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}"
#define PLAIN   "\"pattern\":\"^[^\\\\u0000]*$\""
#define STOPPER "{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096}"
    switch (t) {
    case TYPE_TEXT:
        return "{\"type\":\"string\",\"minLength\":%L,\"maxLength\":%H}";
    case TYPE_STRING:
        return "{\"type\":\"string\",\"minLength\":%L,\"maxLength\":%H," PLAIN "}";
    case TYPE_NAME:
        return NAME;
    case TYPE_BOOL:
        return "{\"type\":\"boolean\"}";
    case TYPE_INT:
        return "{\"type\":\"integer\",\"minimum\":%L,\"maximum\":%H}";
    case TYPE_NUMBER:
        return "{\"type\":\"number\",\"minimum\":%L,\"maximum\":%H}";
    case TYPE_NAMES:
        return "{\"anyOf\":[" NAME
               ",{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":" NAME "}]}";
    case TYPE_NAME_LIST:
        return "{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":" NAME "}";
    case TYPE_ROW_ADAPTERS:
        return "{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":{\"anyOf\":[" NAME
               ",{\"type\":\"null\"},{\"type\":\"array\",\"maxItems\":8,\"items\":" NAME "}]}}";
    case TYPE_STRENGTH:
        return "{\"anyOf\":[" SHARE
               ",{\"type\":\"array\",\"minItems\":1,\"maxItems\":8,\"items\":" SHARE "}]}";
    case TYPE_PROMPT:
        return "{\"anyOf\":[" STRING ",{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,"
               "\"items\":" STRING "}," IDS
               ",{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":" IDS "}]}";
    case TYPE_STOP:
        return "{\"anyOf\":[" STOPPER ",{\"type\":\"array\",\"maxItems\":%H,\"items\":" STOPPER
               "}]}";
    case TYPE_TEXT_OR_TEXTS:
        return "{\"anyOf\":[" STRING
               ",{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":" STRING "}]}";
    case TYPE_TEXTS:
        return "{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":" STRING "}";
    case TYPE_IDS:
        return "{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":" ID "}";
    case TYPE_IDS_LIST:
        return "{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":" IDS "}";
    case TYPE_NUMBERS:
        return "{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":"
               "{\"type\":\"number\",\"minimum\":-3.4e38,\"maximum\":3.4e38}}";
    case TYPE_ELEMENTS:
        return "{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":"
               "{\"type\":[\"number\",\"string\",\"array\"]}}";
    case TYPE_SHAPE:
        return "{\"type\":\"array\",\"minItems\":%L,\"maxItems\":%H,\"items\":"
               "{\"type\":\"integer\",\"minimum\":1,\"maximum\":2147483647}}";
    case TYPE_SCHEMA:
        return "{\"type\":[\"object\",\"boolean\",\"string\"]}";
    case TYPE_BIAS:
        return "{\"type\":\"object\",\"maxProperties\":4096,"
               "\"propertyNames\":{\"pattern\":\"^(0|[1-9][0-9]{0,8})$\"},"
               "\"additionalProperties\":{\"type\":\"number\",\"minimum\":%L,\"maximum\":%H}}";
    default:
        return "{}";
    }
#undef ID
#undef IDS
#undef NAME
#undef STRING
#undef SHARE
#undef PLAIN
#undef STOPPER
}

static json_t *schema_of_text(const struct field_row *r)
{
    char text[2048];
    size_t n = 0;
    for (const char *s = schema_text(r->type); *s && n < sizeof text - 40; s++) {
        if (*s == '%') {
            n += (size_t)snprintf(text + n, sizeof text - n, "%.17g",
                                  *++s == 'L' ? r->low : r->high);
        } else {
            text[n++] = *s;
        }
    }
    text[n] = 0;
    return json_loads(text, 0, NULL);
}

static json_t *words_json(const char *words, bool nullable)
{
    json_t *list = json_array();
    while (list && *words) {
        size_t len = strcspn(words, "|");
        json_array_append_new(list, json_stringn(words, len));
        words += len + (words[len] == '|');
    }
    if (list && nullable)
        json_array_append_new(list, json_null());
    return list;
}

/* An object of the set, of one of several, or any. */
static json_t *reference(const char *names)
{
    if (!*names)
        return json_pack("{s:s}", "type", "object");
    json_t *any = json_array();
    for (const char *w = names; any && *w; w += strcspn(w, "|"), w += *w == '|')
        if (*w != '!')
            json_array_append_new(
                any, json_pack("{s:s+%}", "$ref", "#/components/schemas/", w, strcspn(w, "|")));
    if (json_array_size(any) != 1)
        return json_pack("{s:o}", "anyOf", any);
    json_t *one = json_incref(json_array_get(any, 0));
    json_decref(any);
    return one;
}

json_t *field_type_schema(const struct field_row *r)
{
    switch (r->type) {
    case TYPE_ENUM:
        return json_pack("{s:o}", "enum", words_json(r->extra, false));
    case TYPE_OUTPUTS:
        return json_pack("{s:s, s:i, s:i, s:{s:o}}", "type", "array", "minItems", (int)r->low,
                         "maxItems", (int)r->high, "items", "enum", words_json(r->extra, false));
    case TYPE_OBJECT:
        return reference(r->extra);
    case TYPE_LIST:
        return json_pack("{s:s, s:i, s:i, s:o}", "type", "array", "minItems", (int)r->low,
                         "maxItems", (int)r->high, "items", reference(r->extra));
    case TYPE_CONTENT:
        return json_pack("{s:[{s:s}, {s:s, s:i, s:i, s:o}]}", "anyOf", "type", "string", "type",
                         "array", "minItems", (int)r->low, "maxItems", (int)r->high, "items",
                         reference(r->extra));
    case TYPE_TOOL_CHOICE:
        return json_pack("{s:[{s:o}, o]}", "anyOf", "enum", words_json(TOOL_CHOICES, false),
                         reference(r->extra));
    default:
        return schema_of_text(r);
    }
}
