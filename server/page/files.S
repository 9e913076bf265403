/* The bytes of files.def as read-only data: symbol .. symbol_end. */
#define PAGE_FILE(symbol, name, type) .global symbol, symbol##_end; symbol: .incbin name; symbol##_end:;
        .section .rodata
#include "server/page/files.def"
        .section .note.GNU-stack, "", %progbits
