"""The filters' programs, run here as the kernel would, so that both machines' are tried on either."""

import errno
import struct

import pytest

from appliance.sandbox import seccomp, syscalls

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
TABLES = (syscalls.ALLOWED, syscalls.WRITING, syscalls.BY_ARGUMENT, syscalls.FORKING, syscalls.FORBIDDEN)
NUMBERS = {
    machine: {name: number for table in TABLES for name, number in syscalls.numbers(table, machine)}
    for machine in syscalls.MACHINES
}
ALLOWED, KILLED, PERMISSION, UNKNOWN = "allowed", "killed", "EPERM", "ENOSYS"
PID = 4242
PARENT = 4241


def verdict(steps: seccomp.Block, data: bytes) -> int:
    """What a classic BPF program answers on a struct seccomp_data."""
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, constant = steps[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, constant)
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x06:
            return constant
        else:
            true = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}
            at += if_true if true[code] else if_false


def answer(programs: list[seccomp.Block], architecture: int, number: int, *arguments: int) -> str:
    """The strictest of the filters' answers, in words."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *(0,) * (6 - len(arguments)))
    words = {
        0x7FFF0000: ALLOWED,
        0x80000000: KILLED,
        0x50000 | errno.EPERM: PERMISSION,
        0x50000 | errno.ENOSYS: UNKNOWN,
    }
    answers = {words[verdict(program, data)] for program in programs}
    return next(word for word in (KILLED, PERMISSION, UNKNOWN, ALLOWED) if word in answers)


def fork_programs(machine: str, *, writes: bool = False, devices: bool = False) -> list[seccomp.Block]:
    computing = seccomp.computing_program(machine, writes=writes, devices=devices)
    own = tuple((*step[:3], PID if step[3] == 0xFACEF11E else step[3]) for step in computing)
    return [seccomp.forking_program(machine), own]


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_every_call_of_the_tables_is_answered_as_its_table_says(machine: str) -> None:
    zygote, fork = [seccomp.forking_program(machine)], fork_programs(machine)
    expected = (
        (syscalls.ALLOWED, ALLOWED, ALLOWED),
        (syscalls.WRITING, ALLOWED, PERMISSION),
        (syscalls.FORKING, ALLOWED, PERMISSION),
        (syscalls.FORBIDDEN, PERMISSION, PERMISSION),
    )
    for table, of_zygote, of_fork in expected:
        for name, number in syscalls.numbers(table, machine):
            assert (name, answer(zygote, ARCHITECTURE[machine], number)) == (name, of_zygote)
            assert (name, answer(fork, ARCHITECTURE[machine], number)) == (name, of_fork)
    known = set(NUMBERS[machine].values())
    for number in {*range(600), 0x40000000, 0x40000027, 2**32 - 1} - known:
        assert answer(fork, ARCHITECTURE[machine], number) == UNKNOWN


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_no_number_stands_in_two_tables(machine: str) -> None:
    numbers = [number for table in TABLES for _, number in syscalls.numbers(table, machine)]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("architecture", [0x40000003, 0x40000028, 0xC00000F3, 0])
def test_a_call_of_another_architecture_ends_the_process(architecture: int) -> None:
    for machine in syscalls.MACHINES:
        for programs in ([seccomp.forking_program(machine)], fork_programs(machine)):
            assert answer(programs, architecture, NUMBERS[machine]["read"]) == KILLED


THREAD = 0x003D0F00  # the flags with which glibc makes a thread
PROCESS = 0x01200011  # and those of fork()
CASES = [
    ("clone", (THREAD,), ALLOWED, ALLOWED),
    ("clone", (PROCESS,), ALLOWED, PERMISSION),
    ("clone", (0x4111,), ALLOWED, PERMISSION),  # posix_spawn: CLONE_VM, CLONE_VFORK
    ("clone", (THREAD | 0x10000000,), PERMISSION, PERMISSION),  # CLONE_NEWUSER
    ("clone", (PROCESS | 0x00020000,), PERMISSION, PERMISSION),  # CLONE_NEWNS
    ("kill", (PID, 6), ALLOWED, ALLOWED),
    ("kill", (PARENT, 9), ALLOWED, PERMISSION),
    ("kill", (0, 9), ALLOWED, PERMISSION),
    ("kill", (2**32 - 1, 9), ALLOWED, PERMISSION),
    ("tgkill", (PID, PID, 6), ALLOWED, ALLOWED),
    ("tgkill", (PARENT, PARENT, 9), ALLOWED, PERMISSION),
    ("prlimit64", (0, 7, 0, 1), ALLOWED, ALLOWED),
    ("prlimit64", (0, 7, 1, 0), ALLOWED, PERMISSION),
    ("prlimit64", (0, 7, 2**32, 0), ALLOWED, PERMISSION),
    ("prlimit64", (PARENT, 7, 0, 1), PERMISSION, PERMISSION),
    ("sched_setaffinity", (0,), ALLOWED, ALLOWED),
    ("sched_setaffinity", (PARENT,), PERMISSION, PERMISSION),
    ("setpriority", (0, 0, 19), ALLOWED, ALLOWED),
    ("setpriority", (0, PARENT, 19), PERMISSION, PERMISSION),
    ("setpriority", (1, 0, 19), PERMISSION, PERMISSION),
    ("openat", (0, 0, 0o2000000), ALLOWED, ALLOWED),
    ("openat", (0, 0, 0o1), ALLOWED, PERMISSION),
    ("openat", (0, 0, 0o2), ALLOWED, PERMISSION),
    ("openat", (0, 0, 0o100), ALLOWED, PERMISSION),
    ("ioctl", (0, 0x5421), ALLOWED, ALLOWED),
    ("ioctl", (0, 0xC0104600), ALLOWED, PERMISSION),
    ("ioctl", (0, 0x5412), PERMISSION, PERMISSION),
    ("ioctl", (0, 0x5412 | 2**32), PERMISSION, PERMISSION),
    ("fcntl", (0, 3), ALLOWED, ALLOWED),
    ("fcntl", (0, 8), PERMISSION, PERMISSION),
    ("prctl", (15,), ALLOWED, ALLOWED),
    ("prctl", (1,), ALLOWED, PERMISSION),
]


@pytest.mark.parametrize("machine", syscalls.MACHINES)
@pytest.mark.parametrize(("name", "arguments", "of_zygote", "of_fork"), CASES)
def test_a_call_is_judged_by_its_arguments(
    machine: str, name: str, arguments: tuple[int, ...], of_zygote: str, of_fork: str
) -> None:
    number, architecture = NUMBERS[machine][name], ARCHITECTURE[machine]
    assert answer([seccomp.forking_program(machine)], architecture, number, *arguments) == of_zygote
    assert answer(fork_programs(machine), architecture, number, *arguments) == of_fork


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_a_role_that_writes_or_speaks_to_devices_may_do_that_and_no_more(machine: str) -> None:
    numbers, architecture = NUMBERS[machine], ARCHITECTURE[machine]
    writing, device = fork_programs(machine, writes=True), fork_programs(machine, devices=True)
    assert answer(writing, architecture, numbers["openat"], 0, 0, 0o1101) == ALLOWED
    assert answer(writing, architecture, numbers["renameat2"]) == ALLOWED
    assert answer(writing, architecture, numbers["ioctl"], 0, 0xC0104600) == PERMISSION
    assert answer(writing, architecture, numbers["clone"], PROCESS) == PERMISSION
    assert answer(device, architecture, numbers["ioctl"], 0, 0xC0104600) == ALLOWED
    assert answer(device, architecture, numbers["openat"], 0, 0, 0o2) == PERMISSION
