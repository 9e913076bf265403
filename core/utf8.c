/*
 * Owns the shape of UTF-8 (RFC 3629: no surrogates, nothing overlong, nothing above U+10FFFF). A
 * bad part ends where the next byte cannot continue what came before, so the two bytes ED A0 are
 * two bad parts and E4 B8 alone is one unfinished character.
 */
#include "core/utf8.h"

enum utf8 utf8_scan(const char *p, size_t n, size_t *len)
{
    const unsigned char *u = (const unsigned char *)p;
    unsigned char first = u[0], low = 0x80, high = 0xBF;
    size_t need;
    *len = 1;
    if (first < 0x80)
        return UTF8_GOOD;
    if (first < 0xC2 || first > 0xF4)
        return UTF8_BAD;
    need = utf8_length(first);
    if (first == 0xE0)
        low = 0xA0;
    else if (first == 0xED)
        high = 0x9F;
    else if (first == 0xF0)
        low = 0x90;
    else if (first == 0xF4)
        high = 0x8F;
    for (size_t i = 1; i < need; i++, low = 0x80, high = 0xBF) {
        *len = i;
        if (i == n)
            return UTF8_PARTIAL;
        if (u[i] < low || u[i] > high)
            return UTF8_BAD;
    }
    *len = need;
    return UTF8_GOOD;
}

bool utf8_valid(const char *p, size_t n)
{
    for (size_t i = 0, len; i < n; i += len) {
        if (utf8_scan(p + i, n - i, &len) != UTF8_GOOD)
            return false;
    }
    return true;
}

size_t utf8_write(uint32_t c, char to[4])
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xC0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xE0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3F));
        to[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    to[0] = (char)(0xF0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3F));
    to[2] = (char)(0x80 | (c >> 6 & 0x3F));
    to[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t utf8_run_at_start(const char *p, size_t n, bool (*is)(uint32_t c))
{
    size_t i = 0, len;
    while (i < n && is(utf8_read(p + i, &len)))
        i += len;
    return i;
}

size_t utf8_run_at_end(const char *p, size_t n, bool (*is)(uint32_t c))
{
    size_t end = n, len;
    while (end) {
        size_t start = end - 1;
        while (start && ((unsigned char)p[start] & 0xC0) == 0x80)
            start--;
        if (!is(utf8_read(p + start, &len)))
            break;
        end = start;
    }
    return n - end;
}
