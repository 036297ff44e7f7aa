#!/bin/sh
# Install plr-edge on a board, with its units. Run it again to upgrade: the new version is put beside the old one,
# checked, and only then used; if the robot does not come up with it, the old one is used again.
set -eu
umask 022

usage() {
    cat <<'TEXT'
usage: sudo sh deploy/install.sh [option ...]

  --prefix DIR    directory of the versions and the bundle; /opt/plr-edge by default
  --extras LIST   extras of plr-edge; by default export,serve,train, and video if there is no OpenCV
  --predict-only  install what answers frames and nothing else: no torch, no page, no export
  --cpu-torch     if there is no torch, install PyTorch's build for processors, which suffices for training
  --root DIR      install everything below DIR, and change no user, unit or device; for a disk image
  --back          use the version before the last upgrade again
  --uninstall     remove the installation; keeps the bundle, /etc/default/plr-edge and /var/lib/plr-edge
  --help          print this help

The environment sees the system's packages, so that JetPack's torch, TensorRT and OpenCV are used. Installed
versions of torch, onnxruntime and numpy are never replaced. Set PYTHON to use another interpreter, and
SYSTEMCTL to use another command in the place of systemctl.
TEXT
}

fail() {
    echo "install.sh: $*" >&2
    exit 2
}

prefix=/opt/plr-edge root='' extras='' cpu_torch=no predict_only=no uninstall=no back=no
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --root | --extras)
            [ $# -ge 2 ] || fail "$1 needs a value; see --help"
            case $1 in
                --prefix) prefix=$2 ;;
                --root) root=$2 ;;
                --extras) extras=$2 ;;
            esac
            shift
            ;;
        --cpu-torch) cpu_torch=yes ;;
        --predict-only) predict_only=yes ;;
        --uninstall) uninstall=yes ;;
        --back) back=yes ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) fail "no option '$1'; see --help" ;;
    esac
    shift
