/*
 * Owns one sentence. Every back end decides by the same things, the names, dtypes and shapes of the
 * module's tensors and the config's word for the format, so that what decided can be said without
 * asking it.
 */
#include "core/model/evidence.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX 512

/* Appends what fits; the length that all of it would have. */
static size_t add(char *text, size_t used, const char *before, const char *what)
{
    int n = used < TEXT_MAX ? snprintf(text + used, TEXT_MAX - used, "%s%s", before, what) : 0;
    return used + (size_t)(n > 0 ? n : 0);
}

static size_t add_tensor(char *text, size_t used, const char *suffix, const struct tensor *t)
{
    char shape[96];
    tensor_shape_text(t, shape, sizeof shape);
    used = add(text, used, used ? ", " : "", suffix);
    used = add(text, used, " ", dtype_name(t->dtype));
    return add(text, used, " ", shape);
}

const char *evidence_text(const struct module_spec *spec, bool plain, struct arena *a)
{
    char text[TEXT_MAX] = "";
    size_t used = 0, prefix = strlen(spec->file) + 1;
    for (size_t i = 0; i < spec->n_tensors; i++) {
        const char *suffix = spec->tensors[i].name + prefix;
        if (strcmp(suffix, "bias") != 0)
            used = add_tensor(text, used, suffix, &spec->tensors[i]);
    }
    const char *method = json_string_value(json_object_get(spec->quant, "quant_method"));
    if (!plain && method)
        add(text, used, "; quant_method ", method);
    else if (!plain && spec->quant)
        add(text, used, "; ", "a quantization_config without quant_method");
    return arena_strdup(a, text);
}

const char *evidence_with(const char *why, const char *what, const char *value, struct arena *a)
{
    char text[TEXT_MAX] = "";
    size_t used = add(text, 0, "", why);
    used = add(text, used, "; ", what);
    add(text, used, " ", value);
    return arena_strdup(a, text);
}
