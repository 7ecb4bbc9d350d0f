#!/bin/bash
# Last step of making the root, called by mmdebstrap: root-customize.sh ROOT SOURCE...
# Fetches sources of exactly the installed versions, and adds the guest's first stage.
set -euo pipefail
root=$1
shift

# The version of source package $2 that root $1 has installed.
installed_version() {
	# shellcheck disable=SC2016 # dpkg's own variables
	chroot "$1" dpkg-query -W -f '${db:Status-Status} ${source:Package} ${source:Version}\n' |
		awk -v s="$2" '$1 == "installed" && $2 == s { v = $3 } END { print v }'
}

for source in "$@"; do
	version=$(installed_version "$root" "$source")
	mkdir -p "$root/usr/src/$source"
	# shellcheck disable=SC2016
	chroot "$root" sh -c 'cd "$0" && apt-get source --download-only --tar-only "$1"' "/usr/src/$source" "$source=$version"
done

mkdir -p "$root/src" "$root/out" "$root/cache" "$root/mnt/guest" "$root/mnt/out"
cat >"$root/guest-init" <<'INIT'
#!/bin/sh
# First program of the guest: the rest comes from the repository.
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=512000 src /src
exec /src/tests/vm/guest-init
INIT
chmod 755 "$root/guest-init"
touch "$root/.p2p-mr-root"
