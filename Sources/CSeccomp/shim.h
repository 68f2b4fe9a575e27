#include <seccomp.h>

/// SCMP_ACT_ERRNO, which is a macro with an argument.
static inline uint32_t tapas_seccomp_errno(uint16_t error) { return SCMP_ACT_ERRNO(error); }
