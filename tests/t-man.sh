# Manual pages: lint clean; SYNOPSIS is the usage message; every option of the program is in its
# page and the other way round; every "$ " line under EXAMPLES runs and prints what the page says.
. "$SEG_TESTS/lib.sh"
is "mandoc is here" "$(command -v mandoc >/dev/null && echo yes)" yes
export MANDIR=$TOP/man

for page in "$TOP"/man/*.[157]; do
	[ -f "$page" ] || continue
	name=$(basename "$page")
	lint=$(mandoc -T lint -W warning "$page" 2>&1)
	is "$name lint" "$lint" ""
done

for prog in "$BIN"/seg-*; do
	[ -x "$prog" ] || continue
	name=$(basename "$prog")
	page=$TOP/man/$name.1
	[ -f "$page" ] || { no "$name has a page"; continue; }
	text=$(mandoc -T ascii -O width=1000 "$page" | col -bx)
	help=$("$prog" --help)
	usage=$(printf '%s\n' "$help" | sed -n '/^usage: /,/^$/p' | tr -s ' \n' ' ' | sed "s/^usage: $name //;s/ *\$//")
	syn=$(printf '%s\n' "$text" | sed -n '/^SYNOPSIS/,/^DESCRIPTION/p' | sed '1d;$d' | tr -s ' \n' ' ' | sed "s/^ *$name //;s/ *\$//")
	is "$name SYNOPSIS is its usage" "$syn" "$usage"
	inhelp=$(printf '%s\n' "$help" | sed -n 's/^  \(-.,\)\{0,1\} *--\([a-z0-9-]*\).*/--\2/p' | grep -vxE -- '--(help|version)' | sort)
	inpage=$(printf '%s\n' "$text" | sed -n '/^DESCRIPTION/,/^EXIT STATUS/p' | sed -n 's/^ \{1,12\}\(-.,\)\{0,1\} *--\([a-z0-9-]*\).*/--\2/p' | grep -vxE -- '--(help|version)' | sort)
	is "$name options: --help and page agree" "$inpage" "$inhelp"
	lines=$(printf '%s\n' "$help" | wc -l)
	[ "$lines" -le 50 ] && ok "$name --help fits a screen" || no "$name --help fits a screen" "$lines lines"
	match "$name has the sections" "$(printf '%s\n' "$text" | grep -E '^[A-Z]' | tr '\n' ' ')" 'NAME SYNOPSIS DESCRIPTION .*EXIT STATUS EXAMPLES SEE ALSO'
done

# An example is a literal display: "$ command" lines, each followed by what it prints.  They run in
# order in one fresh directory per page; a page without checked output still must exit 0.
# "..." in expected output matches anything on its line.
for page in "$TOP"/man/*.[157]; do
	[ -f "$page" ] || continue
	name=$(basename "$page")
	dir=$(mktemp -d "$PWD/man.XXXXXX")
	$PYTHON "$SEG_TESTS/examples.py" "$page" >"$dir/list" || { no "$name examples"; continue; }
	[ -s "$dir/list" ] || continue
	why=$(cd "$dir" && $PYTHON "$SEG_TESTS/examples.py" --run "$page" 2>&1) && ok "$name EXAMPLES" || no "$name EXAMPLES" "$why"
done
finish
