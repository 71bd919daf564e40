/* The version of the package that this library was built for. */
#ifndef PK_COMMON_VERSION_H
#define PK_COMMON_VERSION_H

/* Return the package's version, as in packer/_version.py, as a static string: the package refuses
 * a library of another version. Any number of threads may call it. */
const char *pk_version(void);

#endif
