"""Limits of chips, by the name their compilers know them by, and how many work-groups of a kernel fit on one multiprocessor.

NVIDIA: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability", and the architectures' tuning guides.
AMD: the instruction set manuals of CDNA 2, CDNA 3 and RDNA 3, and LLVM's AMDGPU usage guide (allocation of registers).
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """A multiprocessor: NVIDIA's SM, AMD's compute unit, or RDNA's pair of them (a work-group processor)."""

    name: str
    wave: int  # work-items that execute together
    waves: int  # resident at most
    groups: int  # resident at most
    schedulers: int  # parts that registers and waves are divided among
    registers: int  # 32-bit registers of a part
    register_step: int  # registers a work-item are given in multiples of this
    local_bytes: int  # local memory of a multiprocessor
    local_overhead: int  # bytes of it that each work-group costs besides its own
    local_bytes_a_clock: int  # what local memory delivers
    fma_a_clock: int  # fp32 multiply-adds

    @property
    def needed_flops_a_byte(self):
        """Arithmetic for each byte from local memory, below which local memory limits."""
        return 2 * self.fma_a_clock / self.local_bytes_a_clock

    def groups_resident(self, work_group, registers, local_bytes):
        """Work-groups of a kernel that fit at once; `registers` a work-item."""
        waves = -(-work_group // self.wave)
        step = max(1, -(-registers // self.register_step)) * self.register_step
        waves_a_part = min(self.waves // self.schedulers, self.registers // (step * self.wave))
        by_waves = waves_a_part * self.schedulers // waves
        used = local_bytes + self.local_overhead
        by_local = self.local_bytes // used if local_bytes else self.groups
        return max(0, min(self.groups, by_waves, by_local))

    def occupancy(self, work_group, registers, local_bytes):
        """Waves resident, of those that could be."""
        return self.groups_resident(work_group, registers, local_bytes) * -(-work_group // self.wave) / self.waves


KIB = 1024
CHIPS = {
    "sm_70": Chip("V100", 32, 64, 32, 4, 16384, 8, 96 * KIB, 0, 128, 64),
    "sm_75": Chip("RTX 2080", 32, 32, 16, 4, 16384, 8, 64 * KIB, 0, 128, 64),
    "sm_80": Chip("A100", 32, 64, 32, 4, 16384, 8, 164 * KIB, 1 * KIB, 128, 64),
    "sm_90": Chip("H200", 32, 64, 32, 4, 16384, 8, 228 * KIB, 1 * KIB, 128, 128),
    "sm_120": Chip("RTX 5090", 32, 48, 24, 4, 16384, 8, 100 * KIB, 1 * KIB, 128, 128),
    "gfx90a": Chip("MI210", 64, 32, 16, 4, 512 * 64, 8, 64 * KIB, 0, 128, 64),
    "gfx942": Chip("MI300X", 64, 32, 16, 4, 512 * 64, 8, 64 * KIB, 0, 128, 128),
    "gfx1100": Chip("RX 7900 XTX", 32, 64, 32, 4, 1536 * 32, 24, 128 * KIB, 0, 256, 256),
}
# Chips on which a driver is shown programs for another one's matrix unit, since it is the same vendor's: for which chip they are, in
# which formats, and what the source says to them. Left to itself, the compiler knows the instruction by name, and ends the process when
# it has to choose one.
REFUSING = {
    "gfx1201": ("gfx1100", ("float16", "bfloat16"), "no WMMA of RDNA 3"),
    "gfx908": ("gfx90a", ("bfloat16",), "no MFMA of four bfloat16"),
}
# Chips that no compiler here makes code for, and the work-items of a sub-group there: clang looks at what uses their matrix units,
# whose built-in functions intel_prototypes.h declares.
TYPES_ONLY = {"xe-hpg": 8, "xe-hpc": 16}


def lanes_of_tile(options):
    """(column, row) of each of the first 32 work-items of a tile, as Kernels/gpu/tile.h lays them out."""
    items_m, items_n = options["TILE_M"] // options["ITEM_M"], options["TILE_N"] // options["ITEM_N"]
    if items_n % 8 == 0 and items_m % 4 == 0:
        return [(i % 8 + i // 32 % (items_n // 8) * 8, i // 8 % 4 + i // 32 // (items_n // 8) * 4) for i in range(32)]
    return [(i % items_n, i // items_n) for i in range(32)]


def local_flops_a_byte(options):
    """Arithmetic for each byte a tile's inner loop takes from local memory: if each work-item reads its own, and if what several
    of 32 read together is delivered once. None for what has no tile of its own arithmetic (matrix units are fed otherwise)."""
    if not {"TILE_M", "TILE_N", "ITEM_M", "ITEM_N"} <= options.keys() or options.get("MATRIX_UNIT"):
        return None
    m, n = options["ITEM_M"], options["ITEM_N"]
    lanes = lanes_of_tile(options)
    alone = 2 * m * n / (4 * (m + n))
    together = 2 * 32 * m * n / (4 * (m * len({y for _, y in lanes}) + n * len({x for x, _ in lanes})))
    return alone, together
