#!/bin/sh
# Seconds from a clean clone to the first page of `make demo`, base install.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
git clone --quiet "$here" "$work/clone"
cd "$work/clone"
start=$(date +%s)
make demo >"$work/log" 2>&1 &
server=$!
until python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/', timeout=2)" 2>/dev/null; do
    kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
    sleep 0.5
done
echo "make demo: $(($(date +%s) - start)) s from a clean clone to the first page"
pkill -INT -P "$server" || true
