#!/bin/sh
# Install what real napari windows need in tests on Debian and Ubuntu: Xvfb and the libraries that Qt loads.
# Where that is impossible, say what is missing and go on: the tests without a window still run.
packages="xvfb libegl1 libgl1 libopengl0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0
libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-xinerama0 libxcb-shape0 libdbus-1-3 libglib2.0-0
libfontconfig1"

command -v dpkg-query >/dev/null 2>&1 || exit 0

# Debian 13 and Ubuntu 24.04 call some libraries ...t64.
missing() {
    for package in $packages; do
        dpkg-query -W -f '${Status}\n' "$package" "${package}t64" 2>/dev/null | grep -q '^install ok installed' ||
            echo "$package"
    done
}

absent=$(missing)
[ -z "$absent" ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null
    # One by one, because names differ between releases and one unknown name would stop all.
    for package in $absent; do
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
            echo "could not install $package" >&2
    done
    absent=$(missing)
    [ -z "$absent" ] && exit 0
fi

echo "Missing for tests in real windows:" $absent >&2
echo "Install them with: apt-get install" $absent >&2
