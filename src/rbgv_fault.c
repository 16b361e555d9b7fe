
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What may be wrong with the values of a key.
 */


#include <stdlib.h>
#include <string.h>

#include "rbgv_admin.h"


static const char *rbgv_text_fault(const char *text);


const char *
rbgv_owner_fault(const char *text)
{
    if (strlen(text) > RBGV_OWNER_MAX) {
        return "is longer than " RBGV_TEXT(RBGV_OWNER_MAX) " bytes";
    }

    return rbgv_text_fault(text);
}


const char *
rbgv_note_fault(const char *text)
{
    if (strlen(text) > RBGV_NOTE_MAX) {
        return "is longer than " RBGV_TEXT(RBGV_NOTE_MAX) " bytes";
    }

    return rbgv_text_fault(text);
}


static const char *
rbgv_text_fault(const char *text)
{
    json_t               *string;
    const unsigned char  *p;

    /* NULL if it is not UTF-8 */

    string = json_string(text);

    if (string == NULL) {
        return "is not UTF-8";
    }

    json_decref(string);

    for (p = (const unsigned char *) text; *p != '\0'; p++) {

        /* U+0080 to U+009F are control characters too */

        if (*p < ' ' || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0)) {
            return "has a control character";
        }
    }

    return NULL;
}


const char *
rbgv_credits_fault(const char *text)
{
    size_t  len;

    len = strspn(text, "0123456789");

    if (len == 0 || len > 16 || text[len] != '\0'
        || strtoll(text, NULL, 10) > RBGV_CREDITS_MAX)
    {
        return "is not a number between 0 and 9007199254740991";
    }

    return NULL;
}


const char *
rbgv_expires_fault(const char *text)
{
    return rbgv_duration_parse(text, strlen(text)) > 0
           ? NULL : "is not a time, as in \"90d\" or \"12h\"";
}
