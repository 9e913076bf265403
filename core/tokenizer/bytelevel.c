/*
 * Owns the map: bytes 33-126, 161-172 and 174-255 are the characters of the same number, the other
 * 68 are, in order, U+0100 to U+0143.
 */
#include "core/tokenizer/bytelevel.h"

#include "core/utf8.h"

static bool itself(unsigned c)
{
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

/* How many bytes below c are not themselves. */
static unsigned rank(unsigned c)
{
    return c < 33 ? c : c < 161 ? 33 + (c - 127) : 67;
}

bool bytelevel_encode(const char *data, size_t n, struct bytes *out)
{
    if (n > SIZE_MAX / 2 || !bytes_reserve(out, 2 * n))
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned c = (unsigned char)data[i];
        out->n += utf8_write(itself(c) ? c : 0x100 + rank(c), out->v + out->n);
    }
    return true;
}

/* The byte of a letter, -1 if it has none. */
static int byte_of(uint32_t c)
{
    if (c < 0x100)
        return itself(c) ? (int)c : -1;
    c -= 0x100;
    return c < 33 ? (int)c : c < 67 ? (int)(c - 33 + 127) : c == 67 ? 173 : -1;
}

bool bytelevel_decode(const char *text, size_t n, struct bytes *out)
{
    size_t before = out->n;
    if (!bytes_reserve(out, n))
        return false;
    for (size_t i = 0, len; i < n; i += len) {
        int byte = byte_of(utf8_read(text + i, &len));
        if (byte < 0) {
            out->n = before;
            return bytes_append(out, text, n);
        }
        out->v[out->n++] = (char)byte;
    }
    return true;
}
