# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# Of "nm -A" over modules, as .o or .ko, and what of the kernel itself is at hand (vmlinux.o, built-in.a): symbols that
# a module uses of another one or of the kernel, which defines them and does not export them. modpost, which knows that,
# only warns where it has no whole kernel.
NF < 2 { next }
{
	file = $1
	sub(/:.*/, "", file)
	type = $(NF - 1)
	name = $NF
}
type == "U" && file !~ /(vmlinux\.o|built-in\.a)$/ { used[name] = file }
type ~ /^[A-TV-Z]$/ { defined[name] = file }
sub(/^(__export_symbol_|__ksymtab_)/, "", name) { exported[name] = 1 }
END {
	for (name in used)
		if (name in defined && !(name in exported)) {
			printf "not exported: %s of %s, which %s uses\n", name, defined[name], used[name]
			missing = 1
		}
	exit missing
}
