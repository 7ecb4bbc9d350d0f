#!/bin/bash
# datasheet_test.sh SHEET HEADER: the data sheet speaks of what is in the header, of all that software has to know by
# name, and repeats no number from there.
set -euo pipefail

sheet=$1
header=$2
bad=0

wrong() {
	echo "$*" >&2
	bad=1
}

# Everything of the kinds that tables of the sheet list
listed='SIMHCA_((PCI|BAR|REG|STATUS|CTRL|CMD|ACCESS|MR|MW_TYPE|QPT|QP|WR|WC|EVENT)_[A-Z0-9_]+|KICK_REG|CLOCK_REG)'
# Not worth a line of the sheet: success, and masks of all bits
unlisted='SIMHCA_(CMD_OK|WC_SUCCESS|QP_ALL)'

names() { grep -oE "$1" "$2" | sort -u; }

# Members of a struct of the header, one a line
members() {
	awk -v name="$1" '$1 == "struct" && $2 == name && $3 == "{" { inside = 1; next }
		/^}/ { inside = 0 }
		inside && sub(/;.*/, "") { sub(/\[.*/, "", $NF); print $NF }' "$header"
}

all='\b(SIMHCA_[A-Z0-9_]+|simhca_[a-z_]+)\b'
while read -r name; do
	wrong "$sheet: $name is not in the header"
done < <(comm -23 <(names "$all" "$sheet" | grep -vx simhca_hw) <(names "$all" "$header"))

while IFS=. read -r struct member; do
	members "$struct" | grep -qx "$member" || wrong "$sheet: struct $struct has no member $member"
done < <(names '\bsimhca_[a-z_]+\.[a-z_]+\b' "$sheet" | grep -v '^simhca_hw\.h$')

while read -r name; do
	wrong "$sheet: nothing about $name"
done < <(names "^(#define)?[[:space:]]+$listed\b" "$header" | grep -oE 'SIMHCA_.*' | grep -vxE "$unlisted" | sort -u |
	comm -23 - <(names "$all" "$sheet"))

while read -r number; do
	wrong "$sheet: $number belongs into the header"
done < <(names '\b(0x[0-9a-fA-F]+|[0-9]{3,})\b' "$sheet")

# The tests above have found something to look at.
(($(names 'SIMHCA_[A-Z0-9_]+' "$sheet" | wc -l) > 100)) || wrong "$sheet: hardly a name"
[[ -n $(members simhca_cqe) ]] || wrong "$header: cannot be read"
exit "$bad"
