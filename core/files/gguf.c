/*
 * GGUF, versions 2 and 3, little endian:
 *
 *     "GGUF"  u32 version  u64 tensors  u64 keys
 *     keys      x   text key, u32 type, value         text: u64 length, bytes (no NUL)
 *     tensors   x   text name, u32 rank, u64 dimensions[rank] (fastest first), u32 type, u64 offset
 *     zeros up to a multiple of general.alignment (32); then the tensors' bytes, each at its offset
 *     from here, a multiple of the alignment
 *
 *     value: 0 u8  1 i8  2 u16  3 i16  4 u32  5 i32  6 f32  7 bool (a byte)  8 text
 *            9 array: u32 type, u64 n, n values   10 u64  11 i64  12 f64
 *
 * Owns that nothing outside the file is ever looked at: every count is held against the bytes that
 * are left before memory is taken for it, every size is computed with overflow checks, and tensors
 * may not share bytes (a small file cannot promise a large model). Arrays stay in the file; they
 * are walked once here, which is what makes walking them later safe.
 *
 * Keys and names are printable ASCII, each once. Refused by name: version 1, big endian, files in
 * parts (split.count), types of tensors other than those of enum gguf_type.
 */
#include "core/files/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/arena.h"

#define ARRAYS_DEEP  4
#define KEY_BYTES    13 /* the least that a key and its value take, and a tensor */
#define TENSOR_BYTES 32

/* Bytes of a value; 0: it says so itself. */
static const uint8_t value_bytes[GGUF_VALUE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static const struct {
    uint32_t type;
    const char *name;
    int64_t block, bytes; /* weights of a block and their bytes; 0: not read */
} types[] = {
    {GGUF_F32, "F32", 1, 4},     {GGUF_F16, "F16", 1, 2}, {GGUF_Q4_0, "Q4_0", 32, 18},
    {GGUF_Q4_1, "Q4_1", 32, 20}, {6, "Q5_0", 0, 0},       {7, "Q5_1", 0, 0},
    {GGUF_Q8_0, "Q8_0", 32, 34}, {9, "Q8_1", 0, 0},       {10, "Q2_K", 0, 0},
    {11, "Q3_K", 0, 0},          {12, "Q4_K", 0, 0},      {13, "Q5_K", 0, 0},
    {14, "Q6_K", 0, 0},          {15, "Q8_K", 0, 0},      {16, "IQ2_XXS", 0, 0},
    {17, "IQ2_XS", 0, 0},        {18, "IQ3_XXS", 0, 0},   {19, "IQ1_S", 0, 0},
    {20, "IQ4_NL", 0, 0},        {21, "IQ3_S", 0, 0},     {22, "IQ2_S", 0, 0},
    {23, "IQ4_XS", 0, 0},        {24, "I8", 0, 0},        {25, "I16", 0, 0},
    {26, "I32", 0, 0},           {27, "I64", 0, 0},       {28, "F64", 0, 0},
    {29, "IQ1_M", 0, 0},         {30, "BF16", 0, 0},      {34, "TQ1_0", 0, 0},
    {35, "TQ2_0", 0, 0},         {39, "MXFP4", 0, 0},
};
#define N_TYPES (sizeof types / sizeof types[0])

struct gguf {
    const uint8_t *bytes;
    size_t size;
    bool mapped;
    const char *path;
    struct gguf_value *values;
    size_t n_values;
    struct gguf_tensor *tensors;
    size_t n_tensors;
    struct arena arena; /* path, keys and names */
};

/* What is being read, and where. */
struct place {
    struct gguf *g;
    size_t at;
    struct error *err;
};

const char *gguf_type_name(uint32_t type, char buf[24])
{
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].type == type)
            return types[i].name;
    snprintf(buf, 24, "type %u", type);
    return buf;
}

/* ---- bytes ---- */

static enum status ends(const struct place *p, const char *what)
{
    error_set(p->err, ST_CHECKPOINT_INVALID, "%s: ends within %s, at byte %zu of %zu", p->g->path,
              what, p->at, p->g->size);
    return ST_CHECKPOINT_INVALID;
}

/* The next n bytes, or NULL with the error. */
static const uint8_t *take(struct place *p, uint64_t n, const char *what)
{
    if (n > p->g->size - p->at) {
        ends(p, what);
        return NULL;
    }
    const uint8_t *v = p->g->bytes + p->at;
    p->at += (size_t)n;
    return v;
}

static bool take_u32(struct place *p, uint32_t *out, const char *what)
{
    const uint8_t *v = take(p, 4, what);
    *out = v ? load_u32(v) : 0;
    return v;
}

