
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "rbgv_key.h"


#define RBGV_KEY_PREFIX      "rbgv_"
#define RBGV_KEY_PREFIX_LEN  (sizeof(RBGV_KEY_PREFIX) - 1)

/* of a SHA-256, that make an id: 72 bits, more than 62^12 */
#define RBGV_ID_BYTES        9

/* everything behind the environment: _<id>_<secret>_<crc> */
#define RBGV_KEY_TAIL_LEN                                                     \
    (1 + RBGV_ID_LEN + 1 + RBGV_SECRET_LEN + 1 + RBGV_CRC_LEN)


struct rbgv_digester_s {
    EVP_MD         *md;
    EVP_MD_CTX     *md_ctx;
    EVP_MAC        *mac;
    EVP_MAC_CTX    *mac_ctx;           /* NULL: no pepper */
};


static uint32_t rbgv_crc32(const char *p, size_t len);
static void rbgv_crc_write(uint32_t crc, char out[RBGV_CRC_LEN]);
static int rbgv_base62_valid(const char *p, size_t len);
static int rbgv_base62_random(char *out, size_t len);


static const char  rbgv_base62[] =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static const char  rbgv_hex[] = "0123456789abcdef";


rbgv_key_error_e
rbgv_key_parse(const char *text, size_t len, rbgv_key_t *key)
{
    char         crc[RBGV_CRC_LEN];
    size_t       n;
    const char  *p;

    if (len < RBGV_KEY_PREFIX_LEN + 1 + RBGV_KEY_TAIL_LEN
        || len > RBGV_KEY_MAX
        || memcmp(text, RBGV_KEY_PREFIX, RBGV_KEY_PREFIX_LEN) != 0)
    {
        return RBGV_KEY_FORM;
    }

    p = text + RBGV_KEY_PREFIX_LEN;
    n = len - RBGV_KEY_PREFIX_LEN - RBGV_KEY_TAIL_LEN;

    if (!rbgv_environment_valid(p, n)) {
        return RBGV_KEY_FORM;
    }

    key->environment = p;
    key->environment_len = n;

    p += n;
    key->id = p + 1;

    if (p[0] != '_'
        || !rbgv_base62_valid(p + 1, RBGV_ID_LEN)
        || p[1 + RBGV_ID_LEN] != '_'
        || !rbgv_base62_valid(p + 2 + RBGV_ID_LEN, RBGV_SECRET_LEN)
        || p[2 + RBGV_ID_LEN + RBGV_SECRET_LEN] != '_')
    {
        return RBGV_KEY_FORM;
    }

    n = len - RBGV_CRC_LEN;

    rbgv_crc_write(rbgv_crc32(text, n - 1), crc);

    if (memcmp(text + n, crc, RBGV_CRC_LEN) != 0) {
        return RBGV_KEY_CHECKSUM;
    }

    return RBGV_KEY_OK;
}


int
rbgv_key_generate(const char *environment, const char *id,
    char text[RBGV_KEY_MAX + 1])
{
    char    *p;
    size_t   n;

    n = strlen(environment);

    if (!rbgv_environment_valid(environment, n)
        || (id != NULL && !rbgv_id_valid(id, strlen(id))))
    {
        return -1;
    }

    p = text;

    memcpy(p, RBGV_KEY_PREFIX, RBGV_KEY_PREFIX_LEN);
    p += RBGV_KEY_PREFIX_LEN;

    memcpy(p, environment, n);
    p += n;

    *p++ = '_';

    if (id != NULL) {
        memcpy(p, id, RBGV_ID_LEN);

    } else if (rbgv_base62_random(p, RBGV_ID_LEN) == -1) {
        return -1;
    }

    p += RBGV_ID_LEN;
    *p++ = '_';

    if (rbgv_base62_random(p, RBGV_SECRET_LEN) == -1) {
        return -1;
    }

    p += RBGV_SECRET_LEN;

    rbgv_crc_write(rbgv_crc32(text, p - text), p + 1);

    *p = '_';
    p[1 + RBGV_CRC_LEN] = '\0';

    return 0;
}


int
rbgv_environment_valid(const char *name, size_t len)
{
    size_t  i;

    if (len == 0 || len > RBGV_ENVIRONMENT_MAX
        || name[0] < 'a' || name[0] > 'z')
    {
        return 0;
    }

    for (i = 1; i < len; i++) {
        if ((name[i] < 'a' || name[i] > 'z')
            && (name[i] < '0' || name[i] > '9'))
        {
            return 0;
        }
    }

    return 1;
}


int
rbgv_id_valid(const char *id, size_t len)
{
    return len == RBGV_ID_LEN && rbgv_base62_valid(id, len);
}


int
rbgv_opaque_valid(const char *text, size_t len)
{
    size_t  i;

    if (len < RBGV_OPAQUE_MIN || len > RBGV_OPAQUE_MAX
        || memcmp(text, RBGV_KEY_PREFIX, RBGV_KEY_PREFIX_LEN) == 0)
    {
        return 0;
    }

    for (i = 0; i < len; i++) {
        if (text[i] < 0x21 || text[i] > 0x7e) {
            return 0;
        }
    }

    return 1;
}


