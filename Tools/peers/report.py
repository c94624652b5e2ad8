"""The tables, and where they go."""
import datetime
import importlib.metadata
import os
import platform
import subprocess

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


def whole(start, graft, options, sections):
    end = datetime.datetime.now(datetime.timezone.utc)
    minutes = (end - start.begin).total_seconds() / 60
    turns = f"{options.rounds} rounds in turns of {options.seconds:g} s" + (", --quick" if options.quick else "")
    parts = [
        f"Measured on {start.begin:%Y-%m-%d} from {start.begin:%H:%M} UTC, {minutes:.0f} minutes: {start.machine}; load {start.load:.1f} before it "
        f"and {os.getloadavg()[0]:.1f} after. graft {graft.version}{commit()}; {versions()}. {turns}.",
        "A rate is the median over the rounds; a ratio is the median of the rounds' ratios, with the lowest and the highest beside it.",
        "### What the machine can do\n\n" + peak_table(graft.peak),
    ]
    parts += [f"### {title}\n\n{text}" for title, text in sections]
    return "\n\n".join(parts)


def split(path):
    """What stands before and after the markers.

    Raises Failure for a file without them."""
    from .contenders import Failure

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}. Name another with --output, or - to print") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise Failure(f"{path} needs these two lines, between which the tables go:\n{BEGIN}\n{END}")
    return text[: text.index(BEGIN)], text[text.index(END) + len(END) :]


def write(path, text):
    before, after = split(path)
    part = path.with_name(path.name + ".part")
    part.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    part.replace(path)
