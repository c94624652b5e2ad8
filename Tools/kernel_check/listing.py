"""The programs that Graft makes, as it says itself."""
import json
import re
import subprocess

from .failure import Failure


class Program:
    """A file of Kernels/gpu with its options: what a driver is given to compile."""

    def __init__(self, item, sources):
        self.path = item["path"]
        self.text = item["options"]
        self.precision = item["precision"]
        self.targets = item["targets"]
        self.networks = item["networks"]
        self.kernels = {k["function"]: k for k in item["kernels"]}
        self.source = sources[self.path]
        self.options = {name: int(value) for name, value in re.findall(r"-D(\w+)=(-?\d+)", self.text)}
        # Whether its compiler is shown some instructions as comments (Sources/GraftDevice/OpenCL/PTXText.swift).
        self.hides_instructions = item["hides_instructions"]

    @property
    def functions(self):
        """Those that the program defines: what begins a line, with words before its name."""
        plain = re.sub(r"__attribute__\(\((?:[^()]|\([^()]*\))*\)\)", "", self.source)
        return set(re.findall(r"^(?!typedef)[A-Za-z_][\w *]* \*?(\w+)\(", plain, re.M))

    @property
    def file(self):
        return self.path.removeprefix("gpu/").removesuffix(".cl")

    @property
    def variant(self):
        """The options in few characters: a tile as 128×64×16, the rest by name."""
        o = {k: v for k, v in self.options.items() if not k.startswith("GRAFT_") and k not in ("VW", "PANEL_VECTORS", "PAD", "UNROLL")}
        words = []
        if "TILE_M" in o:
            words.append(f"{o.pop('TILE_M')}×{o.pop('TILE_N')}×{o.pop('TILE_K', 0)}/{o.pop('ITEM_M', 0)}×{o.pop('ITEM_N', 0)}")
        if "VECTOR_A" in o:
            words.append("vec " + "".join(str(o.pop(f"VECTOR_{x}", 1)) for x in "ABY"))
        if "TRANSPOSE_A" in o:
            words.append(("T" if o.pop("TRANSPOSE_A") else "N") + ("T" if o.pop("TRANSPOSE_B", 0) else "N"))
        words += [f"{name.lower()} {value}" for name, value in o.items()]
        if self.precision != "float32" or "MATRIX_UNIT" in self.options:
            words.append("tf32" if self.precision == "float32" else self.precision)
        return ", ".join(words)


def programs(tool):
    """Every program, and what is not listed and why."""
    done = subprocess.run([tool, "list"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{tool} list failed:\n{done.stderr.strip()}")
    listing = json.loads(done.stdout)
    return [Program(item, listing["sources"]) for item in listing["programs"]], listing["notes"]


def representative(programs):
    """Fewer: what the networks use, in float32 and one of the shorter formats, and of everything else in a file and format one
    program for each way of being told apart (which options it has, not their values)."""
    chosen, seen = [], set()
    for program in programs:
        unit = program.options.get("MATRIX_UNIT")
        kind = (program.path, program.precision, frozenset(program.options), unit, *sorted(program.kernels))
        # tf32 is the matrix unit's float32.
        is_short_for_others = program.precision == "bfloat16" or unit and program.precision == "float32"
        if (program.networks and not is_short_for_others) or kind not in seen:
            seen.add(kind)
            chosen.append(program)
    return chosen
