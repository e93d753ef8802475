/* The beginning of the one file: finds the program that lies packed at the file's end, unpacks it once, runs it.
 *
 * Static, so that it needs nothing of the box; it knows no user but by HOME, since a static program cannot ask for one.
 * What runs is in a cache folder; which folders are tried, in which order, is here. 125: no folder would do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stub.h"

#define CANNOT_START 125
#define CANDIDATES 8

static const char MAGIC[8] = "INGLE-1\n";
static char candidates[CANDIDATES][PATH_MAX], reasons[CANDIDATES][REASON_BYTES];
static int candidate_count;

static void candidate(const char *folder, const char *beneath) {
    if (folder && folder[0] == '/' && strlen(folder) + strlen(beneath) < PATH_MAX - 128)
        snprintf(candidates[candidate_count++], PATH_MAX, "%s%s", folder, beneath);
}

/* The data folder that the command line names, as a path of its own; NULL where it names none. */
static const char *data_folder(int argc, char **argv, char absolute[PATH_MAX]) {
    const char *named = getenv("INGLE_DATA_DIR");
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--data-dir=", 11) == 0) named = argv[i] + 11;
        if (strcmp(argv[i], "--data-dir") == 0 && i + 1 < argc) named = argv[i + 1];
    }
    char here[PATH_MAX];
    if (named == NULL || named[0] == '/' || getcwd(here, sizeof here) == NULL) return named;
    if (snprintf(absolute, PATH_MAX, "%s/%s", here, named) >= PATH_MAX) return NULL;
    return absolute;
}

/* HOME, unless it is another user's, as it may be after sudo. */
static const char *own_home(void) {
    const char *home = getenv("HOME");
    struct stat about;
    return home && stat(home, &about) == 0 && about.st_uid == geteuid() ? home : NULL;
}

static void find_candidates(int argc, char **argv) {
    char absolute[PATH_MAX], own[64];
    const char *home = own_home(), *data = data_folder(argc, argv, absolute);
    snprintf(own, sizeof own, "/ingle-%u", (unsigned)geteuid());
    candidate(getenv("INGLE_CACHE_DIR"), "");
    candidate(getenv("XDG_CACHE_HOME"), "/ingle");
    candidate(home, "/.cache/ingle");
    candidate("/var/cache/ingle", "");
    if (data) candidate(data, "/program");
    else if (geteuid() == 0) candidate("/var/lib/ingle", "/program");
    else candidate(home, "/.local/share/ingle/program");
    candidate("/tmp", own);
    candidate("/dev/shm", own);
}

/* What the file at `path` carries. Ends the process where that is not whole. */
static struct payload find_payload(const char *path) {
    struct payload payload;
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) < 0) {
        fprintf(stderr, "ingle cannot read itself at %s (%s): /proc must be mounted.\n", path, strerror(errno));
        exit(CANNOT_START);
    }
    off_t at = about.st_size - (off_t)sizeof payload.about;
    if (at < 0 || pread(fd, &payload.about, sizeof payload.about, at) != sizeof payload.about ||
        memcmp(payload.about.magic, MAGIC, sizeof MAGIC) != 0 || payload.about.payload_bytes > (uint64_t)at) {
        fprintf(stderr, "ingle is damaged or cut short: its end is missing. Copy the file again.\n");
        exit(CANNOT_START);
    }
    uint8_t *all = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (all == MAP_FAILED) {
        fprintf(stderr, "ingle cannot read itself (%s).\n", strerror(errno));
        exit(CANNOT_START);
    }
    close(fd);
    payload.bytes = all + (uint64_t)at - payload.about.payload_bytes;
    for (int i = 0; i < DIGEST_BYTES; i++) sprintf(payload.digest_hex + 2 * i, "%02x", payload.about.digest[i]);
    return payload;
}

/* The loader of the program needs a library that the program carries; one of the box may be missing. */
static void set_libraries(const char *program) {
    char path[3 * PATH_MAX];
    const char *given = getenv("LD_LIBRARY_PATH");
    int length = (int)strlen(program) - (int)strlen("/ingle");
    snprintf(path, sizeof path, "%.*s/_internal%s%s", length, program, given && *given ? ":" : "", given ? given : "");
    setenv("LD_LIBRARY_PATH", path, 1);
}

int main(int argc, char **argv) {
    char self[PATH_MAX] = "", program[2 * PATH_MAX];
    struct payload payload = find_payload("/proc/self/exe");
    umask(umask(0) & 077);  /* one that takes this user's own rights would have it unpack what it cannot read */
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0) setenv("INGLE_ONE_FILE", self, 1);
    find_candidates(argc, argv);
    for (int i = 0; i < candidate_count; i++) {
        int folder = program_in(candidates[i], &payload, program, sizeof program, reasons[i]);
        if (folder == DAMAGED) {
            fprintf(stderr, "ingle is damaged: its content is not what its SHA-256 says. Copy the file again.\n");
            return CANNOT_START;
        }
        if (folder >= 0) {
            set_libraries(program);
            execv(program, argv);
            snprintf(reasons[i], REASON_BYTES, "the program cannot be started from there (%s)", strerror(errno));
            close(folder);
        }
        if (i == 0 && getenv("INGLE_CACHE_DIR")) fprintf(stderr, "ingle does not use %s: %s.\n", candidates[0], reasons[0]);
    }
    fprintf(stderr, "ingle unpacks itself once, and found no folder for that:\n");
    for (int i = 0; i < candidate_count; i++) fprintf(stderr, "  %s: %s.\n", candidates[i], reasons[i]);
    fprintf(stderr, "Name a folder of your own, on a disk that programs may run from, with INGLE_CACHE_DIR.\n");
    return CANNOT_START;
}
