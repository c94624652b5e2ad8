"""clang for both vendors' GPUs and ptxas: what each makes of a program."""
import glob
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from . import chips
from .failure import Failure

# Another number where what is kept of a compilation changes.
FORMAT = 3
PTXAS_PACKAGE = "nvidia-cuda-nvcc-cu12==12.9.86"


def cache_folder():
    base = os.environ.get("GRAFT_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "graft")
    return pathlib.Path(base) / "kernel-check"


def output_of(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


class Clang:
    """The newest clang-NN that has libclc of the same version beside it: OpenCL's built-in functions as bitcode."""

    def __init__(self):
        found = sorted((int(m[1]), path) for path in glob.glob("/usr/bin/clang-*") if (m := re.fullmatch(r".*/clang-(\d+)", path)))
        if not found:
            raise Failure("there is no clang-NN: install clang-19 and libclc-19 (Tools/setup does)")
        self.number, self.path = found[-1]
        self.version = output_of([self.path, "--version"])[1].splitlines()[0]
        self.libraries = {"nvidia": self.library("nvptx64--nvidiacl.bc"), "amd": self.library("amdgcn--amdhsa.bc")}

    def library(self, name):
        for folder in ("/usr/lib/clc", f"/usr/lib/llvm-{self.number}/share/clc", "/usr/share/clc", f"/usr/lib/llvm-{self.number}/lib/clc"):
            path = os.path.join(folder, name)
            if os.path.exists(path):
                return path
        raise Failure(f"there is no {name} for clang-{self.number}: install libclc-{self.number} (Tools/setup does)")

    def command(self, target, program_options, source, result):
        output = ["-S", "-emit-llvm"] if target in chips.TYPES_ONLY else ["-S"]
        return [*self.base_command(target), *program_options.split(), *output, source, "-o", result]

    def base_command(self, target):
        """For any program."""
        if target in chips.TYPES_ONLY:
            prototypes = pathlib.Path(__file__).parent / "intel_prototypes.h"
            return [self.path, "-x", "cl", "-O1", f"-DGRAFT_LANES={chips.TYPES_ONLY[target]}", "-include", str(prototypes), "-Wall", "-Werror",
                    "-Wno-unused-function", "--target=spir64-unknown-unknown"]
        vendor = "nvidia" if target.startswith("sm_") else "amd"
        # -Dasm: OpenCL C's keyword of vendors' compilers, which clang spells __asm__. Our own files have no warnings of their own;
        # libclc's has another name for the same target.
        command = [self.path, "-x", "cl", "-O3", "-Dasm=__asm__", "-Wall", "-Werror", "-Wno-error=linker-warnings",
                   "-Wno-linker-warnings", "-Wno-unused-function", "-Xclang", "-mlink-builtin-bitcode", "-Xclang", self.libraries[vendor]]
        if vendor == "nvidia":
            # NVIDIA's compiler says so; clang does not.
            command += ["--target=nvptx64-nvidia-nvcl", "-Xclang", "-target-cpu", "-Xclang", target, "-DFP_FAST_FMAF=1"]
            if target == "sm_75":
                # clang's own choice of PTX's version for it is one before its matrix instructions.
                command += ["-Xclang", "-target-feature", "-Xclang", "+ptx65"]
        else:
            command += ["--target=amdgcn-amd-amdhsa", f"-mcpu={target}", "-nogpulib"]
        return command

    def built_in_functions(self):
        """The names of OpenCL C's own functions, as the header beside clang declares them."""
        header = os.path.join(output_of([self.path, "-print-resource-dir"])[1].strip(), "include/opencl-c.h")
        if not os.path.exists(header):
            raise Failure(f"there is no {header}: install libclang-common-{self.number}-dev (Tools/setup does)")
        return set(re.findall(r"\b(\w+)\(", "\n".join(line for line in pathlib.Path(header).read_text().splitlines() if "__ovld" in line)))

    def knows(self, target):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "empty.cl")
            pathlib.Path(source).write_text("__kernel void empty(__global int *y) { y[get_global_id(0)] = 1; }\n")
            return output_of(self.command(target, "-cl-std=CL1.2", source, os.path.join(folder, "empty.s")))[0] == 0

    def ptx_target(self, target):
        """The newest chip not newer than `target` that this clang writes PTX for; ptxas takes it for any later one."""
        known = [t for t in ("sm_90", "sm_86", "sm_80", "sm_75", "sm_70") if int(t[3:]) <= int(target[3:])]
        # Chips whose figures are shown share one text, so that they differ by the chip alone.
        return next(t for t in known if t in ("sm_80", "sm_75", "sm_70"))


class Ptxas:
    """NVIDIA's assembler, from PATH or from a Python package in an environment of this tool's own."""

    @staticmethod
    def environment():
        return cache_folder() / "venv"

    @staticmethod
    def install():
        environment = Ptxas.environment()
        for command in (["python3", "-m", "venv", str(environment)], [str(environment / "bin/pip"), "install", "--quiet", PTXAS_PACKAGE]):
            status, text = output_of(command)
            if status != 0:
                raise Failure(f"{' '.join(command)} failed:\n{text}")

    def __init__(self):
        found = shutil.which("ptxas") or next(iter(glob.glob(str(self.environment() / "lib/python3*/site-packages/nvidia/*/bin/ptxas"))), None)
        self.path, self.version = found, ""
        if found:
            match = re.search(r"release ([\d.]+)", output_of([found, "--version"])[1])
            self.version = f"ptxas {match[1] if match else ''}"


class Compilation:
    """What the compilers report of one program for one chip: figures by kernel, or what they refused it with."""

    def __init__(self, kernels, error=None):
        self.kernels, self.error = kernels, error


def compile_program(clang, ptxas, tool, program, target):
    """Compiles for one chip, or takes what is kept of it. NVIDIA's needs ptxas."""
    prototypes = (pathlib.Path(__file__).parent / "intel_prototypes.h").read_text() if target in chips.TYPES_ONLY else ""
    tools = clang.version + prototypes + (ptxas.version if target.startswith("sm_") else "")
    key = hashlib.sha256("\0".join([str(FORMAT), tools, target, program.text, program.source]).encode()).hexdigest()
    kept = cache_folder() / key[:2] / f"{key}.json"
    if kept.exists():
        item = json.loads(kept.read_text())
        return Compilation(item["kernels"], item["error"])
    result = run_compilers(clang, ptxas, tool, program, target)
    kept.parent.mkdir(parents=True, exist_ok=True)
    new = kept.with_suffix(f".{os.getpid()}.{id(result)}")
    new.write_text(json.dumps({"kernels": result.kernels, "error": result.error}))
    new.replace(kept)
    return result


def uncover(tool, assembly):
    """Makes instructions of those that the compiler took for comments, as Graft does with a driver's PTX; what is wrong, or None."""
    done = subprocess.run([tool, "uncover"], input=pathlib.Path(assembly).read_bytes(), capture_output=True)
    pathlib.Path(assembly).write_bytes(done.stdout)
    return done.stderr.decode().strip() if done.returncode != 0 else None


def run_compilers(clang, ptxas, tool, program, target):
    with tempfile.TemporaryDirectory() as folder:
        source, assembly = os.path.join(folder, "program.cl"), os.path.join(folder, "program.s")
        pathlib.Path(source).write_text(program.source)
        first = target if program.hides_instructions or not target.startswith("sm_") else clang.ptx_target(target)
        status, text = output_of(clang.command(first, program.text, source, assembly))
        if status != 0:
            return Compilation({}, f"clang: {text.strip()}")
        if target in chips.TYPES_ONLY:
            return Compilation({})
        if not target.startswith("sm_"):
            return Compilation(amd_figures(pathlib.Path(assembly).read_text()))
        architecture = target
        if program.hides_instructions:
            architecture = f"{target}a"
            if problem := uncover(tool, assembly):
                return Compilation({}, f"uncover: {problem}")
        if not ptxas.path:
            return Compilation({})
        status, text = output_of([ptxas.path, "-v", f"-arch={architecture}", assembly, "-o", os.path.join(folder, "program.cubin")])
        # It says so where it has multiplications that were to run by themselves wait for each other.
        if status != 0 or "serialized" in text:
            return Compilation({}, f"ptxas: {text.strip()}")
        return Compilation(nvidia_figures(text))


def nvidia_figures(text):
    figures = {}
    for name, body in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", text, re.S):
        stack, stores, loads = map(int, re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", body).groups())
        local = re.search(r"(\d+) bytes smem", body)
        figures[name] = {
            "registers": int(re.search(r"Used (\d+) registers", body)[1]), "local_bytes": int(local[1]) if local else 0, "stack_bytes": stack,
            "spills": stores + loads,
        }
    return figures


def amd_figures(text):
    figures = {}
    metadata = text[text.index("amdhsa.kernels:"):]
    for item in re.split(r"\n  - ", metadata)[1:]:
        def number(name):
            found = re.search(rf"\.{name}:\s+(\d+)", item)
            return int(found[1]) if found else 0
        name = re.search(r"\n    \.name:\s+(\w+)\n", item)
        if name and number("wavefront_size"):
            figures[name[1]] = {
                "registers": number("vgpr_count"), "scalar_registers": number("sgpr_count"), "local_bytes": number("group_segment_fixed_size"),
                "stack_bytes": number("private_segment_fixed_size"), "spills": number("vgpr_spill_count"), "scalar_spills": number("sgpr_spill_count"),
            }
    return figures
