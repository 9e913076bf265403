/*
 * Owns the way back from the tile layout (encodings/tile.h) for a weight as a whole; the way there
 * is each format's own, because what it unpacks differs.
 */
#include "backends/tiles.h"

#include <stdlib.h>
#include <string.h>

#include "backends/encodings/tile.h"

bool tiles_codes(const struct weight *w, uint8_t *codes)
{
    int bits = w->encoding == ENC_TABLE4 ? 4 : w->bits;
    uint8_t *rows = malloc(TILE_ROWS * (size_t)w->k_padded);
    if (!rows)
        return false;
    for (int64_t tile = 0; tile < w->n_tiles; tile++) {
        tile_unpack_codes(w->data, w->k_padded, bits, tile, rows, w->k_padded);
        for (int64_t r = 0; r < TILE_ROWS && tile * TILE_ROWS + r < w->n; r++)
            memcpy(codes + (tile * TILE_ROWS + r) * w->k, rows + r * w->k_padded, (size_t)w->k);
    }
    free(rows);
    return true;
}

void tiles_parameters(const struct weight *w, const void *from, size_t size, void *to)
{
    if (w->grouping != GROUPS_OF_ROWS) {
        memcpy(to, from, (size_t)w->n_groups * size);
        return;
    }
    for (int64_t r = 0; r < w->n; r++)
        for (int64_t g = 0; g < w->n_groups; g++)
            memcpy((char *)to + (size_t)(r * w->n_groups + g) * size,
                   (const char *)from + (size_t)tile_param(r, g, w->n_groups) * size, size);
}
