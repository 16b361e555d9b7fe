
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Slots of a Cluster, for the module and for rbgvctl.
 */


#ifndef _RBGV_SLOT_H_INCLUDED_
#define _RBGV_SLOT_H_INCLUDED_


#include <stddef.h>


#define RBGV_SLOTS  16384


/* that of a name: of what is between its first "{" and the next "}", if any */
unsigned rbgv_slot(const char *name, size_t len);


#endif /* _RBGV_SLOT_H_INCLUDED_ */
