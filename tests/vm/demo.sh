#!/bin/bash
# demo.sh OUT: ./run demo --json says what it must, and nothing else on standard output.
set -euo pipefail

run=$(cd "$(dirname "$0")/../.." && pwd)/run
mkdir -p "$1"
"$run" demo --json >"$1/demo.json"
jq -e '
	(map({(.memory): .}) | add) as $row
	| (map(.memory) == ["host", "device", "device, feature off", "device, rxe", "host, rxe"])
	and ($row["device, feature off"].reg_mr == {"ok": false, "errno": "EFAULT", "us": null})
	and ($row["device, rxe"].reg_mr == {"ok": false, "errno": "EOPNOTSUPP", "us": null})
	and all("host", "device", "host, rxe"; $row[.] |
		.reg_mr.ok and .reg_mr.us > 0 and .verified
		and all(.write_bw["65536", "1048576"], .read_bw["65536", "1048576"]; . > 0))
	and all("device, feature off", "device, rxe"; $row[.] |
		.verified == null and all(.write_bw["65536", "1048576"], .read_bw["65536", "1048576"]; . == null))
' "$1/demo.json"
