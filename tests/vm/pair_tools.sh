#!/bin/bash
# pair_tools.sh a|b: Debian's own tools between two guests: a serves, b connects.
. "$(dirname "$0")/lib.sh"

side=$1
number=0

# commands: lines "memory of a, of b (host or device), tool and arguments". @ is where the server's address goes, first in
# those of the server, if it needs it.
commands() {
	grep -v '^#' <<-TEXT
		host host ib_write_bw -F -n 200 -d $HCA @
		device device ib_write_bw -F -n 200 -d $HCA @
		host device ib_write_bw -F -n 200 -d $HCA @
		device host ib_read_bw -F -n 200 -d $HCA @
		device device ib_read_bw -F -n 200 -d $HCA @
		device device ib_send_bw -F -n 200 -d $HCA @
		host host ib_write_lat -F -n 200 -d $HCA @
		device device ib_send_lat -F -n 200 -d $HCA @
		host host ib_atomic_bw -F -n 200 -d $HCA @
		device device ib_write_bw -R -F -n 200 -d $HCA @
		host host ib_send_bw -c UD -F -n 200 -d $HCA @
		host host ibv_rc_pingpong -g 1 -d $HCA @
		host host ibv_ud_pingpong -g 1 -d $HCA @
		host host rping -C 100 -V -a @
		host host ucmatose -c 4 -C 100 -s @
		host host udaddy -c 4 -C 100 -s @
	TEXT
}

# The words of one end in command: the server of these tools gets an address by another option, or none at all.
words() {
	local word
	for word in "$@"; do
		case $side/$1/$word in
		*/rping/rping) printf '%s\n' rping "$([[ $side == a ]] && echo -s || echo -c)" ;;
		a/rping/@) printf '%s\n' "$HCA_IP" ;;
		a/*/@ | a/ucmatose/-s | a/udaddy/-s) ;;
		b/*/@) printf '%s\n' "$PEER_IP" ;;
		*) printf '%s\n' "$word" ;;
		esac
	done
}

# one MEMORY-OF-A MEMORY-OF-B COMMAND...
one() {
	local memory=$1 command server
	[[ $side == a ]] || memory=$2
	shift 2
	mapfile -t command < <(words "$@")
	[[ $memory == host ]] || command+=("--mmap=$VRAM_RESOURCE")
	if [[ $side == b ]]; then
		wait_for test -e "/pair/$number"
		timeout 60 "${command[@]}" &>/tmp/client || fail "${command[*]}: $(cat /tmp/client)"
	else
		"${command[@]}" &>/tmp/server &
		server=$!
		wait_for_server "$server"
		touch "/pair/$number"
		timeout 60 tail --pid="$server" -f /dev/null || fail "${command[*]} does not end: $(cat /tmp/server)"
		wait "$server" || fail "${command[*]}: $(cat /tmp/server)"
	fi
	echo "ok: ${command[*]}"
}


while read -ra line; do
	number=$((number + 1))
	one "${line[@]}" </dev/null
done < <(commands)
