#!/bin/sh
# Runs stock clients against rmq clusters whose leaders fail meanwhile. See README.md.
#   failover.sh [RMQ_BINARY] [flags of golang/failover, such as -suites 'go.*' -poll 30s -keep]
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

"$here/setup.sh" apache # an Apache name server and an Apache broker take part
mkdir -p "$here/golang/target"
(cd "$here/golang" && go build -o target/failover ./failover)
exec "$here/golang/target/failover" -clients "$here" -rmq "$rmq" "$@"
