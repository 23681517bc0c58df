#!/usr/bin/env bash
# Licences, duplicates and sources of all dependencies, against deny.toml.
#
# Without cargo-deny it says so and exits with 77, unless --build is given: then it is built once, into the
# target directory (about a minute on two cores).
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools
PATH="$tools/bin:$PATH"

if ! command -v cargo-deny >/dev/null; then
    if [ "${1:-}" != --build ]; then
        echo "not checked: cargo-deny is not installed (./test --long builds it)"
        exit 77
    fi
    # Unoptimised and without TLS of its own: it reads a lock file, and is built where it is used once.
    CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --debug --no-default-features \
        --root "$tools" --version "$version" cargo-deny
    rm -rf "$tools/build"
fi
cargo deny --locked --log-level warn check licenses bans sources
