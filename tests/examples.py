"""List or run the EXAMPLES of a manual page: `examples.py PAGE`, `examples.py --run PAGE`.

A line after "$ " is a command (a trailing backslash continues it); the lines up to the next one are
its expected stdout and stderr.  "..." in an expected line matches anything."""
import re, subprocess, sys


def examples(page):
    out, inside, display = [], False, False
    text = open(page).read().replace("\\e", "\\")
    for line in text.split("\n"):
        if line.startswith(".Sh"):
            inside = line == ".Sh EXAMPLES"
        elif inside and line.startswith(".Bd"):
            display = True
        elif line.startswith(".Ed"):
            display = False
        elif inside and display:
            line = line.replace("\\&", "").replace("\\-", "-")
            if line.startswith("$ "):
                out.append([line[2:], []])
            elif out and out[-1][0].endswith("\\"):
                out[-1][0] = out[-1][0][:-1] + line.lstrip()
            elif out and line != ".Pp":
                out[-1][1].append(line)
    return out


def main():
    run = sys.argv[1] == "--run"
    bad = 0
    for command, want in examples(sys.argv[-1]):
        if not run:
            print(command)
            continue
        p = subprocess.run(["timeout", "-k", "5", "300", "bash", "-o", "pipefail", "-c", command],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        got = p.stdout.decode(errors="replace").rstrip("\n")
        want = "\n".join(want).strip("\n")
        pattern = ".*".join(re.escape(w) for w in want.split("..."))
        if p.returncode or want and not re.fullmatch(pattern, got):
            bad = 1
            print(f"$ {command}\nstatus {p.returncode}\ngot:\n{got}\nwant:\n{want}")
    sys.exit(bad)


main()
