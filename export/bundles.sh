#!/bin/sh
# Export every recipe beside this script into DIRECTORY/NAME: sh export/bundles.sh bundles
set -eu
output=${1:?give the directory to write bundles to}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
for recipe in "$here"/*.toml; do
    name=$(basename "$recipe" .toml)
    plr-edge export --recipe "$recipe" -o "$output/$name" --force
done
