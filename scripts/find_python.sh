#!/bin/sh
# Print a command that really starts a Python new enough for this project. A name alone proves nothing: version
# managers put names on the path that start nothing.
for name in python3.12 python3.13 python3.11 python3 python python3.10; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
        echo "$name"
        exit 0
    fi
done
exit 1
