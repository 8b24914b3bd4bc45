#!/bin/sh
# Fetches and compiles what the client suites run on: once, so that the suites themselves start neither Maven nor the network.
#   setup.sh            clients and official tools of every version under test
#   setup.sh apache     the Apache servers as well, to run the suites against those (TARGET=apache ./run.sh)
# Leaves java/target/VERSION/{client.cp,server.cp,classes}. Repeats only what is missing or out of date.
set -eu
cd "$(dirname "$0")/java"

client_versions="4.9.8 5.3.3"
server_versions="4.9.7 5.3.3" # no server of 4.9.8 was ever published

for tool in java javac mvn go; do
	if ! command -v "$tool" >/dev/null; then
		echo "setup.sh: $tool is MISSING: the Java and Go clients cannot be tested. Needed: JDK 17 or later, Maven 3, Go." >&2
		exit 1
	fi
done

# True if the file $1 lists jars, all of which exist, and is newer than the pom.
current() {
	[ -s "$1" ] && [ "$1" -nt pom.xml ] || return 1
	tr ':' '\n' <"$1" | while read -r jar || [ -n "$jar" ]; do [ -f "$jar" ] || exit 1; done
}

# Writes the class path of profile $1, version $2.
resolve() {
	cp="$PWD/target/$2/$1.cp"
	if current "$cp"; then return; fi
	mkdir -p "target/$2"
	echo "resolving $1 $2"
	mvn -q -B -P "$1" -Drocketmq.version="$2" dependency:build-classpath -Dmdep.outputFile="$cp"
	touch "$cp" # the plugin leaves an unchanged file alone
}

for v in $client_versions; do
	resolve client "$v"
	classes="target/$v/classes"
	if [ ! -d "$classes" ] || [ -n "$(find src "target/$v/client.cp" -newer "$classes" -type f | head -n 1)" ]; then
		echo "compiling for $v"
		rm -rf "$classes"
		mkdir -p "$classes"
		javac --release 17 -nowarn -XDsuppressNotes -proc:none -cp "$(cat "target/$v/client.cp")" -d "$classes" src/main/java/rmq/clients/*.java
		touch "$classes"
	fi
done

if [ "${1:-}" = apache ]; then
	for v in $server_versions; do
		resolve server "$v"
	done
fi

cd ../golang
go mod download
