/* A cache folder: whether it can be trusted, the program in it, its unpacking once, and the removal of older ones.
 *
 *     DIGEST/            the program, whole: it came here by one rename. Nobody waits until it is on the disk: .boot names
 *                        the boot in which it was written, .synced says that it outlives that
 *     DIGEST.used        locked (shared) as long as a process runs that program; its time is that of the last start
 *     DIGEST.part/       being unpacked, or left by one that was killed meanwhile
 *     lock               held by whoever unpacks or removes
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stub.h"

#define SPARE_BYTES (8u << 20)
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static int say(char reason[REASON_BYTES], const char *sentence) {
    snprintf(reason, REASON_BYTES, "%s", sentence);
    return -1;
}

static int say_errno(char reason[REASON_BYTES], const char *what) {
    snprintf(reason, REASON_BYTES, "%s (%s)", what, strerror(errno));
    return -1;
}

/* Makes the folder and those above it that are not there, for this user alone. */
static void make_folders(const char *path) {
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(part, 0700);
        *slash = '/';
    }
    mkdir(part, 0700);
}

/* Whether others can put something of theirs in this place. */
static const char *distrust(const struct stat *about, int sticky_will_do) {
    if (about->st_uid != geteuid() && about->st_uid != 0) return "it, or a folder above it, belongs to another user";
    if (sticky_will_do && about->st_mode & S_ISVTX) return NULL;
    if (about->st_mode & S_IWOTH) return "it, or a folder above it, can be written by everybody: chmod o-w";
    if (about->st_mode & S_IWGRP && about->st_gid != getegid()) return "it, or a folder above it, can be written by a group: chmod g-w";
    return NULL;
}

/* Opens the folder where nobody else can change what is in it. */
static int open_trusted(const char *path, char reason[REASON_BYTES]) {
    struct stat about;
    struct statvfs disk;
    char real[PATH_MAX];
    const char *fault;
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) return say_errno(reason, errno == ELOOP || errno == ENOTDIR ? "it is no folder, or a link to one" : "it cannot be had");
    if (fstat(folder, &about) == 0 && (fault = distrust(&about, 0))) return close(folder), say(reason, fault);
    if (fstatvfs(folder, &disk) == 0 && disk.f_flag & ST_NOEXEC)
        return close(folder), say(reason, "no program can be started from there (noexec)");
    if (realpath(path, real) == NULL) return close(folder), say_errno(reason, "it cannot be had");
    for (char *slash = strrchr(real, '/'); slash && slash != real; slash = strrchr(real, '/')) {
        *slash = '\0';
        if (stat(real, &about) == 0 && (fault = distrust(&about, 1))) return close(folder), say(reason, fault);
    }
    return folder;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where) {
    (void)about, (void)kind, (void)where;
    return remove(path);
}

