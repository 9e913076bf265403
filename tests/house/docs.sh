#!/usr/bin/env bash
# docs.sh BUILD [--check]: writes what is generated from the tables (docs/configuration.md, errors.md, families.md, openapi.json
# and BUILD/oftd.1); --check compares instead and fails when a file in the tree is stale.
set -u
build=$1 check=${2:-}
oftd=$build/oftd
status=0
generated() { # FILE TITLE DOCUMENT
    local file=$1 title=$2 document=$3 new
    new=$(mktemp)
    if [ -n "$title" ]; then printf '# %s\n\nMade by `make docs` from the tables of the code; do not edit.\n\n' "$title" >"$new"; fi
    if ! "$oftd" docs "$document" >>"$new"; then
        status=1
    elif [ -z "$check" ]; then
        cat "$new" >"$file"
    elif ! cmp -s "$new" "$file"; then
        echo "$file is stale: run make docs"
        status=1
    fi
    rm -f "$new"
}
generated docs/configuration.md '' config
generated docs/errors.md 'Error codes' errors
generated docs/families.md 'Networks' families
generated docs/openapi.json '' openapi
[ -z "$check" ] && { "$oftd" docs man >"$build/oftd.1" || status=1; }
exit $status
