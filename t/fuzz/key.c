
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A key as a client sends it: whatever is taken for one has its form, and no
 * byte of it could be another one.
 */


#include "fuzz.h"
#include "rbgv_key.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char             *text;
    size_t            i;
    rbgv_key_t        key, other;
    rbgv_key_error_e  rc;

    text = fuzz_copy(data, size);
    rc = rbgv_key_parse(text, size, &key);

    fuzz_check(rc == RBGV_KEY_FORM || !rbgv_opaque_valid(text, size),
               "a key is ours or of another system");

    if (rc == RBGV_KEY_OK) {
        fuzz_check(key.environment == text + 5
                   && rbgv_environment_valid(key.environment,
                                             key.environment_len),
                   "the environment is one");

        fuzz_check(key.id == key.environment + key.environment_len + 1
                   && rbgv_id_valid(key.id, RBGV_ID_LEN),
                   "the id is one");

        fuzz_check(key.id + RBGV_ID_LEN + 1 + RBGV_SECRET_LEN + 1
                   + RBGV_CRC_LEN == text + size,
                   "the secret and the checksum have their lengths");

        for (i = 0; i < size; i++) {
            text[i] ^= 1 << i % 8;
            fuzz_check(rbgv_key_parse(text, size, &other) != RBGV_KEY_OK,
                       "a wrong bit is found");
            text[i] ^= 1 << i % 8;
        }
    }

    free(text);

    return 0;
}
