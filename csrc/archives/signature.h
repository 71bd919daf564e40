/* Signatures of compressed members: where a gzip member, a zip entry or a bzip2
 * stream may begin.
 *
 * Sources: RFC 1952, 2.3.1 (1f 8b 08); PKWARE, APPNOTE.TXT, 4.3.7 (50 4b 03 04); the manual of
 * bzip2, 3.3.1 ("BZh" and a digit from 1 to 9). */
#ifndef PK_ARCHIVES_SIGNATURE_H
#define PK_ARCHIVES_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

/* Find the first of these signatures.
 *
 * data, length: the bytes to search, any number; borrowed for the call.
 * Returns the offset of the signature's first byte, or `length` if there is none. It is only a
 * hint: other bytes contain it by chance. No state, no allocation; any number of threads. */
size_t pk_find_signature(const uint8_t *data, size_t length);

/* Find the first magic number of a zstd frame (RFC 8878, 3.1.1: 28 b5 2f fd); arguments, result
 * and threads as for `pk_find_signature`. */
size_t pk_find_zstd(const uint8_t *data, size_t length);

#endif
