/*
 * Owns the bytes of a text while it is written, and the three spellings that JSON asks care for:
 * strings, floats, doubles. Floats are the hot ones (a forward reply has millions), so they do not
 * go through printf.
 */
#include "core/buffer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/grow.h"
#include "core/utf8.h"

char *buffer_room(struct buffer *b, size_t n)
{
    if (b->failed)
        return NULL;
    b->failed = n > SIZE_MAX - b->len || !GROW(b->v, b->cap, b->len + n, 256);
    return b->failed ? NULL : b->v + b->len;
}

void buffer_add(struct buffer *b, const void *data, size_t n)
{
    char *to = n ? buffer_room(b, n) : NULL;
    if (!to)
        return;
    memcpy(to, data, n);
    b->len += n;
}

void buffer_text(struct buffer *b, const char *s)
{
    buffer_add(b, s, strlen(s));
}

void buffer_format(struct buffer *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *to = n < 0 ? NULL : buffer_room(b, (size_t)n + 1);
    if (!to)
        return;
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

/* Bytes that a JSON string holds as they are. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void add_escape(struct buffer *b, unsigned char c)
{
    switch (c) {
    case '"':
        buffer_text(b, "\\\"");
        break;
    case '\\':
        buffer_text(b, "\\\\");
        break;
    case '\n':
        buffer_text(b, "\\n");
        break;
    case '\r':
        buffer_text(b, "\\r");
        break;
    case '\t':
        buffer_text(b, "\\t");
        break;
    default:
        buffer_format(b, "\\u%04x", c);
    }
}

void buffer_string(struct buffer *b, const char *s, size_t len)
{
    if (!s) {
        buffer_text(b, "null");
        return;
    }
    const unsigned char *u = (const unsigned char *)s;
    size_t start = 0, i = 0;
    buffer_text(b, "\"");
    while (i < len) {
        size_t n = 1;
        bool plain = is_plain(u[i]), good = plain || utf8_scan(s + i, len - i, &n) == UTF8_GOOD;
        if (plain || (good && u[i] >= 0x80)) {
            i += n;
            continue;
        }
        buffer_add(b, s + start, i - start);
        if (good)
            add_escape(b, u[i]);
        else
            buffer_text(b, "\xef\xbf\xbd");
        start = ++i;
    }
    buffer_add(b, s + start, len - start);
    buffer_text(b, "\"");
}

void buffer_cstring(struct buffer *b, const char *s)
{
    buffer_string(b, s, s ? strlen(s) : 0);
}

/*
 * Nine significant digits identify a float: neighbours differ by at least 2^-24 = 5.96e-8 of their
 * value, a decimal of nine digits is off by at most 0.5e-8 of it, and the double arithmetic below
 * adds less than 1e-14. So m = round(|f| * 10^(8 - e)), 10^e <= |f| < 10^(e+1), reads back to f.
 * Numbers outside the powers of ten that a double holds exactly take printf.
 */
void buffer_f32(struct buffer *b, float f)
{
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    double a = fabs((double)f);
    if (a == 0) {
        buffer_text(b, signbit(f) ? "-0.0" : "0.0");
        return;
    }
    if (!(a >= 1e-12 && a < 1e9)) {
        buffer_format(b, "%.9g", (double)f);
        return;
    }
    int e = 0; /* of the first digit */
    if (a >= 1)
        while (a >= tens[e + 1])
            e++;
    else
        for (e = -1; a * tens[-e] < 1;)
            e--;
    uint64_t m = (uint64_t)(e <= 8 ? a * tens[8 - e] + 0.5 : a / tens[e - 8] + 0.5);
    if (m >= 1000000000) {
        m /= 10;
        e++;
    }
    char digits[9], text[32], *t = text;
    for (int i = 8; i >= 0; i--, m /= 10)
        digits[i] = (char)('0' + m % 10);
    int n = 9;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (f < 0)
        *t++ = '-';
    if (e < -4) { /* d.ddde-0x */
        *t++ = digits[0];
        if (n > 1)
            *t++ = '.';
        for (int i = 1; i < n; i++)
            *t++ = digits[i];
        *t++ = 'e';
        *t++ = '-';
        if (-e >= 10)
            *t++ = (char)('0' + -e / 10);
        *t++ = (char)('0' + -e % 10);
    } else {
        if (e < 0) {
            *t++ = '0';
            *t++ = '.';
            for (int i = -1; i > e; i--)
                *t++ = '0';
        }
        for (int i = 0; i < n || i <= e; i++) {
            if (e >= 0 && i == e + 1)
                *t++ = '.';
            *t++ = i < n ? digits[i] : '0';
        }
        if (e >= 0 && n <= e + 1) { /* a whole number stays a real one */
            *t++ = '.';
            *t++ = '0';
        }
    }
    buffer_add(b, text, (size_t)(t - text));
}

void buffer_int(struct buffer *b, int64_t i)
{
    buffer_format(b, "%lld", (long long)i);
}

void buffer_clear(struct buffer *b)
{
    b->len = 0;
}

void buffer_free(struct buffer *b)
{
    free(b->v);
    *b = (struct buffer){0};
}
