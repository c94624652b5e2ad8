"""Tables: as text, as Markdown between two markers, as JSON."""
from . import chips

BEGIN = "<!-- What follows, up to the end marker, is written by Tools/kernels. -->"
END = "<!-- The end of what Tools/kernels writes. -->"


def text_table(heads, rows):
    widths = [max(len(str(line[c])) for line in [heads, *rows]) for c in range(len(heads))]
    return "\n".join("  ".join(str(cell).ljust(width) for cell, width in zip(line, widths)).rstrip() for line in [heads, *rows])


def markdown_table(heads, rows):
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [heads, ["---"] * len(heads), *rows])


def figures(entry, target):
    """Registers, and the part of the chip's waves that a kernel leaves room for."""
    found = entry["targets"].get(target)
    if not found:
        return "–"
    share = chips.CHIPS[target].occupancy(entry["work_group"], found["registers"], found["local_bytes"])
    return f"{found['registers']} · {100 * share:.0f} %"


def entries(results):
    """One for each kernel of each program: what the compilers said, by chip."""
    rows = []
    for program, by_target in results:
        for function, kernel in sorted(program.kernels.items()):
            found = {t: c.kernels[function] for t, c in by_target.items() if function in c.kernels}
            rows.append({
                "file": program.file, "function": function, "variant": program.variant, "precision": program.precision,
                "options": program.options, "work_group": kernel["work_group"], "example": kernel["example"], "networks": program.networks,
                "targets": found, "flops_a_local_byte": chips.local_flops_a_byte(program.options),
            })
    return rows


def local_bytes(entry):
    return max((f["local_bytes"] for f in entry["targets"].values()), default=0)


def variant_rows(rows, targets):
    return [[r["function"], r["variant"] or "–", r["work_group"], local_bytes(r) or "–", *(figures(r, t) for t in targets)] for r in rows]


def heads(targets):
    return ["kernel", "variant", "items", "local bytes", *(f"{t} {chips.CHIPS[t].name}" for t in targets)]


def tile_rows(rows, targets):
    """Products and convolutions with whole vectors and the plain epilogue: a row a tile, the chips' needs beside what it gives."""
    picked = [r for r in rows if r["flops_a_local_byte"] and r["options"].get("VECTOR_A") == 4 and r["options"].get("VECTOR_B") == 4
              and not r["options"].get("ACTIVATION") and not r["options"].get("TRANSPOSE_A") and not r["options"].get("TRANSPOSE_B")]
    best = {}
    for r in picked:
        # The widest stores stand for the tile.
        key = (r["function"], *(r["options"].get(o) for o in ("TILE_M", "TILE_N", "TILE_K", "ITEM_M", "ITEM_N")), r["precision"])
        if key not in best or r["options"].get("VECTOR_Y", 1) > best[key]["options"].get("VECTOR_Y", 1):
            best[key] = r
    rows = sorted(best.values(), key=lambda r: (r["function"], r["precision"], -r["options"]["TILE_M"] * r["options"]["TILE_N"]))
    return [[r["function"], r["variant"], r["work_group"], local_bytes(r), *(f"{x:.1f}" for x in r["flops_a_local_byte"]), *(figures(r, t) for t in targets)]
            for r in rows]


def other_rows(rows, targets):
    """The other kernels: the most that any variant takes."""
    by_function = {}
    for r in rows:
        if not r["flops_a_local_byte"]:
            by_function.setdefault(r["function"], []).append(r)
    lines = []
    for function, variants in sorted(by_function.items()):
        cells = []
        for t in targets:
            known = [v for v in variants if t in v["targets"]]
            cells.append(figures(max(known, key=lambda v: v["targets"][t]["registers"]), t) if known else "–")
        lines.append([function, len(variants), max(v["work_group"] for v in variants), max(map(local_bytes, variants)) or "–", *cells])
    return lines


def markdown(rows, targets, versions, verdicts):
    names = [f"{chips.CHIPS[t].name} ({t})" for t in targets]
    needs = ", ".join(f"{chips.CHIPS[t].needed_flops_a_byte:.0f} on {chips.CHIPS[t].name}" for t in targets)
    parts = [
        f"With {', '.join(versions)}. {' '.join(verdicts)}",
        "Registers a work-item, and the part of a multiprocessor's waves that can be resident with them, with the local memory and the "
        "work-group's size. Products and convolutions, whole vectors, plain epilogue; arithmetic for each byte from local memory if each "
        "work-item reads its own, and if what 32 neighbours read together is delivered once. Needed, for local memory not to limit: "
        f"{needs}.",
        markdown_table(["kernel", "tile / a work-item's share", "items", "local bytes", "FLOP/byte alone", "together", *names], tile_rows(rows, targets)),
        "All others; of several variants the one with the most registers.",
        markdown_table(["kernel", "variants", "items", "local bytes", *names], other_rows(rows, targets)),
    ]
    return "\n\n".join(parts)


def write(path, body):
    """Replaces what stands between the markers."""
    text = path.read_text()
    before, rest = text.split(BEGIN, 1)
    path.write_text(before + BEGIN + "\n\n" + body + "\n\n" + END + rest.split(END, 1)[1])
