# Functions that build, start, await and stop the programs natively. Sourced after lib.sh.
# shellcheck shell=bash

# shellcheck disable=SC2154 # root comes from lib.sh
bin=$(target_dir)/release

# field_of NAME KEY: a value of one service in services/manifest.toml; without a name, that of every service. Presets have tables of their own
# ([[service.presets]]) and are not read.
field_of() {
    awk -v wanted="$1" -v key="$2" '
        /^\[/ { table = $1; next }
        table == "[[service]]" && /^[a-z_]+ *=/ {
            value = $0
            sub(/^[a-z_]+ *= */, "", value)
            gsub(/"/, "", value)
            if ($1 == "name") name = value
            if ($1 == key && (wanted == "" || name == wanted)) print value
        }' "$root/services/manifest.toml"
}

service_names() { field_of "" name; }

is_service() { service_names | grep -qxF -- "$1"; }

# video or text
kind_of() { field_of "$1" kind; }

# variable_of wan21 PORT → VIDEOSDGX_WAN21_PORT
variable_of() { printf 'VIDEOSDGX_%s_%s\n' "$(printf '%s' "$1" | tr 'a-z-' 'A-Z_')" "$2"; }

# Port of the gateway or a service: VIDEOSDGX_<NAME>_PORT, by default the manifest's.
port_of() {
    local variable default
    if [ "$1" = gateway ]; then default=8080; else default=$(field_of "$1" port); fi
    variable=$(variable_of "$1" PORT)
    printf '%s\n' "${!variable:-$default}"
}

# Folder of what a service serves until a checkpoint has been pulled for it; nothing if there is none.
demo_checkpoint_of() { field_of "$1" demo_checkpoint | sed "s|^|$root/checkpoints/|"; }

binary_of() { if [ "$1" = gateway ]; then echo videosdgx-gateway; else echo "$1"; fi; }

# Builds all programs. Every script makes this same build: cargo chooses the features of third-party crates by the packages that it builds, so a
# build of fewer packages would compile most crates again. Only the black-box suite with its test doubles is left out.
build_programs() {
    use_libtorch
    say "Building"
    if [ ! -e "$bin/videosdgx-gateway" ]; then
        note "the first build compiles everything: about 20 minutes on 2 cores; later builds take seconds"
    fi
    (
        cd "$root" &&
            cargo build --release --locked --workspace --exclude videosdgx-tests --exclude videosdgx-gateway --bins &&
            cargo build --profile release-lto --locked --package videosdgx-gateway &&
            ln -f "$(target_dir)/release-lto/videosdgx-gateway" "$bin/videosdgx-gateway"
    ) </dev/null || die "the build failed; its messages are above"
}

# start_program NAME LOG PIDFILE VARIABLE=VALUE…: runs in a session of its own, so that Ctrl-C does not reach it.
start_program() {
    local name=$1 log=$2 pidfile=$3
    shift 3
    (
        cd "$root" || exit 1
        exec 9>&-
        exec setsid env "$@" "$bin/$(binary_of "$name")" >>"$log" 2>&1 </dev/null
    ) &
    printf '%s\n' "$!" >"$pidfile.new"
    mv "$pidfile.new" "$pidfile"
}

# Whether the pid file names a running process of that program, and not another process that was given the same number.
program_runs() { # name pidfile
    local pid exe
    pid=$(cat "$2" 2>/dev/null) || return 1
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
    # Between fork and exec the process is still this shell or env.
    exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
    case "$(basename "${exe% (deleted)}")" in "$(binary_of "$1")" | bash | env | setsid) ;; *) return 1 ;; esac
}

# The address that a program printed at its last start.
listening_address() { sed -n 's|^.*listening on http://||p' "$1" 2>/dev/null | tail -n 1; }

fail_with_log() { # name log
    printf 'error: %s did not start; the end of its log (%s):\n' "$1" "$2" >&2
    tail -n 25 "$2" >&2 || true
    return 1
}

# Waits until a program answers /health at ADDRESS (default: the address in its log), and prints that address.
await_program() { # name log pidfile [address]
    local name=$1 log=$2 pidfile=$3 address=${4:-} deadline=$((SECONDS + 60))
    while [ $SECONDS -lt $deadline ]; do
        program_runs "$name" "$pidfile" || break
        address=${4:-$(listening_address "$log")}
        if [ -n "$address" ] && "$bin/videosdgx" health "$address" 2>/dev/null; then
            # If the port was taken, another program may have answered.
            program_runs "$name" "$pidfile" || break
            printf '%s\n' "$address"
            return
        fi
        sleep 0.1
    done
    fail_with_log "$name" "$log"
}

# SIGTERM, GRACE seconds for running work, then SIGKILL.
stop_program() { # name pidfile grace
    local name=$1 pidfile=$2 grace=$3 pid deadline
    if program_runs "$name" "$pidfile"; then
        pid=$(cat "$pidfile")
        kill -TERM "$pid" 2>/dev/null || true
        deadline=$((SECONDS + grace))
        while kill -0 "$pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
        if kill -0 "$pid" 2>/dev/null; then
            warn "$name did not end within $grace s after SIGTERM and is killed; its job runs again after the next start"
            kill -KILL "$pid" 2>/dev/null || true
            while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
        fi
    fi
    rm -f "$pidfile"
}

# Settings of a service that runs natively, in addition to those in the caller's environment.
service_environment() { # name listen state auth
    printf '%s\n' "VIDEOSDGX_LISTEN=$2" "VIDEOSDGX_STATE_DIR=$3" "VIDEOSDGX_OUTPUTS_DIR=$3/outputs" "VIDEOSDGX_AUTH_DIR=$4" \
        "VIDEOSDGX_MODELS_DIR=${VIDEOSDGX_MODELS_DIR:-$root/models}" \
        "VIDEOSDGX_DEMO_CHECKPOINT=${VIDEOSDGX_DEMO_CHECKPOINT:-$(demo_checkpoint_of "$1")}"
}
