#!/usr/bin/env bash
# Creates .venv from uv.lock. Needs Python >= 3.8 with pip or an installed uv; fetches Python 3.11 only if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
# Off-screen rendering on the CPU needs Mesa's EGL; nothing else comes from apt.
APT_PACKAGES=(libegl1 libgl1-mesa-dri)

have_egl() { ldconfig -p | grep -q 'libEGL\.so\.1' && ldconfig -p | grep -qE 'libEGL_mesa|libEGL_nvidia'; }

install_apt_packages() {
    local missing="${APT_PACKAGES[*]}"
    echo "robosteer: off-screen rendering needs Mesa's EGL; installing from apt: $missing"
    local sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    if ! command -v apt-get >/dev/null || { [ -n "$sudo" ] && ! command -v sudo >/dev/null; }; then
        echo "robosteer: cannot install them here; ask an administrator for: $missing" >&2
        exit 1
    fi
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "${APT_PACKAGES[@]}"
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

have_egl || install_apt_packages
UV="$(find_uv)"
# --inexact: the ROS wheels carry a second, egg-info record of each package ("rclpy" beside "ros-rclpy"). An exact
# sync takes those for foreign packages on its second run and removes them, rclpy's own files with them.
"$UV" sync --locked --inexact --quiet
link_shares
echo "robosteer: environment ready in .venv ($(.venv/bin/python --version))"
