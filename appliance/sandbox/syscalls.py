"""The system calls that the zygote and its forks may make, with their numbers on x86-64 and aarch64 ('-': none).

The numbers are the kernel's (asm/unistd_64.h, asm-generic/unistd.h) and never change. What stands in no table here is
answered as a kernel too old to know it would, so that a newer libc does what it did before the call existed.
"""

from collections.abc import Iterator

MACHINES = ("x86_64", "aarch64")

# On its own memory, threads, time and descriptors; reading of files, which Landlock bounds.
ALLOWED = """
    brk 12 214, mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, mincore 27 232,
    msync 26 227, mlock 149 228, munlock 150 229, membarrier 324 283,
    futex 202 98, futex_waitv 449 449, futex_wake 454 454, futex_wait 455 455, futex_requeue 456 456,
    set_robust_list 273 99, get_robust_list 274 100, rseq 334 293, set_tid_address 218 96, gettid 186 178,
    sched_yield 24 124, sched_getaffinity 204 123, sched_getparam 143 121, sched_getscheduler 145 120,
    sched_get_priority_max 146 125, sched_get_priority_min 147 126, getcpu 309 168,
    arch_prctl 158 -, restart_syscall 219 128, exit 60 93, exit_group 231 94,
    getpid 39 172, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177,
    getresuid 118 148, getresgid 120 150, getgroups 115 158, uname 63 160, sysinfo 99 179, getrusage 98 165,
    getrlimit 97 163, getpriority 140 141, times 100 153, getrandom 318 278,
    clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101, gettimeofday 96 169,
    time 201 -,
    rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, sigaltstack 131 132,
    close 3 57, close_range 436 436, read 0 63, readv 19 65, pread64 17 67, preadv 295 69, preadv2 327 286,
    write 1 64, writev 20 66, pwrite64 18 68, pwritev 296 70, pwritev2 328 287,
    lseek 8 62, fstat 5 80, stat 4 -, lstat 6 -, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44,
    getdents 78 -, getdents64 217 61, readlink 89 -, readlinkat 267 78, access 21 -, faccessat 269 48,
    faccessat2 439 439, getcwd 79 17, dup 32 23, dup2 33 -, dup3 292 24, fadvise64 221 223, readahead 187 213,
    sendto 44 206, sendmsg 46 211, recvfrom 45 207, recvmsg 47 212, recvmmsg 299 243, shutdown 48 210,
    getsockopt 55 209, getsockname 51 204, getpeername 52 205,
    poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21,
    epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, eventfd2 290 19, pipe 22 -, pipe2 293 59,
"""

# For a fork that has been given a place to write in; opening files for writing comes with it.
WRITING = """
    ftruncate 77 46, fallocate 285 47, fsync 74 82, fdatasync 75 83,
    rename 82 -, renameat 264 38, renameat2 316 276, unlink 87 -, unlinkat 263 35,
"""

# Refused or not by their arguments: seccomp.py says by which, and differently for the zygote and a fork.
BY_ARGUMENT = """
    clone 56 220, kill 62 129, tgkill 234 131, prlimit64 302 261, sched_setaffinity 203 122, setpriority 141 140,
    ioctl 16 29, fcntl 72 25, prctl 157 167, open 2 -, openat 257 56,
"""

# For the zygote, to fork, confine and end its children.
FORKING = """
    wait4 61 260, waitid 247 95, pidfd_open 434 434, seccomp 317 277,
    landlock_create_ruleset 444 444, landlock_add_rule 445 445, landlock_restrict_self 446 446,
"""

# Refused as not permitted, which is what a program that means one of them should be told.
FORBIDDEN = """
    execve 59 221, execveat 322 281, fork 57 -, vfork 58 -,
    socket 41 198, socketpair 53 199, connect 42 203, bind 49 200, listen 50 201, accept 43 202, accept4 288 242,
    ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440, kcmp 312 272,
    pidfd_getfd 438 438, pidfd_send_signal 424 424,
    tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
    mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, setns 308 268, unshare 272 97,
    mount_setattr 442 442, move_mount 429 429, open_tree 428 428, fsopen 430 430, fsconfig 431 431, fsmount 432 432,
    fspick 433 433, name_to_handle_at 303 264, open_by_handle_at 304 265,
    keyctl 250 219, add_key 248 217, request_key 249 218,
    bpf 321 280, perf_event_open 298 241, userfaultfd 323 282,
    io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427,
    kexec_load 246 104, kexec_file_load 320 294, init_module 175 105, finit_module 313 273, delete_module 176 106,
    reboot 169 142, swapon 167 224, swapoff 168 225, personality 135 92,
    setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147, setresgid 119 149,
    setgroups 116 159, setfsuid 122 151, setfsgid 123 152, capset 126 91,
    shmget 29 194, shmat 30 196, semget 64 190, msgget 68 186, mq_open 240 180,
    setrlimit 160 164,
"""

# Of those, what a framework does within its own process.
WITHIN = """
    socketpair 53 199, setrlimit 160 164,
"""

UNSEEN = """
    clone3 435 435,
"""


def numbers(table: str, machine: str) -> Iterator[tuple[str, int]]:
    """The names in one of the tables above and their numbers on this machine, one of MACHINES."""
    column = 1 + MACHINES.index(machine)
    for row in table.replace("\n", " ").split(","):
        words = row.split()
        if words and words[column] != "-":
            yield words[0], int(words[column])
