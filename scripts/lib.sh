# Functions and settings that all scripts share: `source "$(dirname "$0")/lib.sh"`. Sourcing it has no other effect.
# shellcheck shell=bash disable=SC2034 # the settings are used by the scripts that source this

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
torch_version=2.13.0
rust_minimum=1.95
python_minimum=3.10

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
note() { printf '  %s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}
# Bold text only on a terminal.
if [ ! -t 2 ]; then say() { printf '== %s\n' "$*" >&2; }; fi

has() { command -v "$1" >/dev/null 2>&1; }
# version_at_least 1.96.0 1.95
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Folder for files that can be fetched or built again, shared by all clones of one user.
cache_dir() { printf '%s\n' "${VIDEOSDGX_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/videosdgx}"; }

# Installs the named Debian packages as root; otherwise prints what to install, and fails.
install_debian_packages() {
    local missing=()
    local package
    has dpkg-query || die "these programs are needed: $*" "install them with your distribution's package manager and run this again"
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        die "these Debian packages are needed: ${missing[*]}" \
            "run: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    say "Installing ${missing[*]}"
    # A third-party source that does not answer may be irrelevant: the installation below fails if it is not.
    apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 </dev/null || warn "apt-get update did not reach every source"
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        install "${missing[@]}" >/dev/null </dev/null || die "apt-get could not install ${missing[*]}"
}

# The environment that cargo and the programs need. LIBTORCH of the caller takes precedence over the one in .cargo/config.toml.
use_libtorch() {
    if [ -n "${LIBTORCH:-}" ]; then
        export LD_LIBRARY_PATH="$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
}

# Where cargo writes its output.
target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$root/target}"; }

# A Python environment for the tests, made again when its requirements change.
python_venv() {
    local venv=$root/.venv requirements=$root/tests/requirements.txt wanted
    wanted=$(sha256sum "$requirements" | cut -d' ' -f1)
    if [ "$(cat "$venv/.requirements" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then return; fi
    say "Making the Python environment of the tests (.venv)"
    rm -rf "$venv"
    "$(python_program)" -m venv "$venv" || die "python3 cannot make virtual environments" "install python3-venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$requirements" >&2 </dev/null
    printf '%s\n' "$wanted" >"$venv/.requirements"
}

# The first Python that is new enough.
python_program() {
    local name version
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        has "$name" || continue
        version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if version_at_least "$version" "$python_minimum"; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}
