
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Tests for keys in text form, and for their digests.  The checksums and
 * digests were made with Python's zlib, hashlib and hmac.
 */


#include "rbgv_key.h"
#include "tap.h"


#define KEY     "rbgv_prod_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN"
#define KEY_LEN (sizeof(KEY) - 1)


typedef struct {
    const char        *text;
    rbgv_key_error_e   error;
} parse_test_t;


typedef struct {
    const char        *text;
    int                valid;
} valid_test_t;


typedef struct {
    unsigned char      sha256[RBGV_DIGEST_LEN + 1];    /* with a 0 */
    const char        *id;
} derive_test_t;


static const parse_test_t  texts[] = {
    { KEY, RBGV_KEY_OK },

    /* the shortest, the longest, one whose checksum begins with zeros */
    { "rbgv_e_0123456789AZ_0123456789abcdefghijklmnopqrstuv_0gvP1j",
      RBGV_KEY_OK },
    { "rbgv_eeeeeeeeeeeeeeee_zzzzzzzzzzzz_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ_"
      "142J8y", RBGV_KEY_OK },
    { "rbgv_prod_000000000067_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_00dAPn",
      RBGV_KEY_OK },

    { "rbgv_prod_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VM",
      RBGV_KEY_CHECKSUM },
    { "rbgv_prod_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab_1200VN",
      RBGV_KEY_CHECKSUM },
    { "rbgv_dev_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_CHECKSUM },
    { "rbgv_prod_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_zzzzzz",
      RBGV_KEY_CHECKSUM },

    { "", RBGV_KEY_FORM },
    { "rbgv", RBGV_KEY_FORM },
    { "rbgv_", RBGV_KEY_FORM },
    { "RBGV_prod_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_FORM },
    { "rbgv_Prod_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_FORM },
    { "rbgv_1rod_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_FORM },
    { "rbgv_pr_d_AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_FORM },
    { "rbgv__AAAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_FORM },
    { "rbgv_eeeeeeeeeeeeeeeee_zzzzzzzzzzzz_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ_"
      "142J8y", RBGV_KEY_FORM },
    { "rbgv_prod_AAAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_FORM },
    { "rbgv_prod_AAAAAA-AAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_FORM },
    { "rbgv_prod_AAAAAAAAAAAA_aaaaaaaaaaaaaaaa/aaaaaaaaaaaaaaa_1200VN",
      RBGV_KEY_FORM }
};


static const valid_test_t  environments[] = {
    { "p", 1 }, { "prod", 1 }, { "e2", 1 }, { "eeeeeeeeeeeeeeee", 1 },
    { "", 0 }, { "2e", 0 }, { "Prod", 0 }, { "pR", 0 }, { "a_b", 0 },
    { "a-b", 0 }, { "a b", 0 }, { "\xc3\xa9", 0 }, { "a\n", 0 },
    { "eeeeeeeeeeeeeeeee", 0 }
};


static const valid_test_t  ids[] = {
    { "AAAAAAAAAAAA", 1 }, { "019AZaz09azZ", 1 }, { "", 0 },
    { "AAAAAAAAAAA", 0 }, { "AAAAAAAAAAAAA", 0 }, { "AAAAAAAAAAA_", 0 },
    { "AAAAAAAAAAA{", 0 }, { "AAAAAAAAAAA}", 0 }, { "AAAA:AAAAAAA", 0 }
};


/* SHA-256 of nothing and of "abc"; the ends of the range of 62^12 */

static const derive_test_t  derived[] = {
    { "\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb\xf4\xc8\x99\x6f\xb9\x24"
      "\x27\xae\x41\xe4\x64\x9b\x93\x4c\xa4\x95\x99\x1b\x78\x52\xb8\x55",
      "IiLjhLwGZhAQ" },
    { "\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23"
      "\xb0\x03\x61\xa3\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad",
      "46M50t8egjdh" },
    { "", "000000000000" },
    { "\0\0\0\0\0\0\0\0\x3d", "00000000000z" },
    { "\0\0\0\0\0\0\0\0\x3e", "000000000010" },
    { "\xae\xe5\x72\x0e\xe8\x30\x68\x0f\xff", "zzzzzzzzzzzz" },
    { "\xae\xe5\x72\x0e\xe8\x30\x68\x10\x00", "000000000000" },
    { "\xff\xff\xff\xff\xff\xff\xff\xff\xff", "SkYaaiXSSTS3" },
    { "\0\0\0\0\0\0\0\0\0\xff", "000000000000" }
};


static const valid_test_t  opaque[] = {
    { "0123456789abcdef", 1 }, { "!~!~!~!~!~!~!~!~", 1 },
    { "sk-live-{\"a\":1}%00", 1 }, { "RBGV_0123456789a", 1 },
    { "rbgv-0123456789a", 1 }, { "_rbgv_0123456789", 1 },
    { "", 0 }, { "0123456789abcde", 0 }, { "01234567 9abcdef", 0 },
    { "01234567\t9abcdef", 0 }, { "0123456789abcde\n", 0 },
    { "0123456789abcd\xc3\xa9", 0 }, { "0123456789abcde\x7f", 0 },
    { "rbgv_0123456789a", 0 }, { KEY, 0 }
};


static rbgv_key_error_e
parse(const char *text, size_t len, rbgv_key_t *key)
{
    char              *copy;
    rbgv_key_error_e   error;

    copy = tap_copy(text, len);
    error = rbgv_key_parse(copy, len, key);

    if (error == RBGV_KEY_OK) {
        key->environment = text + (key->environment - copy);
        key->id = text + (key->id - copy);
    }

    free(copy);

    return error;
}


static void
test_parse(void)
{
    int          c;
    char         text[KEY_LEN + 1];
    size_t       i, len;
    rbgv_key_t   key;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ok(parse(texts[i].text, strlen(texts[i].text), &key)
           == texts[i].error, "parse \"%s\": %d", texts[i].text,
           texts[i].error);
    }

    ok(parse(KEY, KEY_LEN, &key) == RBGV_KEY_OK
       && key.environment == &KEY[5] && key.environment_len == 4
       && key.id == &KEY[10], "parts of a key");

    for (len = 0; len < KEY_LEN; len++) {
        if (parse(KEY, len, &key) == RBGV_KEY_OK) {
            break;
        }
    }

    ok(len == KEY_LEN, "every beginning of a key is refused, to %zu", len);

    for (len = 1; len < KEY_LEN; len++) {
        if (parse(KEY + len, KEY_LEN - len, &key) == RBGV_KEY_OK) {
            break;
        }
    }

    ok(len == KEY_LEN, "every end of a key is refused, to %zu", len);

    memcpy(text, KEY, KEY_LEN);
    text[KEY_LEN] = '0';

    ok(parse(text, KEY_LEN + 1, &key) == RBGV_KEY_FORM, "one more");

    for (i = 0; i < KEY_LEN; i++) {
        memcpy(text, KEY, KEY_LEN);

        for (c = 0; c < 256; c++) {
            text[i] = c;

            if (c != (unsigned char) KEY[i]
                && parse(text, KEY_LEN, &key) == RBGV_KEY_OK)
            {
                goto found;
            }
        }
    }

found:

    ok(i == KEY_LEN, "no byte can be another, up to %zu", i);
}


static void
test_opaque(void)
{
    char    text[RBGV_OPAQUE_MAX + 1], *copy;
    size_t  i, len;

    for (i = 0; i < sizeof(opaque) / sizeof(opaque[0]); i++) {
        len = strlen(opaque[i].text);
        copy = tap_copy(opaque[i].text, len);

        ok(rbgv_opaque_valid(copy, len) == opaque[i].valid,
           "opaque key %zu: %d", i, opaque[i].valid);

        free(copy);
    }

    memset(text, 'x', sizeof(text));

    ok(rbgv_opaque_valid(text, RBGV_OPAQUE_MAX)
       && !rbgv_opaque_valid(text, RBGV_OPAQUE_MAX + 1),
       "the longest opaque key");
}


static void
test_generate(void)
{
    int          i, n;
    char         text[RBGV_KEY_MAX + 1], seen[500][RBGV_KEY_MAX + 1];
    rbgv_key_t   key;

    for (n = 0; n < 500; n++) {

        if (rbgv_key_generate("prod", NULL, text) != 0
            || parse(text, strlen(text), &key) != RBGV_KEY_OK
            || memcmp(text, "rbgv_prod_", 10) != 0)
        {
            break;
        }

        /* ids and secrets differ, each for itself */

        for (i = 0; i < n; i++) {
            if (memcmp(seen[i] + 10, text + 10, RBGV_ID_LEN) == 0
                || memcmp(seen[i] + 23, text + 23, RBGV_SECRET_LEN) == 0)
            {
                break;
            }
        }

        if (i < n) {
            break;
        }

        memcpy(seen[n], text, sizeof(text));
    }

    ok(n == 500, "new keys are well formed and differ, up to %d", n);

    ok(rbgv_key_generate("eeeeeeeeeeeeeeee", "AAAAAAAAAAAA", text) == 0
       && strlen(text) == RBGV_KEY_MAX
       && parse(text, RBGV_KEY_MAX, &key) == RBGV_KEY_OK
       && memcmp(key.id, "AAAAAAAAAAAA", RBGV_ID_LEN) == 0,
       "a new secret for an id, at full length");

    ok(rbgv_key_generate("", NULL, text) == -1
       && rbgv_key_generate("Prod", NULL, text) == -1
       && rbgv_key_generate("eeeeeeeeeeeeeeeee", NULL, text) == -1,
       "no key for a malformed environment");

    ok(rbgv_key_generate("prod", "", text) == -1
       && rbgv_key_generate("prod", "AAAAAAAAAAA_", text) == -1
       && rbgv_key_generate("prod", "AAAAAAAAAAAAA", text) == -1,
       "no key for a malformed id");

    for (i = 0; i < (int) (sizeof(environments) / sizeof(valid_test_t)); i++) {
        ok(rbgv_environment_valid(environments[i].text,
                                  strlen(environments[i].text))
           == environments[i].valid,
           "environment %d: %d", i, environments[i].valid);
    }

    for (i = 0; i < (int) (sizeof(ids) / sizeof(valid_test_t)); i++) {
        ok(rbgv_id_valid(ids[i].text, strlen(ids[i].text)) == ids[i].valid,
           "id \"%s\": %d", ids[i].text, ids[i].valid);
    }
}


/* the digest of a text, twice with one digester, against a known one */

static void
digest_is(const char *name, const char *pepper, size_t len, const char *text,
    const char *expected)
{
    int               i;
    char              hex[RBGV_DIGEST_HEX];
    unsigned char     digest[RBGV_DIGEST_LEN];
    rbgv_digester_t  *d;

    d = rbgv_digester_create((const unsigned char *) pepper, len);

    for (i = 0; i < 2; i++) {
        memset(hex, 0, sizeof(hex));

        if (rbgv_digest_key(d, text, strlen(text), digest) == 0) {
            rbgv_digest_hex(digest, hex);
        }

        ok(memcmp(hex, expected, RBGV_DIGEST_HEX) == 0, "%s: %.64s", name,
           hex);
    }

    rbgv_digester_free(d);
}


static void
test_digest(void)
{
    char              pepper[131];
    unsigned char     sha256[RBGV_DIGEST_LEN], direct[RBGV_DIGEST_LEN],
                      digest[RBGV_DIGEST_LEN];
    rbgv_digester_t  *plain, *peppered;

    memset(pepper, 0xaa, sizeof(pepper));

    digest_is("SHA-256", NULL, 0, "abc",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_is("SHA-256 of nothing", NULL, 0, "",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_is("SHA-256 of a key", NULL, 0, KEY,
        "0f571521f7be7cf64e25cfee2000f0cd75ce65b0d2e810d92c6b4bcc2803c896");
    digest_is("with a pepper", "0123456789abcdef", 16, KEY,
        "173e3f8ddb6a17df535df497c60fd09b2b547685cf4da3801b6956eb6be7f28a");
    digest_is("16 bytes of pepper", pepper, 16, "abc",
        "1e4b2436553b1c0887a8c73ae2ae37312549532bca2202ad16a64c5d81f7d0b3");
    digest_is("more than a block", pepper, 131, "abc",
        "4b29c635ed8d0cbf3a67bcbe7b5d1c585ffb8c3d35383650b5813102dbb145c0");

    /* a key that is known only by its SHA-256 */

    plain = rbgv_digester_create(NULL, 0);
    peppered = rbgv_digester_create((unsigned char *) pepper, 16);

    ok(rbgv_digest_key(plain, KEY, KEY_LEN, sha256) == 0
       && rbgv_digest_plain(peppered, KEY, KEY_LEN, direct) == 0
       && memcmp(direct, sha256, RBGV_DIGEST_LEN) == 0
       && rbgv_digest_sha256(peppered, sha256, digest) == 0
       && rbgv_digest_key(peppered, KEY, KEY_LEN, direct) == 0
       && memcmp(digest, direct, RBGV_DIGEST_LEN) == 0,
       "digest of a SHA-256");

    rbgv_digester_free(plain);
    rbgv_digester_free(peppered);
    rbgv_digester_free(NULL);
}


static void
test_equal(void)
{
    char    a[80], b[80];
    int     equal, found;
    size_t  i, len;

    memset(a, 'x', sizeof(a));
    memset(b, 'x', sizeof(b));

    equal = 1;
    found = 1;

    for (len = 16; len <= sizeof(a); len++) {
        equal &= rbgv_equal(a, b, len);

        for (i = 0; i < len; i++) {
            b[i] ^= 1;
            found &= !rbgv_equal(a, b, len);
            b[i] ^= 1;
        }
    }

    ok(equal, "equal, of any length");
    ok(found, "a difference in any byte");
}


static void
test_derive(void)
{
    char    id[RBGV_ID_LEN + 1];
    size_t  i;

    for (i = 0; i < sizeof(derived) / sizeof(derived[0]); i++) {
        memset(id, '!', sizeof(id));
        rbgv_id_derive(derived[i].sha256, id);

        ok(memcmp(id, derived[i].id, RBGV_ID_LEN) == 0
           && id[RBGV_ID_LEN] == '!',
           "id %s from a digest: %.12s", derived[i].id, id);
    }
}


int
main(void)
{
    test_parse();
    test_opaque();
    test_generate();
    test_digest();
    test_equal();
    test_derive();

    return done();
}
