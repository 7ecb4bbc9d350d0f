#!/bin/bash
# How long memory regions live; what has to do with fork() also as programs get it that ask libibverbs for safety: on this
# kernel, which copies pinned pages at fork(), it has nothing to do. fork_without_the_mapping is what it does elsewhere.
. "$(dirname "$0")/lib.sh"

"$BIN/lifetime_test" -V mixed
"$BIN/lifetime_test" -V device -V ordinary -t exit_with_regions -t killed_while_registering -t killed_under_traffic \
	-t fork_child_exits_first -t fork_parent_exits_first
export RDMAV_FORK_SAFE=1
"$BIN/lifetime_test" -V mixed -t fork_child_exits_first -t fork_without_the_mapping -t fork_parent_exits_first \
	-t fork_child_registers -t fork_under_traffic
