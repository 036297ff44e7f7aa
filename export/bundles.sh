#!/bin/sh
# Export each recipe in this folder to DIRECTORY/NAME: sh export/bundles.sh DIRECTORY
set -eu
output=${1:?give a directory for the bundles}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
for recipe in "$here"/*.toml; do
    name=$(basename "$recipe" .toml)
    plr-edge export --recipe "$recipe" -o "$output/$name" --force
done
