
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * API keys: their text form, their digest, the pepper.  No nginx in here:
 * the module, rbgvctl and the unit tests compile the same file.
 */


#ifndef _RBGV_KEY_H_INCLUDED_
#define _RBGV_KEY_H_INCLUDED_


#include <stddef.h>


/*
 * rbgv_<environment>_<id>_<secret>_<crc>
 *
 * id, secret and crc are base62 (0-9, A-Z, a-z); the environment is
 * [a-z][a-z0-9]*; crc is the CRC-32 (ISO-HDLC, as in zlib and PNG) of
 * everything before its underscore, in base62, most significant digit first.
 */

#define RBGV_ENVIRONMENT_MAX   16
#define RBGV_ID_LEN            12
#define RBGV_SECRET_LEN        32
#define RBGV_CRC_LEN           6

#define RBGV_KEY_MAX                                                          \
    (sizeof("rbgv_") - 1 + RBGV_ENVIRONMENT_MAX + 1 + RBGV_ID_LEN + 1         \
     + RBGV_SECRET_LEN + 1 + RBGV_CRC_LEN)

/* of keys that another system has issued */
#define RBGV_OPAQUE_MIN        16
#define RBGV_OPAQUE_MAX        256

#define RBGV_DIGEST_LEN        32      /* bytes */
#define RBGV_DIGEST_HEX        64      /* characters, no terminator */

#define RBGV_PEPPER_MIN        16      /* bytes */
#define RBGV_PEPPER_MAX        512     /* bytes */


typedef enum {
    RBGV_KEY_OK = 0,
    RBGV_KEY_FORM,                     /* length, prefix or alphabet */
    RBGV_KEY_CHECKSUM
} rbgv_key_error_e;


/* pointers into the parsed text, not terminated */

typedef struct {
    const char    *environment;
    size_t         environment_len;
    const char    *id;                 /* RBGV_ID_LEN characters */
} rbgv_key_t;


/* owned by one thread: its contexts are reused by every call */

typedef struct rbgv_digester_s  rbgv_digester_t;


rbgv_key_error_e rbgv_key_parse(const char *text, size_t len, rbgv_key_t *key);

/*
 * Writes a new key, zero-terminated, for a given id or, if id is NULL, for a
 * new one.  Returns 0, or -1 if the CSPRNG failed or the environment or the
 * id is not well formed.
 */
int rbgv_key_generate(const char *environment, const char *id,
    char text[RBGV_KEY_MAX + 1]);

/* 1 if well formed, 0 if not */
int rbgv_environment_valid(const char *name, size_t len);
int rbgv_id_valid(const char *id, size_t len);

/* visible ASCII that does not begin as a key of ours does */
int rbgv_opaque_valid(const char *text, size_t len);


/*
 * pepper NULL: digests are SHA-256(key); else HMAC-SHA-256(pepper,
 * SHA-256(key)), RFC 2104.  The pepper is copied.  NULL on failure.
 */
rbgv_digester_t *rbgv_digester_create(const unsigned char *pepper, size_t len);
void rbgv_digester_free(rbgv_digester_t *d);

/* all return 0, or -1 if OpenSSL failed; the second one is of any digester */
int rbgv_digest_key(rbgv_digester_t *d, const char *text, size_t len,
    unsigned char digest[RBGV_DIGEST_LEN]);
int rbgv_digest_plain(rbgv_digester_t *d, const char *text, size_t len,
    unsigned char sha256[RBGV_DIGEST_LEN]);
int rbgv_digest_sha256(rbgv_digester_t *d,
    const unsigned char sha256[RBGV_DIGEST_LEN],
    unsigned char digest[RBGV_DIGEST_LEN]);

/*
 * 1 if both are the same, in a time that depends on nothing but the length,
 * which is 16 bytes at least.
 */
int rbgv_equal(const void *a, const void *b, size_t len);

/*
 * The id of a key of another system, which has none in its text: the first 9
 * bytes of its SHA-256 as a big-endian number, modulo 62^12, in base62, most
 * significant digit first.  Not terminated.
 */
void rbgv_id_derive(const unsigned char sha256[RBGV_DIGEST_LEN],
    char id[RBGV_ID_LEN]);

/* lower case, not terminated */
void rbgv_digest_hex(const unsigned char digest[RBGV_DIGEST_LEN],
    char hex[RBGV_DIGEST_HEX]);


/*
 * Reads the first line of a file, without white space around it, as a
 * zero-terminated string.  Returns its length, which may be 0, or -1 with a
 * phrase in *err that does not name the file and never quotes its content.
 */
int rbgv_line_read(const char *path, char *line, size_t size,
    const char **err);

/* the same for a pepper, not terminated */
int rbgv_pepper_read(const char *path, unsigned char pepper[RBGV_PEPPER_MAX],
    const char **err);

/*
 * Creates the file, mode 0600, with 256 bits from the CSPRNG in hex: whole,
 * or not at all.  Returns 0, or -1 with errno set; EEXIST if there is one
 * already.
 */
int rbgv_pepper_create(const char *path);


#endif /* _RBGV_KEY_H_INCLUDED_ */