static bool take_u64(struct place *p, uint64_t *out, const char *what)
{
    const uint8_t *v = take(p, 8, what);
    *out = v ? gguf_load_u64(v) : 0;
    return v;
}

static bool take_text(struct place *p, struct gguf_text *out, const char *what)
{
    uint64_t n;
    if (!take_u64(p, &n, what))
        return false;
    const uint8_t *v = take(p, n, what);
    *out = (struct gguf_text){(const char *)v, v ? (size_t)n : 0};
    return v;
}

/* A key or a name: printable, not too long, kept with an end. */
static enum status take_name(struct place *p, const char **out, const char *what)
{
    struct gguf_text text;
    size_t at = p->at;
    *out = NULL;
    if (!take_text(p, &text, what))
        return ST_CHECKPOINT_INVALID;
    bool good = text.n && text.n <= GGUF_NAME_MAX;
    for (size_t i = 0; good && i < text.n; i++)
        good = text.v[i] > ' ' && text.v[i] < 0x7f;
    if (!good)
        return error_set(p->err, ST_CHECKPOINT_INVALID,
                         "%s: %s at byte %zu is not 1 to %d printable characters", p->g->path, what,
                         at, GGUF_NAME_MAX);
    *out = arena_strndup(&p->g->arena, text.v, text.n);
    return *out ? ST_OK : error_memory(p->err, "reading a GGUF file");
}

/* ---- metadata ---- */

/* Steps over n values of a type. */
static enum status skip(struct place *p, uint32_t type, uint64_t n, int depth, const char *key)
{
    struct gguf_text text;
    if (type >= GGUF_VALUE_COUNT)
        return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: key %s has a value of type %u",
                         p->g->path, key, type);
    if (value_bytes[type]) {
        uint64_t each = value_bytes[type];
        return n <= p->g->size / each && take(p, n * each, key) ? ST_OK : ends(p, key);
    }
    if (type == GGUF_VALUE_ARRAY && depth == ARRAYS_DEEP)
        return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: key %s nests arrays deeper than %d",
                         p->g->path, key, ARRAYS_DEEP);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t inner;
        uint64_t count;
        if (type == GGUF_VALUE_STRING) {
            if (!take_text(p, &text, key))
                return ST_CHECKPOINT_INVALID;
            continue;
        }
        if (!take_u32(p, &inner, key) || !take_u64(p, &count, key))
            return ST_CHECKPOINT_INVALID;
        enum status s = skip(p, inner, count, depth + 1, key);
        if (s)
            return s;
    }
    return ST_OK;
}

static enum status read_value(struct place *p, struct gguf_value *v)
{
    *v = (struct gguf_value){.n = 1};
    enum status s = take_name(p, &v->key, "a key");
    if (s)
        return s;
    if (!take_u32(p, &v->type, v->key))
        return ST_CHECKPOINT_INVALID;
    v->array = v->type == GGUF_VALUE_ARRAY;
    if (v->array && (!take_u32(p, &v->type, v->key) || !take_u64(p, &v->n, v->key)))
        return ST_CHECKPOINT_INVALID;
    v->data = p->g->bytes + p->at;
    return skip(p, v->type, v->n, v->array, v->key);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct gguf_value *)a)->key, ((const struct gguf_value *)b)->key);
}

static enum status read_values(struct place *p, uint64_t n)
{
    struct gguf *g = p->g;
    if (n > GGUF_KEYS_MAX || n > (g->size - p->at) / KEY_BYTES)
        return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: promises %llu keys", g->path,
                         (unsigned long long)n);
    g->values = calloc((size_t)n + 1, sizeof *g->values);
    if (!g->values)
        return error_memory(p->err, "reading a GGUF file");
    for (; g->n_values < n; g->n_values++) {
        enum status s = read_value(p, &g->values[g->n_values]);
        if (s)
            return s;
    }
    qsort(g->values, g->n_values, sizeof *g->values, by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (!by_key(&g->values[i - 1], &g->values[i]))
            return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: key %s occurs twice", g->path,
                             g->values[i].key);
    return ST_OK;
}

/* ---- tensors ---- */

/* Reads rank and shape into rows-first order. */
static enum status read_shape(struct place *p, struct gguf_tensor *t)
{
    uint32_t rank;
    uint64_t size;
    if (!take_u32(p, &rank, t->name))
        return ST_CHECKPOINT_INVALID;
    if (rank < 1 || rank > GGUF_RANK_MAX)
        return error_set(p->err, ST_CHECKPOINT_INVALID,
                         "%s: tensor %s has %u dimensions, expected 1 to %d", p->g->path, t->name,
                         rank, GGUF_RANK_MAX);
    t->rank = (int)rank;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (!take_u64(p, &size, t->name))
            return ST_CHECKPOINT_INVALID;
        if (size < 1 || size > INT64_MAX)
            return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: tensor %s has a dimension of %llu",
                             p->g->path, t->name, (unsigned long long)size);
        t->shape[i] = (int64_t)size;
    }
    return ST_OK;
}

