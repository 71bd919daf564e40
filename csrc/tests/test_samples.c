/* Samples: vector instructions select the positions that the definition selects, at all lengths
 * and places, and read nothing behind them; under the sanitizers. */
#include "check.h"

#include "delta/samples.h"

enum { MOST = 1000 };

int main(void)
{
    uint8_t bytes[MOST + PK_SAMPLE_BYTES];
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < sizeof bytes; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        bytes[i] = (uint8_t)(i < 300 ? state : i < 500 ? state & 1 : i < 700 ? 0 : state & 63);
    }
    size_t selected = 0;
    for (unsigned log = 0; log <= 16; log++)
        for (size_t count = 0; count <= MOST; count += log == 3 ? 1 : 61) {
            size_t start = (MOST - count) / 3;
            uint8_t *exact = exact_copy(bytes + start, count + PK_SAMPLE_BYTES - 1);
            uint64_t bits[MOST / PK_SAMPLE_WORD + 1];
            memset(bits, 0xa5, sizeof bits);
            pk_samples(exact, count, log, bits);
            size_t words = (count + PK_SAMPLE_WORD - 1) / PK_SAMPLE_WORD;
            for (size_t i = 0; i < words * PK_SAMPLE_WORD; i++) {
                unsigned bit = (unsigned)(bits[i / PK_SAMPLE_WORD] >> i % PK_SAMPLE_WORD & 1);
                CHECK(bit == (i < count && pk_is_sample(exact + i, log)));
                selected += bit && log == 3;
            }
            CHECK(log || !count || bits[0] & 1); /* each position */
            free(exact);
        }
    CHECK(selected > 20000 && selected < 250000); /* of 500,000 */
    puts("samples: ok");
    return 0;
}
