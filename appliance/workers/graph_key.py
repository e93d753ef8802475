"""What a cached optimised graph is good for: only a box, a runtime and options like those it was made with.

Pure but for `cpu_flags_here()`, which reads /proc. Used in the gateway's process; knows neither numpy nor onnxruntime.
"""

import hashlib
import os
import re
from pathlib import Path

import msgspec

# What onnxruntime reads of the processor before it chooses kernels and memory layouts, in Linux's words. Sources:
# onnxruntime/core/common/cpuid_info.cc and onnxruntime/core/mlas/lib/platform.cpp, with room for what later releases
# may ask. Other flags come and go with kernels and mitigations and change nothing in a graph.
_OF_X86 = """
    sse3 pni ssse3 sse4_1 sse4_2 avx avx2 f16c fma avx512f avx512cd avx512bw avx512dq avx512vl avx512_vnni avx_vnni
    avx_vnni_int8 avx_ne_convert avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 amx_fp16 avx10
"""
_OF_OTHERS = "asimd asimdhp fphp asimddp i8mm svei8mm bf16 svebf16 sve sve2 sme sme2 altivec vsx lsx lasx"
_CHOSEN_BY = {*_OF_X86.split(), *_OF_OTHERS.split()}
_FLAG_LINES = re.compile(r"^(?:flags|Features|features|cpu)\s*:\s*(.+)$", re.MULTILINE)
# On ARM the very core decides too: some kernels are for cores that load two registers at once, and some are not.
_CORE_LINES = re.compile(r"^CPU (implementer|part)\s*:\s*(\S+)$", re.MULTILINE)

LAYOUT = 1
OPTIONS = ("level=all", "external>=1024")


class GraphKey(msgspec.Struct, frozen=True):
    """All that must be the same where a cached graph is used and where it was made, but for the artifact's digest."""

    layout: int
    runtime: str
    machine: str
    cpu: tuple[str, ...]
    providers: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def word(self) -> str:
        """A short name for this key, fit for a folder."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def cpu_flags(cpuinfo: str) -> tuple[str, ...]:
    """The flags of the text of /proc/cpuinfo that kernels are chosen by, sorted. Of cores that differ: all they have,
    since which of them computes is the scheduler's whim."""
    found = {flag for line in _FLAG_LINES.findall(cpuinfo) for flag in line.split() if flag in _CHOSEN_BY}
    found |= {f"{what}={value}" for what, value in _CORE_LINES.findall(cpuinfo)}
    return tuple(sorted(found))


def cpu_flags_here() -> tuple[str, ...]:
    """This box's; empty where /proc does not say."""
    try:
        return cpu_flags(Path("/proc/cpuinfo").read_text())
    except OSError:
        return ()


def make_key(runtime: str, cpu: tuple[str, ...], providers: tuple[str, ...]) -> GraphKey:
    """The key of graphs that this box makes with this release of onnxruntime."""
    return GraphKey(LAYOUT, runtime, os.uname().machine, cpu, providers, OPTIONS)