/* The size in bytes by type and shape. */
static enum status size_tensor(const struct place *p, uint32_t type, struct gguf_tensor *t)
{
    char buf[24];
    size_t i = 0;
    while (i < N_TYPES && types[i].type != type)
        i++;
    if (i == N_TYPES || !types[i].block)
        return error_set(p->err, ST_DTYPE_UNSUPPORTED,
                         "%s: tensor %s is of type %s, expected F32, F16, Q4_0, Q4_1 or Q8_0",
                         p->g->path, t->name, gguf_type_name(type, buf));
    t->type = (enum gguf_type)type;
    int64_t elements, columns = t->shape[t->rank - 1], block = types[i].block;
    if (columns % block)
        return error_set(p->err, ST_CHECKPOINT_INVALID,
                         "%s: tensor %s has rows of %lld, expected a multiple of %lld", p->g->path,
                         t->name, (long long)columns, (long long)block);
    if (!size_product(t->shape, t->rank, &elements) ||
        elements / block > INT64_MAX / types[i].bytes)
        return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: tensor %s is too large", p->g->path,
                         t->name);
    t->bytes = (size_t)(elements / block * types[i].bytes);
    return ST_OK;
}

/* One entry; *offset is from the start of the data. */
static enum status read_tensor(struct place *p, uint64_t alignment, struct gguf_tensor *t,
                               uint64_t *offset)
{
    uint32_t type;
    *t = (struct gguf_tensor){0};
    enum status s = take_name(p, &t->name, "a tensor's name");
    s = s ? s : read_shape(p, t);
    if (s)
        return s;
    if (!take_u32(p, &type, t->name) || !take_u64(p, offset, t->name))
        return ST_CHECKPOINT_INVALID;
    if (*offset % alignment)
        return error_set(p->err, ST_CHECKPOINT_INVALID,
                         "%s: tensor %s begins at %llu, expected a multiple of %llu", p->g->path,
                         t->name, (unsigned long long)*offset, (unsigned long long)alignment);
    return size_tensor(p, type, t);
}

static int by_data(const void *a, const void *b)
{
    const struct gguf_tensor *x = a, *y = b;
    return (x->data > y->data) - (x->data < y->data);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct gguf_tensor *)a)->name, ((const struct gguf_tensor *)b)->name);
}

static enum status check_tensors(const struct place *p)
{
    struct gguf *g = p->g;
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_data);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        if (t[-1].data + t[-1].bytes > t->data)
            return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: tensors %s and %s share bytes",
                             g->path, t[-1].name, t->name);
    }
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_name);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (!by_name(&g->tensors[i - 1], &g->tensors[i]))
            return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: tensor %s occurs twice", g->path,
                             g->tensors[i].name);
    return ST_OK;
}

/* Puts the tensors where their offsets say, behind the entries. */
static enum status place_tensors(struct place *p, uint64_t alignment, const uint64_t *offsets)
{
    struct gguf *g = p->g;
    uint64_t gap = (alignment - p->at % alignment) % alignment;
    uint64_t room = gap < g->size - p->at ? g->size - p->at - gap : 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        if (offsets[i] > room || t->bytes > room - offsets[i])
            return error_set(
                p->err, ST_CHECKPOINT_INVALID,
                "%s: the file ends before tensor %s does (%zu bytes from %llu of %llu)", g->path,
                t->name, t->bytes, (unsigned long long)offsets[i], (unsigned long long)room);
        t->data = g->bytes + p->at + gap + offsets[i];
    }
    return check_tensors(p);
}

static enum status read_tensors(struct place *p, uint64_t n, uint64_t alignment)
{
    struct gguf *g = p->g;
    if (n > GGUF_TENSORS_MAX || n > (g->size - p->at) / TENSOR_BYTES)
        return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: promises %llu tensors", g->path,
                         (unsigned long long)n);
    uint64_t *offsets = calloc((size_t)n + 1, sizeof *offsets);
    g->tensors = calloc((size_t)n + 1, sizeof *g->tensors);
    enum status s = ST_OK;
    if (!offsets || !g->tensors)
        s = error_memory(p->err, "reading a GGUF file");
    for (; !s && g->n_tensors < n; g->n_tensors++)
        s = read_tensor(p, alignment, &g->tensors[g->n_tensors], &offsets[g->n_tensors]);
    s = s ? s : place_tensors(p, alignment, offsets);
    free(offsets);
    return s;
}

