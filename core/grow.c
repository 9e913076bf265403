/* Owns the one step by which arrays become larger. The old array stays until the new one is there.
 * Pointers to all kinds of elements are written through void **: -fno-strict-aliasing. */
#include "core/grow.h"

#include <stdint.h>
#include <stdlib.h>

bool grow_array(void *array, size_t *cap, size_t need, size_t first, size_t size)
{
    if (need <= *cap)
        return true;
    size_t more = *cap ? *cap : first;
    while (more < need) {
        if (more > SIZE_MAX / 2)
            return false;
        more *= 2;
    }
    if (more > (size_t)PTRDIFF_MAX / size)
        return false;
    void **v = array, *grown = realloc(*v, more * size);
    if (!grown)
        return false;
    *v = grown;
    *cap = more;
    return true;
}
