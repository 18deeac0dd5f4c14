#!/bin/sh
# Make an empty virtual environment: make_venv.sh PYTHON DIR. Debian keeps half of the venv module in a package of
# its own; install it where we may.
set -e
python=$1
dir=$2
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    else
        echo "Python's venv module is incomplete; install it with: apt-get install python3-venv" >&2
        exit 1
    fi
fi
rm -rf "$dir"
"$python" -m venv "$dir"
