#include "common/version.h"

#ifndef PK_VERSION
#define PK_VERSION "unknown" /* csrc/ffi_build.py defines it; the C tests do not need it */
#endif

const char *pk_version(void)
{
    return PK_VERSION;
}
