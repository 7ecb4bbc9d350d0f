"""Tables, goals and files of the benches."""

import contextlib
import io
import json
import sys
import textwrap


def say(message):
    print(message, file=sys.stderr, flush=True)


def bytes_name(value):
    for shift, unit in ((30, "G"), (20, "M"), (10, "K")):
        if value >= 1 << shift:
            return f"{value >> shift}{unit}"
    return str(value)


def print_lines(lines):
    """A table; the first line is the head."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for n, line in enumerate(lines):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))
        if n == 0:
            print("  ".join("-" * width for width in widths))
    print()


def goal(name, value, limit, least=False, known=None):
    """LIMIT is the most that VALUE may be, or the least; known: why it is missed, and up to which value that explains it."""
    def within(bound):
        return value >= bound if least else value <= bound

    return {"goal": name, "value": round(value, 4), "limit": limit, "at": "least" if least else "most",
            "met": within(limit), "known": known[0] if known and within(known[1]) else None}


def print_goals(goals):
    width = max(len(g["goal"]) for g in goals)
    for g in goals:
        print(f"{g['goal']:{width}}  {g['value']:>10,.3f}  at {g['at']} {g['limit']:<5}  {'ok' if g['met'] else 'MISSED'}")
    for known in dict.fromkeys(g["known"] for g in goals if g["known"] and not g["met"]):
        print("\n" + textwrap.fill("Missed: " + known + ".", 120))


def finish(stem, result, goals, print_tables, as_json):
    """Writes STEM.json and STEM.txt, and prints one of them; the status of the bench."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        print_tables()
        print_goals(goals)
    content = {"json": json.dumps({**result, "goals": goals}, indent=1) + "\n", "txt": text.getvalue()}
    for suffix, words in content.items():
        with open(f"{stem}.{suffix}", "w") as f:
            f.write(words)
    print(content["json" if as_json else "txt"], end="")
    return 0 if all(g["met"] or g["known"] for g in goals) else 1
