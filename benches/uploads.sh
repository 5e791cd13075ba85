#!/bin/sh
# 200 MB of CSV through `POST /v1/connectors/{c}/files` of a release build: seconds, CPU and peak memory of the server.
# Usage: benches/uploads.sh [MB]      (LINKSPAN_UPLOAD_MAX_MB is raised to it)
set -eu
cd "$(dirname "$0")/.."
mb=${1:-199}
cargo build --release -q
program=${CARGO_TARGET_DIR:-target}/release/linkspan
work=$(mktemp -d)
export LINKSPAN_DATA_DIR="$work/data" LINKSPAN_UPLOAD_MAX_MB=$((mb + 1))
awk -v bytes=$((mb * 1048576)) 'BEGIN { row = "0123456789,abcdefghijklmnopqrstuvwxyz,0.125\n"; for (n = 0; n + length(row) < bytes; n += length(row)) printf "%s", row }' > "$work/large.csv"
"$program" connectors create leads --type csv > /dev/null
"$program" serve --port 0 --output json > "$work/serve.log" &
server=$!
trap 'kill $server 2> /dev/null; rm -rf "$work"' EXIT
until grep -q serving "$work/serve.log"; do sleep 0.1; done
url=$(sed 's/.*"url":"\([^"]*\)".*/\1/' "$work/serve.log")
before=$(awk '/VmHWM/ { print $2 }' /proc/$server/status)
began=$(date +%s.%N)
curl -sS --fail-with-body -H "Authorization: Bearer $(cat "$work/data/admin.key")" -F "file=@$work/large.csv" "$url/v1/connectors/leads/files"
ended=$(date +%s.%N)
after=$(awk '/VmHWM/ { print $2 }' /proc/$server/status)
ticks=$(awk '{ print $14 + $15 }' /proc/$server/stat)
awk -v mb="$mb" -v began="$began" -v ended="$ended" -v before="$before" -v after="$after" -v ticks="$ticks" 'BEGIN {
  printf "\n%d MB in %.2f s; server CPU %.2f s; peak %.1f MB before, %.1f MB after\n", mb, ended - began, ticks / 100, before / 1024, after / 1024 }'
