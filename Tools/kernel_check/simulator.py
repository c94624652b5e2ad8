"""Graft's own launches under oclgrind, as NVIDIA's chips would carry them out, and on the OpenCL device that is there (PoCL)."""
import os
import re
import shutil
import subprocess
import time

from .compilers import cache_folder

# What a run says besides reports: its own lines, and how many warnings oclgrind's compiler had, which is another than ours.
EXPECTED = re.compile(r"(case: |device: |refused: |agrees: |local memory of |computed by other kernels, |\d+ cases, \d+ failed|\d+ warnings? generated\.)")
PASSES = {
    # Races between work-items, accesses outside buffers, wrong calls.
    "races": ["--check-api", "--data-races"],
    # Values never written. Without optimisation: oclgrind 21.10 does not know LLVM's instruction `freeze` in this mode, which only
    # optimisation brings in.
    "uninitialised values": ["--check-api", "--uninitialized", "--build-options", "-cl-opt-disable"],
}


class Report:
    """What a run found, by case."""

    def __init__(self, name):
        self.name, self.cases, self.seconds, self.device, self.problems = name, 0, 0.0, "", []
        # Cases that oclgrind reported in a long run and not when it ran them alone.
        self.unconfirmed = []


def collect(report, text, status):
    """Reads a run's output: everything unexpected is a problem of the case above it."""
    case, seen = "before the first case", {}
    for line in text.splitlines():
        if line.startswith("case: "):
            case, report.cases = line[6:], report.cases + 1
        elif line.startswith("device: "):
            report.device = line[8:]
        elif line.strip() and not EXPECTED.match(line):
            seen.setdefault(case, []).append(line)
    # A report of oclgrind has some lines, and repeats for each work-item.
    report.problems += [f"{case}\n    " + "\n    ".join(lines[:12]) + (f"\n    … {len(lines) - 12} more lines" if len(lines) > 12 else "")
                        for case, lines in seen.items()]
    if status != 0 and not report.problems:
        report.problems.append(f"ended with status {status} after case: {case}")
    if report.cases == 0:
        report.problems.append("no case was run")


def oclgrind_version():
    if not shutil.which("oclgrind"):
        return None
    return subprocess.run(["oclgrind", "--version"], capture_output=True, text=True).stdout.strip().splitlines()[0]


def start(name, command, processor):
    """One thread, on one processor: oclgrind's tables of what was written, and its compiler, cannot be used by several."""
    environment = dict(os.environ, GRAFT_PROGRAM_CACHE="off")
    pin = (lambda: os.sched_setaffinity(0, {processor})) if processor is not None else None
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment, preexec_fn=pin)
    return name, process, time.monotonic()


def finish(started, limit):
    name, process, begin = started
    report = Report(name)
    try:
        text, _ = process.communicate(timeout=max(1, limit - (time.monotonic() - begin)))
        status = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        status = -1
        report.problems.append(f"not done after {limit} s")
    report.seconds = time.monotonic() - begin
    collect(report, text, status)
    return report


def run_oclgrind(tool, only=None, quick=False, limit=1800):
    """Both passes, side by side where there are two processors; quickly, not in every format."""
    processors = sorted(os.sched_getaffinity(0))
    reports = []
    waiting = []
    for index, (name, flags) in enumerate(PASSES.items()):
        command = ["oclgrind", *flags, "--num-threads", "1", tool, "run", "--light"] + (["--only", only] if only else [])
        command += ["--precision", "float32" if "--uninitialized" in flags else "float32,float16"] if quick else []
        waiting.append(start(name, command, processors[index % len(processors)]))
        if len(processors) == 1:
            reports.append(finish(waiting.pop(), limit))
    reports += [finish(started, limit) for started in waiting]
    for report, (name, flags) in zip(reports, PASSES.items()):
        if "--uninitialized" in flags:
            confirm(report, ["oclgrind", *flags, "--num-threads", "1", tool, "run", "--light"], processors[0], limit)
    return reports


def confirm(report, command, processor, limit):
    """Runs each case that read what was never written again, in a process of its own: oclgrind takes a buffer's number for the buffer, and
    after hundreds of cases has taken a new one for an old one that was not written. What a kernel reads doesn't depend on that."""
    found, report.problems = report.problems, []
    for problem in found:
        case = problem.split("\n")[0]
        alone = finish(start(report.name, [*command, "--only", case], processor), limit) if "\n" in problem else None
        if alone is None or alone.problems:
            report.problems.append(problem)
        else:
            report.unconfirmed.append(case)


NETWORK = cache_folder().parent / "efficientnet-lite0/efficientnet-lite0.pth"
# The matrix units whose instructions are interpreted, and the chip that clang compiles them for. A Hopper has Ampere's instructions, too.
INTERPRETED = {"turing": "sm_75", "nvidia": "sm_80", "hopper": "sm_90"}


def run_interpreted(clang, tool, only=None, quick=False, limit=3000):
    """Side by side where there are two processors: the samples, and a whole network where its weights are."""
    def interpreting(kind):
        return ["--interpret", kind, "--compiler", " ".join(clang.base_command(INTERPRETED[kind]))]

    extent, choice = ["--light"] if quick else [], ["--only", only] if only else []
    jobs = [(f"interpreted, {INTERPRETED[kind]}", ["run", *interpreting(kind), *extent, *choice])
            for kind in (["turing", "hopper"] if quick else INTERPRETED)]
    if NETWORK.exists() and not only:
        formats = ["--precision", "float16"] if quick else []
        jobs.append(("interpreted network", ["network", str(NETWORK), *interpreting("hopper"), "--input-size", "64", *formats]))
    count, waiting, reports = len(os.sched_getaffinity(0)), [], []
    for name, arguments in jobs:
        waiting.append(start(name, [tool, *arguments], None))
        if len(waiting) >= count:
            reports.append(finish(waiting.pop(0), limit))
    return reports + [finish(started, limit) for started in waiting]


def run_device(tool, only=None, quick=False, limit=3000):
    return finish(start("against double precision", [tool, "run"] + (["--light"] if quick else []) + (["--only", only] if only else []), None), limit)
