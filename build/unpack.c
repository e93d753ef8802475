/* The payload's files: out of the zstd frame and the tar (ustar) in it, into a folder; and whether they are still there. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "stub.h"

#define BLOCK 512
#define PATH_BYTES 256 /* ustar's prefix and name */

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2], user[32], group[32],
        major[8], minor[8], prefix[155], pad[12];
};

static uint8_t out[1 << 20];

struct stream {
    ZSTD_DStream *zstd;
    ZSTD_inBuffer in;
    ZSTD_outBuffer out;
    size_t at; /* how much of `out` is consumed */
};

static int fail(char reason[REASON_BYTES], const char *what, const char *path) {
    snprintf(reason, REASON_BYTES, "%s %s (%s)", what, path, strerror(errno));
    return -1;
}

/* Up to `wanted` bytes, where they lie; 0 at the end of the frame or where it is damaged. */
static size_t next(struct stream *stream, size_t wanted, const uint8_t **bytes) {
    while (stream->at == stream->out.pos) {
        size_t before = stream->in.pos;
        stream->out.pos = stream->at = 0;
        if (ZSTD_isError(ZSTD_decompressStream(stream->zstd, &stream->out, &stream->in))) return 0;
        if (stream->out.pos == 0 && stream->in.pos == before) return 0;
    }
    size_t there = stream->out.pos - stream->at, taken = there < wanted ? there : wanted;
    *bytes = out + stream->at;
    stream->at += taken;
    return taken;
}

/* `length` bytes of the stream to `fd`, or nowhere where it is -1. DAMAGED: it has no more; -1: they cannot be written. */
static int pass(struct stream *stream, uint64_t length, int fd) {
    while (length > 0) {
        const uint8_t *bytes;
        size_t got = next(stream, length > sizeof out ? sizeof out : length, &bytes);
        if (got == 0) return DAMAGED;
        length -= got;
        for (size_t done = 0; fd >= 0 && done < got;) {
            ssize_t n = write(fd, bytes + done, got - done);
            if (n < 0) return -1;
            done += (size_t)n;
        }
    }
    return 0;
}

static int copy(struct stream *stream, void *into, size_t length) {
    for (size_t done = 0; done < length;) {
        const uint8_t *bytes;
        size_t got = next(stream, length - done, &bytes);
        if (got == 0) return -1;
        memcpy((uint8_t *)into + done, bytes, got);
        done += got;
    }
    return 0;
}

/* A path that stays beneath its folder: relative, and no part of it `..` or empty. */
static int stays_inside(const char *path) {
    if (*path == '\0' || strcmp(path, LIST) == 0) return 0;
    for (const char *part = path; part; part = strchr(part, '/')) {
        if (*part == '/') part++;
        size_t length = strcspn(part, "/");
        if (length == 0 || (length == 2 && part[0] == '.' && part[1] == '.')) return 0;
    }
    return 1;
}

static int write_file(struct stream *stream, int into, const char *path, uint64_t bytes, mode_t mode, char reason[REASON_BYTES]) {
    int fd = openat(into, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0100 ? 0755 : 0644);
    if (fd < 0) return fail(reason, "cannot make", path);
    int result = pass(stream, bytes, fd);
    if ((close(fd) < 0 && result == 0) || result == -1) return fail(reason, "cannot write", path);
    return result;
}

static int unpack_entries(struct stream *stream, int into, FILE *list, char reason[REASON_BYTES]) {
    for (;;) {
        struct header header;
        char path[PATH_BYTES + 2];
        if (copy(stream, &header, sizeof header) < 0) return DAMAGED;
        if (header.name[0] == '\0') return 0; /* the archive's end */
        if (memcmp(header.magic, "ustar", 5) != 0) return DAMAGED;
        snprintf(path, sizeof path, "%.155s%s%.100s", header.prefix, header.prefix[0] ? "/" : "", header.name);
        char number[13] = {0};
        memcpy(number, header.size, sizeof header.size);
        uint64_t bytes = strtoull(number, NULL, 8);
        mode_t mode = (mode_t)strtoul(header.mode, NULL, 8);
        size_t length = strlen(path);
        if (header.type == '5' && length > 0 && path[length - 1] == '/') path[length - 1] = '\0';
        if (!stays_inside(path)) return DAMAGED;
        if (header.type == '5') {
            if (mkdirat(into, path, 0755) < 0) return fail(reason, "cannot make", path);
            continue;
        }
        if (header.type != '0') return DAMAGED;
        int result = write_file(stream, into, path, bytes, mode, reason);
        if (result < 0) return result;
        if (pass(stream, (BLOCK - bytes % BLOCK) % BLOCK, -1) < 0) return DAMAGED;
        fprintf(list, "%llu %s\n", (unsigned long long)bytes, path);
    }
}

int unpack(const struct payload *payload, int into, char reason[REASON_BYTES]) {
    struct stream stream = {ZSTD_createDStream(), {payload->bytes, payload->about.payload_bytes, 0}, {out, sizeof out, 0}, 0};
    int fd = openat(into, LIST, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    FILE *list = fd < 0 ? NULL : fdopen(fd, "w");
    if (list == NULL) return fail(reason, "cannot make", LIST);
    int result = unpack_entries(&stream, into, list, reason);
    if ((ferror(list) | fclose(list)) != 0 && result == 0) result = fail(reason, "cannot write", LIST);
    ZSTD_freeDStream(stream.zstd);
    return result;
}

int is_whole(int folder) {
    int fd = openat(folder, LIST, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    FILE *list = fd < 0 ? NULL : fdopen(fd, "r");
    if (list == NULL) return 0;
    unsigned long long bytes;
    char path[PATH_BYTES + 2];
    int whole = 0, read;
    while ((read = fscanf(list, "%llu %257[^\n]\n", &bytes, path)) == 2) {
        struct stat about;
        if (fstatat(folder, path, &about, AT_SYMLINK_NOFOLLOW) < 0 || (uint64_t)about.st_size != bytes) break;
        whole = 1;
    }
    fclose(list);
    return whole && read == EOF;
}
