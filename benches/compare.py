"""Join our times and those of the CUDA references into one Markdown table: ours, theirs, the floor, and the ratios.

    python compare.py ours.json [more of ours.json ...] ops.json step.json > table.md

Ours are from `rowscan bench --json`, the others from benches/cuda. Every pair of our case and a reference is a line,
also where we are slower. The ratio is our time / theirs: below 1 ours is faster. Each precision of a reference has its
own line.
"""

import json
import sys
from pathlib import Path


def load(path):
    report = json.loads(Path(path).read_text())
    if report.get("format") != "rowscan-bench/1":
        raise ValueError(f"{path}: format is {report.get('format')!r}, expected 'rowscan-bench/1'")
    return report


def circumstances(report):
    versions = ", ".join(f"{k} {v}" for k, v in sorted(report.get("versions", {}).items()))
    fields = [
        ("adapter", report["adapter"] + (" (software)" if report.get("software") else "")),
        ("driver", report.get("driver")),
        ("tiers", report.get("tiers")),
        ("versions", versions),
        ("commit", report.get("commit")),
        ("timer", report.get("timer")),
        ("products in", report.get("products")),
        ("command", "`" + report.get("command", "") + "`"),
    ]
    return "; ".join(f"{name} {value}" for name, value in fields if value)


def number(value):
    if value is None:
        return "–"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def ratio(value):
    return "–" if value is None else f"{value:.2f}×"


def lines(ours, theirs, missing):
    """One line per pair of our case and a reference. A note says why one of the two is missing or failed."""
    references = {}
    for report in theirs:
        for row in report["rows"]:
            references.setdefault((row["family"], row["direction"], row["case"]), []).append(row)
    seen = set()
    for row in ours["rows"]:
        key = (row["family"], row["direction"], row["case"])
        seen.add(key)
        why = row.get("failed") or row.get("skipped")
        for other in references.get(key, [None]):
            ms, floor = row.get("ms"), row.get("floor_ms")
            their_ms = other and other.get("ms")
            note = "; ".join(
                filter(
                    None,
                    [
                        why and f"ours: {why}",
                        other and other.get("failed") and f"reference: {other['failed']}",
                        row.get("compared") not in (None, "all") and f"oracle: {row['compared']}",
                    ],
                )
            )
            yield dict(
                key=key,
                reference=other["reference"] if other else "none",
                ours=ms,
                theirs=their_ms,
                floor=floor,
                ratio=ms / their_ms if ms and their_ms else None,
                to_floor=ms / floor if ms and floor else None,
                images=row.get("facts", {}).get("images"),
                note=note,
            )
    for key, rows in references.items():
        if missing and key not in seen:
            for other in rows:
                note = "not measured by us" + (f"; reference: {other['failed']}" if other.get("failed") else "")
                empty = dict(ours=None, floor=None, ratio=None, to_floor=None, images=None)
                yield dict(key=key, reference=other["reference"], theirs=other.get("ms"), note=note, **empty)


def table(ours, theirs, missing=True):
    out = ["# Ours beside the CUDA references", ""]
    if ours.get("software") or any(r.get("software") for r in theirs):
        out += ["**A software adapter took part: these times say nothing about a GPU.**", ""]
    elif len({r["adapter"] for r in [ours, *theirs]}) > 1:
        out += ["**Not all files are from one adapter: the ratios mean nothing.**", ""]
    out += [f"- ours: {circumstances(ours)}"]
    out += [f"- {r['implementation']}: {circumstances(r)}" for r in theirs]
    roof = ours.get("roof")
    if roof:
        out += ["- roof of the floors: " + ", ".join(f"{k} {v:.1f}" for k, v in roof.items())]
    out += ["", "Times in ms, medians. ours / theirs below 1: ours is ahead. Operators: the sum of our launches by timestamps, theirs"]
    out += ["between two events with the host ahead, so with the gaps between kernels. `step`: ours by the host's clock to the end", "of the work, theirs between two events with the host's share.", ""]
    found, previous = list(lines(ours, theirs, missing)), None
    for line in found:
        family, direction, case = line["key"]
        if family != previous:
            out += ["", f"## {family}", "", "| case | | reference | ours | theirs | floor | ours / theirs | ours / floor | |"]
            out += ["|---|---|---|--:|--:|--:|--:|--:|---|"]
            previous = family
        note = line["note"]
        if line["images"] and line["ours"]:
            speed = [f"{1e3 * line['images'] / line['ours']:.1f} images/s"]
            if line["theirs"]:
                speed += [f"theirs {1e3 * line['images'] / line['theirs']:.1f}"]
            note = "; ".join(filter(None, [", ".join(speed), note]))
        cells = [case, direction, line["reference"], number(line["ours"]), number(line["theirs"]), number(line["floor"])]
        cells += [ratio(line["ratio"]), ratio(line["to_floor"]), note.replace("|", "/")]
        out.append("| " + " | ".join(cells) + " |")
    ratios = [line["ratio"] for line in found if line["ratio"]]
    ahead = sum(r <= 1 for r in ratios)
    out += ["", f"{len(ratios)} pairs: ours ahead in {ahead}, behind in {len(ratios) - ahead}.", ""]
    return "\n".join(out)


def split(reports):
    """Joins our reports of each precision; all must be of one adapter, driver and commit. Returns ours and the others."""
    mine = [r for r in reports if r["implementation"] == "rowscan"]
    if not mine:
        raise ValueError("no file is from `rowscan bench --json`")
    for key in ("adapter", "driver", "commit"):
        if len({r.get(key) for r in mine}) > 1:
            raise ValueError(f"ours differ in {key}: {sorted({str(r.get(key)) for r in mine})}")
    of = {}
    for r in mine:
        of.setdefault(r.get("products"), []).append(r)
    ours = [same[0] | {"rows": [row for r in same for row in r["rows"]]} for same in of.values()]
    return ours, [r for r in reports if r["implementation"] != "rowscan"]


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    ours, theirs = split([load(path) for path in sys.argv[1:]])
    print("\n".join(table(each, theirs, missing=i == 0) for i, each in enumerate(ours)))


if __name__ == "__main__":
    main()
