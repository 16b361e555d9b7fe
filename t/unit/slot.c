
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Tests for the slots of a Cluster: what CLUSTER KEYSLOT of Redis says.
 */


#include "rbgv_slot.h"
#include "tap.h"


static const struct {
    const char  *name;
    unsigned     slot;
} slots[] = {
    { "", 0 },
    { "foo", 12182 },
    { "123456789", 12739 },
    { "rbgv:meta", 12052 },
    { "rbgv:key:{ABCDEFGHIJKL}", 5882 },
    { "ABCDEFGHIJKL", 5882 },
    { "a{}b", 13694 },
    { "a{b", 13340 },
    { "a}b{c}d{e}", 7365 },
    { "a{{b}}c", 6215 },
    { "\xff\x80\xfe", 6698 }
};


int
main(void)
{
    char      *name;
    size_t     i, len;
    unsigned   slot;

    for (i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        len = strlen(slots[i].name);
        name = tap_copy(slots[i].name, len);
        slot = rbgv_slot(name, len);

        ok(slot == slots[i].slot, "slot of \"%s\": %u", slots[i].name, slot);

        free(name);
    }

    return done();
}
