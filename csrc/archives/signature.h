/* Where a gzip member or a zip entry may begin: 1f 8b 08 (RFC 1952) or 50 4b 03 04 (APPNOTE.TXT of PKWARE, 4.3.7). */
#ifndef PK_SIGNATURE_H
#define PK_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

/* Return where the first of these signatures in data[0..length) begins, `length` if there is none. No state, no
 * allocation; any number of threads. */
size_t pk_find_signature(const uint8_t *data, size_t length);

#endif
