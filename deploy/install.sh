#!/bin/sh
# Install plr-edge on a board, with its units. Run it again to upgrade. Learned state is never touched.
set -eu
umask 022

usage() {
    cat <<'TEXT'
usage: sudo sh deploy/install.sh [option ...]

  --prefix DIR    directory of the virtual environment; /opt/plr-edge by default
  --extras LIST   extras of plr-edge; by default export,serve,train, and video if there is no OpenCV
  --predict-only  install what answers frames and nothing else: no torch, no page, no export
  --cpu-torch     if there is no torch, install PyTorch's build for processors, which suffices for training
  --root DIR      install everything below DIR, and change no user, unit or device; for a disk image
  --uninstall     remove the installation; keeps the bundle, /etc/default/plr-edge and /var/lib/plr-edge
  --help          print this help

The environment sees the system's packages, so that JetPack's torch, TensorRT and OpenCV are used. Installed
versions of torch, onnxruntime and numpy are never replaced. Set PYTHON to use another interpreter.
TEXT
}

fail() {
    echo "install.sh: $*" >&2
    exit 2
}

prefix=/opt/plr-edge root='' extras='' cpu_torch=no predict_only=no uninstall=no
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
venv=$root$prefix
units=$root/etc/systemd/system
rules=$root/etc/udev/rules.d/60-plr-edge.rules
settings=$root/etc/default/plr-edge
link=$root/usr/local/bin/plr-edge
names='plr-edge.service plr-edge@.service plr-edge-engine.service plr-edge-predict.service'

# true if the running system is to be changed and has the tool for it
on_system() {
    [ -z "$root" ] && command -v "$1" > /dev/null 2>&1
}

remove() {
    # shellcheck disable=SC2086  # names are words
    if on_system systemctl; then systemctl disable --now $names > /dev/null 2>&1 || true; fi
    for name in $names; do rm -f "$units/$name"; done
    rm -f "$rules"
    if [ "$(readlink "$link" 2> /dev/null)" = "$prefix/bin/plr-edge" ]; then rm -f "$link"; fi
    if [ -f "$venv/pyvenv.cfg" ]; then
        for part in bin include lib lib64 share pyvenv.cfg keep.txt; do rm -rf "${venv:?}/$part"; done
        rmdir "$venv" 2> /dev/null || true
    fi
    if on_system systemctl; then systemctl daemon-reload || true; fi
    for path in "$venv" "$settings" "$root/var/lib/plr-edge"; do
        if [ -e "$path" ]; then echo "kept: $path"; fi
    done
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
    [ -x "$interpreter" ] || interpreter=$python
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
    if [ -f "$venv/pyvenv.cfg" ] && "$venv/bin/python" -m pip --version > /dev/null 2>&1; then return; fi
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        case $(ls -A "$venv") in
            '' | bundle) ;;
            *) fail "$venv exists and is not a virtual environment; choose another --prefix" ;;
        esac
    fi
    "$python" -m venv --system-site-packages "$venv" ||
        fail "cannot create a virtual environment; run: sudo apt install python3-venv"
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

install_files() {
    mkdir -p "$units" "${rules%/*}" "${settings%/*}" "${link%/*}"
    for name in $names; do
        sed "s|/opt/plr-edge|$prefix|g" "$here/$name" > "$units/$name.new"
        chmod 644 "$units/$name.new"
        mv "$units/$name.new" "$units/$name"
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
    if on_system systemctl; then
        systemctl daemon-reload || true
        systemctl try-restart plr-edge.service || true
    fi
}

if [ "$uninstall" = yes ]; then
    remove
    exit 0
fi
check_python
make_environment
install_package
install_files
change_system
if [ "$predict_only" = yes ]; then
    echo "next: copy a bundle to $prefix/bundle, and a learned state to /var/lib/plr-edge/learned"
    echo "then: sudo systemctl enable --now plr-edge-predict"
    exit 0
fi
[ -e "$venv/bundle" ] || echo "next: sudo plr-edge export -o $prefix/bundle"
echo "then: edit /etc/default/plr-edge, and sudo systemctl enable --now plr-edge"
