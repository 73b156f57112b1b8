/* SSE arithmetic by the host's own instructions.
 *
 * QEMU computes in integers unless the inexact flag happens to be set. Where the guest's MXCSR asks for
 * what the host's is set to (round to nearest, no flushing), the host's instruction is the definition.
 * MXCSR's sticky flags are not kept, as in the replaced functions. */
#include <emmintrin.h>
#include <string.h>

#include "native.h"

#define MXCSR_SPECIAL 0xe040u /* rounding control, flush to zero, denormals are zero */

static inline bool is_default(const Env *env) { return !(U32_AT((void *)env, ENV_MXCSR) & MXCSR_SPECIAL); }

/* The destination is the first operand, as the order decides which NaN survives. */
#define DEFINE_ARITHMETIC(index, name)                                         \
    void helper_##name##_x86_64(Env *env, void *destination, void *source) {   \
        if (!is_default(env)) {                                                \
            lib.arithmetic[index](env, destination, source);                   \
            return;                                                            \
        }                                                                      \
        __m128i d = _mm_loadu_si128(destination), s = _mm_loadu_si128(source); \
        __asm__(#name " %1, %0" : "+x"(d) : "x"(s));                           \
        _mm_storeu_si128(destination, d);                                      \
    }

DEFINE_ARITHMETIC(0, addss) DEFINE_ARITHMETIC(1, addsd) DEFINE_ARITHMETIC(2, addps) DEFINE_ARITHMETIC(3, addpd)
DEFINE_ARITHMETIC(4, subss) DEFINE_ARITHMETIC(5, subsd) DEFINE_ARITHMETIC(6, subps) DEFINE_ARITHMETIC(7, subpd)
DEFINE_ARITHMETIC(8, mulss) DEFINE_ARITHMETIC(9, mulsd) DEFINE_ARITHMETIC(10, mulps) DEFINE_ARITHMETIC(11, mulpd)
DEFINE_ARITHMETIC(12, divss) DEFINE_ARITHMETIC(13, divsd) DEFINE_ARITHMETIC(14, divps) DEFINE_ARITHMETIC(15, divpd)
DEFINE_ARITHMETIC(16, sqrtss) DEFINE_ARITHMETIC(17, sqrtsd) DEFINE_ARITHMETIC(18, sqrtps) DEFINE_ARITHMETIC(19, sqrtpd)
DEFINE_ARITHMETIC(20, cvtss2sd) DEFINE_ARITHMETIC(21, cvtsd2ss)

/* UCOMISD and COMISD differ only in an exception that QEMU does not raise. */
#define DEFINE_COMPARE(index, name)                                            \
    void helper_##name##_x86_64(Env *env, void *destination, void *source) {   \
        if (!is_default(env)) {                                                \
            lib.compare[index](env, destination, source);                      \
            return;                                                            \
        }                                                                      \
        __m128i d = _mm_loadu_si128(destination), s = _mm_loadu_si128(source); \
        int zero, parity, carry;                                               \
        __asm__(#name " %4, %3" : "=@ccz"(zero), "=@ccp"(parity), "=@ccc"(carry) : "x"(d), "x"(s)); \
        env->cc_src = zero << 6 | parity << 2 | carry;                         \
    }

DEFINE_COMPARE(0, ucomisd) DEFINE_COMPARE(1, comisd) DEFINE_COMPARE(2, ucomiss) DEFINE_COMPARE(3, comiss)