/* ---- the file ---- */

static enum status read_head(struct place *p, uint64_t *tensors, uint64_t *keys)
{
    const uint8_t *head = take(p, 24, "its head");
    if (!head)
        return ST_CHECKPOINT_INVALID;
    if (memcmp(head, "GGUF", 4) != 0)
        return error_set(p->err, ST_CHECKPOINT_INVALID, "%s: not a GGUF file", p->g->path);
    uint32_t version = load_u32(head + 4);
    if (version && !(version & 0xffff))
        return error_set(p->err, ST_CONFIG_UNSUPPORTED, "%s: a big-endian GGUF file", p->g->path);
    if (version != 2 && version != 3)
        return error_set(p->err, ST_CONFIG_UNSUPPORTED, "%s: GGUF version %u, expected 2 or 3",
                         p->g->path, version);
    *tensors = gguf_load_u64(head + 8);
    *keys = gguf_load_u64(head + 16);
    return ST_OK;
}

static enum status read_alignment(const struct place *p, uint64_t *alignment)
{
    const struct gguf_value *v = gguf_find(p->g, "general.alignment");
    int64_t n = 32;
    if (v && (!gguf_integer(v, &n) || n < 1 || n & (n - 1)))
        return error_set(p->err, ST_CHECKPOINT_INVALID,
                         "%s: general.alignment is not a power of two", p->g->path);
    *alignment = (uint64_t)n;
    return ST_OK;
}

static enum status refuse_parts(const struct place *p)
{
    int64_t n = 0;
    if (!gguf_integer(gguf_find(p->g, "split.count"), &n) || n <= 1)
        return ST_OK;
    return error_set(p->err, ST_CONFIG_UNSUPPORTED,
                     "%s: one of %lld parts of a GGUF (split.count); join them first", p->g->path,
                     (long long)n);
}

/* Takes the mapping over (when mapped), also on failure. */
static enum status parse(const void *bytes, size_t size, bool mapped, const char *path,
                         struct gguf **out, struct error *err)
{
    uint64_t tensors = 0, keys = 0, alignment = 32;
    struct gguf *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) {
        if (mapped)
            munmap((void *)bytes, size);
        return error_memory(err, "opening a GGUF file");
    }
    *g = (struct gguf){.bytes = bytes, .size = size, .mapped = mapped};
    struct place p = {.g = g, .err = err};
    g->path = arena_strdup(&g->arena, path);
    enum status s = g->path ? ST_OK : error_memory(err, "opening a GGUF file");
    s = s ? s : read_head(&p, &tensors, &keys);
    s = s ? s : read_values(&p, keys);
    s = s ? s : refuse_parts(&p);
    s = s ? s : read_alignment(&p, &alignment);
    s = s ? s : read_tensors(&p, tensors, alignment);
    if (s)
        gguf_close(g);
    else
        *out = g;
    return s;
}

enum status gguf_parse(const void *bytes, size_t size, const char *path, struct gguf **out,
                       struct error *err)
{
    return parse(bytes, size, false, path, out, err);
}

enum status gguf_open(const char *path, struct gguf **out, struct error *err)
{
    struct stat info;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, ST_FILE_UNREADABLE, "%s: cannot be opened: %s", path,
                         strerror(errno));
    if (fstat(fd, &info) || !S_ISREG(info.st_mode) || !info.st_size) {
        close(fd);
        return error_set(err, ST_FILE_UNREADABLE, "%s: not a regular file with content", path);
    }
    void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    int why = errno;
    close(fd);
    if (bytes == MAP_FAILED)
        return error_set(err, why == ENOMEM ? ST_OUT_OF_MEMORY : ST_FILE_UNREADABLE,
                         "%s: cannot be mapped: %s", path, strerror(why));
    return parse(bytes, (size_t)info.st_size, true, path, out, err);
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    if (g->mapped)
        munmap((void *)g->bytes, g->size);
    free(g->values);
    free(g->tensors);
    arena_free(&g->arena);
    free(g);
}

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

const struct gguf_value *gguf_values(const struct gguf *g, size_t *n)
{
    *n = g->n_values;
    return g->values;
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    const struct gguf_value wanted = {.key = key};
    return bsearch(&wanted, g->values, g->n_values, sizeof wanted, by_key);
}

const struct gguf_tensor *gguf_tensors(const struct gguf *g, size_t *n)
{
    *n = g->n_tensors;
    return g->tensors;
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name)
{
    const struct gguf_tensor wanted = {.name = name};
    return bsearch(&wanted, g->tensors, g->n_tensors, sizeof wanted, by_name);
}
