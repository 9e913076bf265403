/* What the readers of calls share. */
#include "server/tool_reader.h"

#include <string.h>

bool tool_reader_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool tool_reader_ends(const struct buffer *word, const char *text)
{
    size_t n = strlen(text);
    return n && word->len >= n && !memcmp(word->v + word->len - n, text, n);
}

/* The bytes of a character may come one by one: they are passed on as they are. */
void tool_reader_escape(const char *text, size_t len, struct buffer *out)
{
    static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    for (size_t i = 0; i < len; i++) {
        const char *at = text[i] ? strchr(named, text[i]) : NULL;
        if (at)
            buffer_format(out, "\\%c", letters[at - named]);
        else if ((unsigned char)text[i] < 0x20)
            buffer_format(out, "\\u%04x", (unsigned)(unsigned char)text[i]);
        else
            buffer_add(out, text + i, 1);
    }
}
