#!/usr/bin/env bash
# Make .venv hold twinlab with one set of extras: tools/venv.sh core|test|lint|lab
#
# Wheels are kept in a cache of our own, so that a second clone, or a machine that lost its network, installs from
# there. Every failure ends with one sentence.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

extra=${1:-core}
venv=.venv
need_mb=2500
log=$venv/pip.log
wheels=${TWINLAB_WHEELS:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/twinlab/wheels}
mkdir -p "$wheels" 2>/dev/null || wheels=$PWD/$venv/wheels
[ "$extra" = core ] && target=. || target=".[$extra]"

fail() {
    echo "error: $*" >&2
    exit 1
}

suitable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        suitable "$candidate" && python=$candidate && return
    done
    local got=${PYTHON:-python3}
    command -v "$got" >/dev/null && got=$("$got" -V 2>&1 | tail -n 1) || got="no program $got"
    fail "expected Python 3.11, 3.12 or 3.13; got $got" \
        "(install one, or name it: make PYTHON=/path/to/python3.12 ...)"
}

free_mb() { df -Pm "$1" 2>/dev/null | awk 'NR == 2 { print $4 }'; }

make_venv() {
    if suitable $venv/bin/python && $venv/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    find_python
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        fail "expected $python with its venv module; it has none (on Debian and Ubuntu: apt-get install python3-venv)"
    local free
    free=$(free_mb .)
    [ -z "$free" ] || [ "$free" -ge $need_mb ] ||
        fail "expected $need_mb MB free on the disk of $PWD; got $free MB: make room and run again"
    rm -rf $venv
    echo "making $venv with $("$python" -V 2>&1)"
    "$python" -m venv $venv || fail "expected '$python -m venv $venv' to work; see its message above"
}

# Counts what pip collects on one line of the screen; the whole text goes to the log.
pip_step() {
    local what=$1
    shift
    $venv/bin/python -m pip --disable-pip-version-check "$@" 2>&1 | tee -a $log |
        awk -v what="$what" -v tty="$([ -t 1 ] && echo 1)" '
            /^(Collecting|Processing)/ { n++; if (tty) printf "\r%s: %d packages", what, n; fflush() }
            END { if (tty) printf "\r"; printf "%s: %d packages\n", what, n }'
}

from_wheels() {
    [ -n "$(ls -A "$wheels" 2>/dev/null)" ] || return 1
    pip_step "installing" install --no-index --find-links "$wheels" -c constraints.txt -e "$target"
}

to_wheels() {
    echo "fetching the packages that twinlab needs (once; about 400 MB)"
    pip_step "fetching" wheel --retries 2 --wheel-dir "$wheels" -c constraints.txt "$target" hatchling editables
    local status=$?
    rm -f "$wheels"/twinlab-*.whl # ours is installed from this clone
    return $status
}

# Whether everything that is asked for is in .venv already.
have_all() {
    $venv/bin/python - "$extra" 2>>$log <<'PY'
import importlib.metadata as metadata, sys, tomllib
from packaging.requirements import Requirement

with open("pyproject.toml", "rb") as stream:
    project = tomllib.load(stream)["project"]
wanted = project["dependencies"] + project["optional-dependencies"].get(sys.argv[1], [])
for requirement in map(Requirement, wanted):
    if requirement.marker and not requirement.marker.evaluate():
        continue
    if not requirement.specifier.contains(metadata.version(requirement.name), prereleases=True):
        sys.exit(f"{requirement} is not met")
metadata.version("twinlab")
PY
}

explain() {
    if grep -qE 'No space left on device|Errno 28|Disk quota exceeded' $log || [ "$(free_mb .)" -lt 20 ]; then
        fail "the disk is full: $(free_mb .) MB free at $PWD, $(free_mb "$wheels") MB at $wheels;" \
            "make room and run again"
    fi
    if grep -qE 'NewConnectionError|name resolution|Network is unreachable|Connection refused|timed out|ProxyError|Max retries|No matching distribution|Could not find a version' $log; then
        local missing
        missing=$(grep -oE 'No matching distribution found for [^ ]+' $log | head -n 1 | awk '{ print $NF }')
        fail "pip reaches no package registry that has ${missing:-what twinlab needs}, nor do the wheels in $wheels:" \
            "connect to a network or set PIP_INDEX_URL, and run again"
    fi
    fail "pip failed: $(grep -iE 'error' $log | tail -n 1 | cut -c1-300) (all of it: $log)"
}

make_venv
: >$log 2>/dev/null || fail "expected to write $PWD/$log; the disk is full or read-only"
if ! from_wheels; then
    if ! { to_wheels && from_wheels; }; then
        have_all || explain
        echo "pip could not renew $venv; going on with what is installed" >&2
    fi
fi
touch "$venv/.ready-$extra" || fail "expected to write $PWD/$venv; the disk is full or read-only"