/* Removes a folder of this cache and all that is in it: twice, since sync_later() may write its word meanwhile. */
static void remove_folder(int cache, const char *name) {
    char path[64 + NAME_MAX];
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", cache, name);
    for (int times = 0; times < 2; times++) nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int lock_of(int cache, const char *digest) {
    char name[128];
    snprintf(name, sizeof name, "%s.used", digest);
    int fd = openat(cache, name, O_RDONLY | O_CREAT | O_NOFOLLOW, 0644);
    return fd >= 0 ? fd : openat(cache, name, O_RDONLY | O_NOFOLLOW);
}

/* Removes programs that no process runs: all of them, or all but this one and the other one that ran last. Call with
 * the cache's lock. */
static void remove_unused(int cache, const char *but, int all) {
    char kept[NAME_MAX + 1] = "";
    time_t kept_s = 0;
    for (int removing = 0; removing < 2; removing++) { /* first finds the one to keep, then removes */
        int fd = openat(cache, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *entries = fd < 0 ? NULL : fdopendir(fd);
        if (entries == NULL) return;
        for (struct dirent *entry; (entry = readdir(entries));) {
            char digest[2 * DIGEST_BYTES + 1];
            struct stat about;
            size_t length = strspn(entry->d_name, "0123456789abcdef");
            if (length != 2 * DIGEST_BYTES || (entry->d_name[length] && strcmp(entry->d_name + length, ".part"))) continue;
            snprintf(digest, sizeof digest, "%.64s", entry->d_name);
            int part = entry->d_name[length] != '\0';
            if (strcmp(digest, but) == 0 && !part) continue;
            int used = lock_of(cache, digest);
            if (!removing && !part && used >= 0 && fstat(used, &about) == 0 && about.st_mtime > kept_s) {
                kept_s = about.st_mtime;
                snprintf(kept, sizeof kept, "%s", digest);
            }
            if (removing && (part || all || strcmp(digest, kept)) && used >= 0 && flock(used, LOCK_EX | LOCK_NB) == 0)
                remove_folder(cache, entry->d_name);
            if (used >= 0) close(used);
        }
        closedir(entries);
    }
}

static ssize_t read_word(int folder, const char *path, char word[64]) {
    int fd = openat(folder, path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, word, 64);
    if (fd >= 0) close(fd);
    return length;
}

/* Notes the boot in which this folder was written: until the next one its files can be read, on the disk or not. */
static int note_boot(int folder) {
    char boot[64];
    ssize_t length = read_word(AT_FDCWD, BOOT_ID, boot);
    int fd = openat(folder, ".boot", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int written = fd < 0 || write(fd, boot, length < 0 ? 0 : (size_t)length) < 0 ? -1 : 0;
    if (fd >= 0) close(fd);
    return written;
}

/* Whether a power cut cannot have taken what was written here. */
static int outlived(int folder) {
    char noted[64], now[64];
    if (faccessat(folder, ".synced", F_OK, 0) == 0) return 1;
    ssize_t length = read_word(folder, ".boot", noted);
    return length > 0 && read_word(AT_FDCWD, BOOT_ID, now) == length && memcmp(noted, now, (size_t)length) == 0;
}

/* Has a process that nobody waits for bring the folder to the disk, however long that takes, and note it. */
static void sync_later(int cache, int folder) {
    pid_t child = fork();
    if (child == 0) {
        if (fork() != 0) _exit(0);
        setsid();
        for (int fd = 0; fd < 64; fd++) /* whoever reads the program's output must see its end */
            if (fd != cache && fd != folder) close(fd);
        if (syncfs(folder) == 0) {
            int fd = openat(folder, ".synced", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
            if (fd >= 0) fsync(fd);
            fsync(folder);
        }
        _exit(0);
    }
    if (child > 0) waitpid(child, NULL, 0);
}

/* A process of its own that ends with 0 where the payload is what it was: the other core's work. */
static pid_t start_check(const struct payload *payload) {
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t digest[DIGEST_BYTES];
        sha256(payload->bytes, payload->about.payload_bytes, digest);
        _exit(memcmp(digest, payload->about.digest, DIGEST_BYTES) != 0);
    }
    return pid;
}

static int is_sound(pid_t check) {
    int status;
    while (waitpid(check, &status, 0) < 0)
        if (errno != EINTR) return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Unpacks beside the place, and moves there at once. Call with the cache's lock. */
static int unpack_beside(int cache, const struct payload *payload, char reason[REASON_BYTES]) {
    char part[128];
    snprintf(part, sizeof part, "%s.part", payload->digest_hex);
    remove_folder(cache, part);
    pid_t check = start_check(payload);
    if (check < 0) return say_errno(reason, "no process could be started to check it");
    int result, into = -1;
    if (mkdirat(cache, part, 0755) < 0 || (into = openat(cache, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        result = say_errno(reason, "it cannot be written");
    else
        result = unpack(payload, into, reason);
    if (!is_sound(check)) result = DAMAGED;
    if (result == 0 && note_boot(into) < 0) result = say_errno(reason, "it cannot be written");
    if (result == 0 && renameat(cache, part, cache, payload->digest_hex) < 0) {
        /* One that is no longer whole is there, and perhaps runs: what takes its place is the same. */
        if (renameat2(cache, part, cache, payload->digest_hex, RENAME_EXCHANGE) < 0) result = say_errno(reason, "it cannot be renamed there");
        remove_folder(cache, part);
    }
    if (result < 0) remove_folder(cache, part);
    else sync_later(cache, into);
    if (into >= 0) close(into);
    return result;
}

static int has_room(int cache, const struct payload *payload) {
    struct statvfs disk;
    return fstatvfs(cache, &disk) < 0 || (uint64_t)disk.f_bavail * disk.f_frsize >= payload->about.unpacked_bytes + SPARE_BYTES;
}

static int open_whole(int cache, const struct payload *payload) {
    int folder = openat(cache, payload->digest_hex, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder >= 0 && !(is_whole(folder) && outlived(folder))) close(folder), folder = -1;
    return folder;
}

static int unpack_once(int cache, const struct payload *payload, char reason[REASON_BYTES]) {
    int lock = openat(cache, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock < 0) return say_errno(reason, "it cannot be written");
    if (flock(lock, LOCK_EX) < 0) return close(lock), say_errno(reason, "it cannot be locked");
    int folder = open_whole(cache, payload); /* another start may have been quicker */
    if (folder < 0) {
        remove_unused(cache, payload->digest_hex, !has_room(cache, payload));
        if (!has_room(cache, payload))
            snprintf(reason, REASON_BYTES, "its disk is too full: %llu MB are needed", (unsigned long long)(payload->about.unpacked_bytes >> 20) + 1);
        else if ((folder = unpack_beside(cache, payload, reason)) == 0 && (folder = open_whole(cache, payload)) < 0)
            say(reason, "what was written there cannot be read again");
    }
    close(lock);
    return folder;
}

int program_in(const char *path, const struct payload *payload, char *program, size_t size, char reason[REASON_BYTES]) {
    make_folders(path);
    int cache = open_trusted(path, reason);
    if (cache < 0) return -1;
    int used = lock_of(cache, payload->digest_hex); /* stays open over the exec, and so does the lock */
    if (used >= 0) flock(used, LOCK_SH), futimens(used, NULL);
    int folder = open_whole(cache, payload);
    if (folder < 0) folder = unpack_once(cache, payload, reason);
    if (folder < 0 && used >= 0) close(used);
    close(cache);
    snprintf(program, size, "%s/%s/ingle", path, payload->digest_hex);
    return folder;
}
