#!/bin/sh
# sparse for Linux 7.3, which uses words that Debian 13's sparse does not know.
exec sparse '-D__typeof_unqual__=__typeof__' '-D__builtin_strlen(s)=(sizeof(s) - 1)' "$@"