static uint32_t
rbgv_crc32(const char *p, size_t len)
{
    size_t    i;
    uint32_t  crc;

    /* the reflected polynomial 0xedb88320, four bits a step */

    static const uint32_t  table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
        0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c
    };

    crc = 0xffffffff;

    for (i = 0; i < len; i++) {
        crc ^= (unsigned char) p[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }

    return ~crc;
}


static void
rbgv_crc_write(uint32_t crc, char out[RBGV_CRC_LEN])
{
    int  i;

    for (i = RBGV_CRC_LEN - 1; i >= 0; i--) {
        out[i] = rbgv_base62[crc % 62];
        crc /= 62;
    }
}


static int
rbgv_base62_valid(const char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if ((p[i] < '0' || p[i] > '9')
            && (p[i] < 'A' || p[i] > 'Z')
            && (p[i] < 'a' || p[i] > 'z'))
        {
            return 0;
        }
    }

    return 1;
}


static int
rbgv_base62_random(char *out, size_t len)
{
    size_t         i, n;
    unsigned char  buf[64];

    n = 0;

    while (n < len) {

        if (RAND_bytes(buf, sizeof(buf)) != 1) {
            return -1;
        }

        /* 248 is the largest multiple of 62 in a byte: no modulo bias */

        for (i = 0; i < sizeof(buf) && n < len; i++) {
            if (buf[i] < 248) {
                out[n++] = rbgv_base62[buf[i] % 62];
            }
        }
    }

    OPENSSL_cleanse(buf, sizeof(buf));

    return 0;
}


rbgv_digester_t *
rbgv_digester_create(const unsigned char *pepper, size_t len)
{
    OSSL_PARAM        params[2];
    rbgv_digester_t  *d;

    d = calloc(1, sizeof(rbgv_digester_t));
    if (d == NULL) {
        return NULL;
    }

    d->md = EVP_MD_fetch(NULL, "SHA256", NULL);
    d->md_ctx = EVP_MD_CTX_new();

    if (d->md == NULL || d->md_ctx == NULL) {
        goto failed;
    }

    if (pepper == NULL) {
        return d;
    }

    d->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (d->mac == NULL) {
        goto failed;
    }

    d->mac_ctx = EVP_MAC_CTX_new(d->mac);
    if (d->mac_ctx == NULL) {
        goto failed;
    }

    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                                 "SHA256", 0);
    params[1] = OSSL_PARAM_construct_end();

    if (EVP_MAC_init(d->mac_ctx, pepper, len, params) != 1) {
        goto failed;
    }

    return d;

failed:

    rbgv_digester_free(d);

    return NULL;
}


void
rbgv_digester_free(rbgv_digester_t *d)
{
    if (d == NULL) {
        return;
    }

    EVP_MAC_CTX_free(d->mac_ctx);
    EVP_MAC_free(d->mac);
    EVP_MD_CTX_free(d->md_ctx);
    EVP_MD_free(d->md);
    free(d);
}


int
rbgv_digest_key(rbgv_digester_t *d, const char *text, size_t len,
    unsigned char digest[RBGV_DIGEST_LEN])
{
    unsigned char  sha256[RBGV_DIGEST_LEN];

    if (rbgv_digest_plain(d, text, len, sha256) == -1) {
        return -1;
    }

    return rbgv_digest_sha256(d, sha256, digest);
}


int
rbgv_digest_plain(rbgv_digester_t *d, const char *text, size_t len,
    unsigned char sha256[RBGV_DIGEST_LEN])
{
    if (EVP_DigestInit_ex2(d->md_ctx, d->md, NULL) != 1
        || EVP_DigestUpdate(d->md_ctx, text, len) != 1
        || EVP_DigestFinal_ex(d->md_ctx, sha256, NULL) != 1)
    {
        return -1;
    }

    return 0;
}


int
rbgv_digest_sha256(rbgv_digester_t *d,
    const unsigned char sha256[RBGV_DIGEST_LEN],
    unsigned char digest[RBGV_DIGEST_LEN])
{
    size_t  len;

    if (d->mac_ctx == NULL) {
        memcpy(digest, sha256, RBGV_DIGEST_LEN);
        return 0;
    }

    /* without a key the context starts over with the one it has */

    if (EVP_MAC_init(d->mac_ctx, NULL, 0, NULL) != 1
        || EVP_MAC_update(d->mac_ctx, sha256, RBGV_DIGEST_LEN) != 1
        || EVP_MAC_final(d->mac_ctx, digest, &len, RBGV_DIGEST_LEN) != 1)
    {
        return -1;
    }

    return 0;
}


/* CRYPTO_memcmp() does so byte by byte */

