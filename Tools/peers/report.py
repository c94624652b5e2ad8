"""The tables, and where they go."""
import datetime
import importlib.metadata
import os
import platform
import subprocess

from .failure import Failure

BEGIN = "<!-- What follows, up to the end marker, is written by Tools/bench. -->"
END = "<!-- The end of what Tools/bench writes. -->"


def table(heads, rows):
    """Markdown; columns in which no row has anything are left out."""
    used = [c for c in range(len(heads)) if any(row[c] for row in rows)]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line[c] for c in used) + " |" for line in lines)


class Conditions:
    """When and where it was measured."""

    def __init__(self, graft):
        self.begin = datetime.datetime.now(datetime.timezone.utc)
        self.load = os.getloadavg()[0]
        self.machine = f"{graft.description}; {platform.system()} {platform.machine()}"


def commit():
    """The commit that was measured, as far as it can be said."""
    try:
        where = os.path.dirname(__file__)
        done = subprocess.run(["git", "-C", where, "describe", "--always", "--dirty"], capture_output=True, text=True)
    except OSError:
        return ""
    return f" ({done.stdout.strip()})" if done.returncode == 0 else ""


def versions():
    found = []
    for package in ("onnxruntime", "openvino", "torch", "numpy"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    return ", ".join(found)


def peak_table(peak):
    rows = [["multiply-adds on registers", f"{peak['gigaflops_per_second']:.0f} GFLOP/s"]]
    for b in peak["bandwidths"]:
        size = b["working_set_bytes"] / 1e6
        rates = f"{b['read_gigabytes_per_second']:.1f} GB/s read, {b['triad_gigabytes_per_second']:.1f} GB/s triad"
        rows.append([f"memory, over {size:.1f} MB", rates])
    return table(["limit", "measured"], rows)


# The parts in their order; each says when and where it was measured.
PEAK, NETWORKS, FORMATS, PRODUCTS, LAYERS = (
    "What the machine can do",
    "Networks, float32, images a second",
    "Networks in short formats, error against float32",
    "Matrix products, float32, GFLOP/s",
    "Convolutions of ResNet-50, batch 16",
)
ORDER = [PEAK, NETWORKS, FORMATS, PRODUCTS, LAYERS]


def tables(start, graft, options, sections):
    """The parts that were measured, by their titles."""
    end = datetime.datetime.now(datetime.timezone.utc)
    minutes = (end - start.begin).total_seconds() / 60
    turns = f"{options.rounds} rounds in turns of {options.seconds:g} s" + (", --quick" if options.quick else "")
    busy = "" if start.load < 0.5 * options.threads else " **The load says that other work ran on the machine, now or shortly before: rates may be too low, and ratios are rough.**"
    conditions = (
        f"Measured on {start.begin:%Y-%m-%d} from {start.begin:%H:%M} UTC, {minutes:.0f} minutes: {start.machine}; load {start.load:.1f} before it "
        f"and {os.getloadavg()[0]:.1f} after. graft {graft.version}{commit()}; {versions()}. {turns}.{busy}"
    )
    # Errors are the same on a busy machine; what it can do at most is not.
    found = ({} if set(sections) == {FORMATS} else {PEAK: peak_table(graft.peak)}) | sections
    return {title: f"{body}\n\n{conditions}" for title, body in found.items()}


def text(tables):
    return "\n\n".join(f"### {title}\n\n{tables[title]}" for title in ORDER if title in tables)


def split(path):
    """What stands before and after the markers, and the parts between them by their titles.

    Raises Failure for a file without them."""
    try:
        whole = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}. Name another with --output, or - to print") from error
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise Failure(f"{path} needs these two lines, between which the tables go:\n{BEGIN}\n{END}")
    before, rest = whole.split(BEGIN)
    between, after = rest.split(END)
    parts = [part.partition("\n") for part in ("\n" + between).split("\n### ")[1:]]
    return before, {title.strip(): body.strip() for title, _, body in parts}, after


def write(path, tables):
    """Replaces the parts that were measured, and leaves the others."""
    before, known, after = split(path)
    part = path.with_name(path.name + ".part")
    part.write_text(f"{before}{BEGIN}\n\n{text(known | tables)}\n\n{END}{after}", encoding="utf-8")
    part.replace(path)