done
case $prefix in /*[!/]*) ;; *) fail "--prefix is '$prefix'; it must be an absolute path" ;; esac
case $prefix$root in *[!A-Za-z0-9/._+-]*) fail "--prefix and --root may contain letters, digits and /._+- only" ;; esac
[ "$predict_only$cpu_torch" != yesyes ] || fail "--predict-only installs no torch; leave out --cpu-torch"
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "root is required; use sudo, or --root DIR"

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
home=$root$prefix
versions=$home/versions
venv=
state=$root/var/lib/plr-edge/learned
units=$root/etc/systemd/system
rules=$root/etc/udev/rules.d/60-plr-edge.rules
settings=$root/etc/default/plr-edge
link=$root/usr/local/bin/plr-edge
names='plr-edge.service plr-edge@.service plr-edge-engine.service plr-edge-predict.service'

# true if the running system is to be changed and has the tool for it
on_system() {
    [ -z "$root" ] && command -v "$1" > /dev/null 2>&1
}

has_systemd() {
    [ -n "${SYSTEMCTL:-}" ] || on_system systemctl
}

service() {
    ${SYSTEMCTL:-systemctl} "$@"
}

# run a command as the user of the robot, to whom its state belongs
as_robot() {
    if on_system runuser && getent passwd plr-edge > /dev/null; then runuser -u plr-edge -- "$@"; else "$@"; fi
}

remove() {
    # shellcheck disable=SC2086  # names are words
    if has_systemd; then service disable --now $names > /dev/null 2>&1 || true; fi
    for name in $names; do rm -f "$units/$name"; done
    rm -f "$rules"
    if [ "$(readlink "$link" 2> /dev/null)" = "$prefix/bin/plr-edge" ]; then rm -f "$link"; fi
    for path in current previous bin; do
        if [ -h "$home/$path" ]; then rm -f "$home/$path"; fi
    done
    if [ -d "$versions" ]; then rm -rf "${versions:?}"; fi
    remove_old_layout
    rmdir "$home" 2> /dev/null || true
    if has_systemd; then service daemon-reload || true; fi
    for path in "$home" "$settings" "$root/var/lib/plr-edge"; do
        if [ -e "$path" ]; then echo "kept: $path"; fi
    done
}

# earlier installers put the environment into the directory itself
remove_old_layout() {
    if [ -f "$home/pyvenv.cfg" ]; then
        for part in bin include lib lib64 share pyvenv.cfg keep.txt; do rm -rf "${home:?}/$part"; done
    fi
}

# system packages that pip must not change, as constraints
system_packages() {
    "$venv/bin/python" - << 'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, distribution

for name in ("torch", "onnxruntime", "onnxruntime-gpu", "numpy"):
    try:
        found = distribution(name)
    except PackageNotFoundError:
        continue
    if not str(found.locate_file("")).startswith(sys.prefix):
        print(f"{name}=={found.version}")
PYTHON
}

# in the environment or, before it exists, in the system
can_import() {
    interpreter=$venv/bin/python
    [ -n "$venv" ] && [ -x "$interpreter" ] || interpreter=$python
    "$interpreter" -c "import sys, importlib.util as u; sys.exit(not u.find_spec('$1'))"
}

check_python() {
    command -v "$python" > /dev/null || fail "$python is not installed"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$("$python" --version) is too old: plr-edge needs 3.10, which JetPack 6 has"
    if [ "$cpu_torch$predict_only" = nono ] && [ -e "$root/etc/nv_tegra_release" ] && ! can_import torch; then
        fail "root can import no torch, and the build on PyPI is for servers; install the one for your JetPack" \
            "system-wide, or add --cpu-torch, which suffices for training"
    fi
}

make_environment() {
    if [ -e "$home" ] && [ ! -d "$versions" ] && [ ! -f "$home/pyvenv.cfg" ]; then
        case $(ls -A "$home") in
            '' | bundle) ;;
            *) fail "$home exists and is not an installation of plr-edge; choose another --prefix" ;;
        esac
    fi
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/../pyproject.toml")
    n=1
    while [ -e "$versions/$version-$n" ]; do n=$((n + 1)); done
    name=$version-$n venv=$versions/$version-$n
    mkdir -p "$versions"
    "$python" -m venv --system-site-packages "$venv" || {
        rm -rf "$venv"
        fail "cannot create a virtual environment; run: sudo apt install python3-venv"
    }
}

install_package() {
    system_packages > "$venv/keep.txt"
    if [ "$cpu_torch" = yes ] && ! can_import torch; then
        "$venv/bin/python" -m pip install --index-url https://download.pytorch.org/whl/cpu torch
    fi
    if [ -z "$extras" ]; then
        [ "$predict_only" = yes ] || extras=export,serve,train
        can_import cv2 || extras=${extras:+$extras,}video
    fi
    "$venv/bin/python" -m pip install --upgrade-strategy only-if-needed -c "$venv/keep.txt" "$here/..${extras:+[$extras]}"
    system_packages | cmp -s - "$venv/keep.txt" ||
        fail "pip changed one of these packages; please report it: $(tr '\n' ' ' < "$venv/keep.txt")"
    "$venv/bin/plr-edge" --version
}

# the new version reads the bundle and a copy of what was learned, before anything is switched
check_version() {
    bundle=$home/bundle
    if [ -f "$settings" ]; then
        given=$(sed -n 's/^PLR_EDGE_BUNDLE=//p' "$settings" | tail -n 1)
        [ -z "$given" ] || bundle=$root$given
    fi
    if [ -f "$bundle/manifest.json" ]; then
        "$venv/bin/plr-edge" inspect "$bundle" > /dev/null || return 1
        "$venv/bin/plr-edge" verify "$bundle" > /dev/null || return 1
    fi
    if [ -f "$state/store.db" ]; then
        copy=$root/var/lib/plr-edge/before-upgrade
        rm -rf "$copy"
        as_robot "$venv/bin/plr-edge" backup "$state" "$copy" || return 1
        as_robot "$venv/bin/plr-edge" inspect "$copy" > /dev/null || return 1
        echo "a copy of what was learned is in $copy"
    fi
}

# make one version the current one; the units of each lie beside it
use() {
    move_old_layout
    old=$(readlink "$home/current" 2> /dev/null || true)
    ln -sfn "versions/$1" "$home/current.new"
    mv -T "$home/current.new" "$home/current"
    if [ ! -h "$home/bin" ]; then ln -s current/bin "$home/bin"; fi
    if [ -n "$old" ] && [ "$old" != "versions/$1" ]; then ln -sfn "$old" "$home/previous"; fi
    mkdir -p "$units"
    for unit in $names; do
        if [ -e "$versions/$1/units/$unit" ]; then
            cp "$versions/$1/units/$unit" "$units/$unit.new"
            mv "$units/$unit.new" "$units/$unit"
        else
            rm -f "$units/$unit"
        fi
    done
    if has_systemd; then service daemon-reload || true; fi
}

# the environment of earlier installers becomes a version like others
move_old_layout() {
    [ -f "$home/pyvenv.cfg" ] || return 0
    mkdir -p "$versions/old/units"
    for unit in $names; do
        if [ -e "$units/$unit" ]; then cp "$units/$unit" "$versions/old/units/$unit"; fi
    done
    for part in bin include lib lib64 share pyvenv.cfg keep.txt; do
        if [ -e "$home/$part" ]; then mv "$home/$part" "$versions/old/$part"; fi
    done
    for script in "$versions"/old/bin/*; do
        if [ -f "$script" ] && [ ! -h "$script" ]; then
            sed -i "1s|^#!$prefix/bin/|#!$prefix/versions/old/bin/|" "$script"
        fi
    done
    ln -sfn versions/old "$home/current"
}

# where the unit listens: --listen in its settings or, with a drop-in, in its command
listens_at() {
    {
        service cat plr-edge.service 2> /dev/null | grep '^ExecStart=' || true
        sed -n 's/^PLR_EDGE_OPTIONS=//p' "$settings" 2> /dev/null || true
    } | tr -d "\"'" | sed -n 's/.*--listen[ =]\([^ ]*\).*/\1/p' | tail -n 1
}

