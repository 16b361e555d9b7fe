
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <stdint.h>
#include <string.h>

#include "rbgv_slot.h"


static unsigned rbgv_slot_crc(const char *p, const char *last);


/* CRC-16/XMODEM, four bits at a time */

static const uint16_t  rbgv_slot_table[] = {
    0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
    0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef
};


unsigned
rbgv_slot(const char *name, size_t len)
{
    const char  *last, *open, *close;

    last = name + len;
    open = memchr(name, '{', len);

    if (open != NULL) {
        open++;
        close = memchr(open, '}', last - open);

        if (close != NULL && close != open) {
            name = open;
            last = close;
        }
    }

    return rbgv_slot_crc(name, last) % RBGV_SLOTS;
}


static unsigned
rbgv_slot_crc(const char *p, const char *last)
{
    uint16_t       crc;
    unsigned char  c;

    crc = 0;

    for ( /* void */ ; p < last; p++) {
        c = *p;

        crc = crc << 4 ^ rbgv_slot_table[crc >> 12 ^ c >> 4];
        crc = crc << 4 ^ rbgv_slot_table[crc >> 12 ^ (c & 0xf)];
    }

    return crc;
}