int
rbgv_equal(const void *a, const void *b, size_t len)
{
    size_t                i;
    uint64_t              x, y, differ;
    const unsigned char  *p = a, *q = b;

    memcpy(&x, p + len - 8, 8);
    memcpy(&y, q + len - 8, 8);

    differ = x ^ y;

    for (i = 0; i + 8 < len; i += 8) {
        memcpy(&x, p + i, 8);
        memcpy(&y, q + i, 8);

        differ |= x ^ y;
    }

    return differ == 0;
}


void
rbgv_id_derive(const unsigned char sha256[RBGV_DIGEST_LEN],
    char id[RBGV_ID_LEN])
{
    int            i, j;
    unsigned       n;
    unsigned char  digits[RBGV_ID_LEN];

    memset(digits, 0, RBGV_ID_LEN);

    /* what is carried out of the first digit is what the modulo takes away */

    for (i = 0; i < RBGV_ID_BYTES; i++) {
        n = sha256[i];

        for (j = RBGV_ID_LEN - 1; j >= 0; j--) {
            n += digits[j] << 8;
            digits[j] = n % 62;
            n /= 62;
        }
    }

    for (j = 0; j < RBGV_ID_LEN; j++) {
        id[j] = rbgv_base62[digits[j]];
    }
}


void
rbgv_digest_hex(const unsigned char digest[RBGV_DIGEST_LEN],
    char hex[RBGV_DIGEST_HEX])
{
    size_t  i;

    for (i = 0; i < RBGV_DIGEST_LEN; i++) {
        *hex++ = rbgv_hex[digest[i] >> 4];
        *hex++ = rbgv_hex[digest[i] & 15];
    }
}


int
rbgv_line_read(const char *path, char *line, size_t size, const char **err)
{
    int      fd;
    char    *p, *last, *end;
    ssize_t  n;

    fd = open(path, O_RDONLY|O_CLOEXEC);
    if (fd == -1) {
        *err = strerror(errno);
        return -1;
    }

    /* a pipe may give a line in parts */

    p = line;
    end = line + size;

    do {
        n = read(fd, p, end - p);

        if (n == -1) {
            *err = strerror(errno);
            (void) close(fd);
            OPENSSL_cleanse(line, size);
            return -1;
        }

        last = memchr(p, '\n', n);
        p += n;

    } while (n != 0 && last == NULL && p < end);

    (void) close(fd);

    if (last == NULL) {
        last = p;
    }

    if (last == end) {
        *err = "its first line is too long";
        OPENSSL_cleanse(line, size);
        return -1;
    }

    for (p = line; p < last && (*p == ' ' || *p == '\t'); p++) {
        /* void */
    }

    while (last > p
           && (last[-1] == ' ' || last[-1] == '\t' || last[-1] == '\r'))
    {
        last--;
    }

    n = last - p;

    memmove(line, p, n);
    OPENSSL_cleanse(line + n, size - n);

    return n;
}


int
rbgv_pepper_read(const char *path, unsigned char pepper[RBGV_PEPPER_MAX],
    const char **err)
{
    int   len;
    char  line[RBGV_PEPPER_MAX + 128];

    len = rbgv_line_read(path, line, sizeof(line), err);

    if (len == -1) {
        return -1;
    }

    if (len < RBGV_PEPPER_MIN) {
        *err = "its first line is shorter than 16 characters";
        len = -1;

    } else if (len > RBGV_PEPPER_MAX) {
        *err = "its first line is longer than 512 characters";
        len = -1;

    } else {
        memcpy(pepper, line, len);
    }

    OPENSSL_cleanse(line, sizeof(line));

    return len;
}


int
rbgv_pepper_create(const char *path)
{
    int            fd, rc, err;
    char           line[RBGV_DIGEST_HEX + 1], *temp;
    size_t         len;
    unsigned char  random[RBGV_DIGEST_LEN];

    len = strlen(path);

    temp = malloc(len + sizeof(".XXXXXX"));
    if (temp == NULL) {
        return -1;
    }

    memcpy(temp, path, len);
    memcpy(temp + len, ".XXXXXX", sizeof(".XXXXXX"));

    /* mkstemp() makes it 0600 */

    fd = mkstemp(temp);
    if (fd == -1) {
        free(temp);
        return -1;
    }

    rc = -1;
    errno = EIO;

    if (RAND_bytes(random, sizeof(random)) == 1) {
        rbgv_digest_hex(random, line);
        line[RBGV_DIGEST_HEX] = '\n';

        /* unlike rename(), link() replaces nothing */

        if (write(fd, line, sizeof(line)) == sizeof(line)
            && fsync(fd) == 0
            && link(temp, path) == 0)
        {
            rc = 0;
        }
    }

    err = errno;

    (void) unlink(temp);
    (void) close(fd);

    OPENSSL_cleanse(random, sizeof(random));
    OPENSSL_cleanse(line, sizeof(line));
    free(temp);

    errno = err;

    return rc;
}