# ask /health/live, which needs no token; the certificate is not checked
answers() {
    "$venv/bin/python" - live "$1" << 'PYTHON'
import http.client
import socket
import ssl
import sys

where = sys.argv[2]


def asked(connection):
    connection.request("GET", "/health/live", headers={"Host": "localhost"})
    return connection.getresponse().status == 200


def asked_at_socket():
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    connection.sock.connect(where[5:])
    return asked(connection)


def asked_at_port():
    host, _, port = where.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    unchecked = ssl._create_unverified_context()
    for connection in (
        http.client.HTTPConnection(host, int(port), timeout=5),
        http.client.HTTPSConnection(host, int(port), timeout=5, context=unchecked),
    ):
        try:
            if asked(connection):
                return True
        except (OSError, http.client.HTTPException):
            pass
    return False


try:
    sys.exit(not (asked_at_socket() if where.startswith("unix:") else asked_at_port()))
except (OSError, ValueError, http.client.HTTPException) as error:
    sys.exit(f"{where}: {error}")
PYTHON
}

# true if the robot answers where its unit listens, or listens nowhere
is_live() {
    where=$(listens_at)
    [ -n "$where" ] || return 0
    for _ in 1 2 3 4 5 6; do
        if answers "$where"; then return 0; fi
        sleep "${CHECK_EVERY_S:-5}"
    done
    echo "install.sh: nothing answers /health/live at $where" >&2
    return 1
}

# true if the robot comes up, stays up and answers, or was not running
comes_up() {
    if ! has_systemd || ! service is-active --quiet plr-edge.service; then return 0; fi
    service restart plr-edge.service || return 1
    began=$(service show -p NRestarts --value plr-edge.service)
    for _ in 1 2 3 4 5 6; do
        sleep "${CHECK_EVERY_S:-5}"
        service is-active --quiet plr-edge.service || return 1
        [ "$(service show -p NRestarts --value plr-edge.service)" = "$began" ] || return 1
    done
    is_live
}

go_back() {
    before=$(readlink "$home/previous" 2> /dev/null) || fail "there is no version to go back to"
    before=${before#versions/}
    use "$before"
    if has_systemd; then service try-restart plr-edge.service || true; fi
    echo "back at $before" >&2
}

# the current version and the one before it are kept
remove_older() {
    for path in "$versions"/*; do
        case versions/${path##*/} in
            "$(readlink "$home/current")" | "$(readlink "$home/previous")") ;;
            *) rm -rf "${path:?}" ;;
        esac
    done
}

install_files() {
    mkdir -p "$venv/units" "${rules%/*}" "${settings%/*}" "${link%/*}"
    for unit in $names; do
        sed "s|/opt/plr-edge|$prefix|g" "$here/$unit" > "$venv/units/$unit"
        chmod 644 "$venv/units/$unit"
    done
    cp "$here/60-plr-edge.rules" "$rules"
    [ -e "$settings" ] || sed "s|/opt/plr-edge|$prefix|g" "$here/plr-edge.env" > "$settings"
    ln -sfn "$prefix/bin/plr-edge" "$link"
}

change_system() {
    if on_system useradd; then
        getent group render > /dev/null || groupadd --system render
        getent passwd plr-edge > /dev/null ||
            useradd --system --user-group --home-dir /var/lib/plr-edge --shell /usr/sbin/nologin plr-edge
    fi
    if on_system udevadm; then
        udevadm control --reload || true
        udevadm trigger --subsystem-match=powercap || true
    fi
}

if [ "$uninstall" = yes ]; then
    remove
    exit 0
fi
if [ "$back" = yes ]; then
    go_back
    exit 0
fi
check_python
make_environment
trap 'rm -rf "${venv:?}"' EXIT # an upgrade that is cut short leaves nothing behind
install_package
change_system
if ! check_version; then
    echo "install.sh: the new version does not accept the bundle or what was learned; nothing was changed" >&2
    exit 1
fi
install_files
use "$name"
trap - EXIT
if ! comes_up; then
    echo "install.sh: the robot does not stay up with $name; journalctl -u plr-edge says why" >&2
    if [ -h "$home/previous" ]; then go_back; fi
    exit 1
fi
remove_older
if [ "$predict_only" = yes ]; then
    echo "next: copy a bundle to $prefix/bundle, and a learned state to /var/lib/plr-edge/learned"
    echo "then: sudo systemctl enable --now plr-edge-predict"
    exit 0
fi
[ -e "$home/bundle" ] || echo "next: sudo plr-edge export -o $prefix/bundle"
echo "then: edit /etc/default/plr-edge, and sudo systemctl enable --now plr-edge"
