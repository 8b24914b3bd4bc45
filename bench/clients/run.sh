#!/bin/sh
# Runs every client suite against rmq, each on servers of its own. See README.md.
#   run.sh [RMQ_BINARY] [flags of golang/interop, such as -suites 'go.*' -keep]
#   TARGET=apache run.sh [flags]   runs them against the Apache servers instead
set -eu
here=$(cd "$(dirname "$0")" && pwd)
rmq=$here/../../bin/rmq
case "${1:-}" in
"" | -*) ;;
*)
	rmq=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
	shift
	;;
esac
target=${TARGET:-rmq}

if [ "$target" = apache ]; then
	"$here/setup.sh" apache
else
	"$here/setup.sh"
fi
mkdir -p "$here/golang/target"
(cd "$here/golang" && go build -o target/interop ./interop)
exec "$here/golang/target/interop" -clients "$here" -rmq "$rmq" -target "$target" "$@"
