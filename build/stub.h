/* What the stub's files know of each other. One process, one thread, no heap but zstd's; every failure is a sentence. */
#ifndef STUB_H
#define STUB_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32
#define REASON_BYTES 512
#define DAMAGED (-2) /* the payload is not what its digest says */

/* The last bytes of the one file; build/pack.py writes them. Numbers are little-endian, as the machine's. */
struct trailer {
    char magic[8];
    uint64_t payload_bytes;  /* a zstd frame with a tar in it, just before the trailer */
    uint64_t unpacked_bytes; /* what its files take together */
    uint8_t digest[DIGEST_BYTES]; /* SHA-256 of the payload */
};

struct payload {
    const uint8_t *bytes;
    struct trailer about;
    char digest_hex[2 * DIGEST_BYTES + 1];
};

/* sha256.c */
void sha256(const uint8_t *bytes, size_t length, uint8_t digest[DIGEST_BYTES]);

/* unpack.c: all of the payload into the open, empty folder `into`, and a list of it as the file LIST. 0, or -1 with
 * `reason` said, or DAMAGED. It believes nothing in the payload: no path leads out, no link is made. */
int unpack(const struct payload *payload, int into, char reason[REASON_BYTES]);
/* Whether the folder holds all that its list names, at its size. */
int is_whole(int folder);

/* cache.c: an open folder with the whole program in it, beneath `path`, and its name in `program`; or -1 with `reason`,
 * or DAMAGED. Unpacks it there where it is not yet. What it returns is held against removal until this process ends. */
int program_in(const char *path, const struct payload *payload, char *program, size_t size, char reason[REASON_BYTES]);

#define LIST ".files"

#endif
