#!/usr/bin/env bash
# Mistakes that cargo-mutants makes in the parts that decide, one after the other; the tests must miss each.
#
#   scripts/mutants.sh [--build] PART [ARGUMENT…]
#
# PART is compiler (deciding, lowering, what a policy says and the proof), tables (packing, unpacking, the
# model) or generation (a generation's life, without a kernel). ARGUMENTs go to cargo-mutants: `--list`,
# `--shard 0/8`, `--in-diff FILE`, `-f compiler/src/decide/thin.rs`. What survives is either a test that is
# missing or stands in .cargo/mutants.toml with the reason why nobody can notice.
#
# It works on a copy, in TMPDIR. Without cargo-mutants it says so and exits with 77, unless --build is given:
# then it is built once, into the target directory.
set -euo pipefail
cd "$(dirname "$0")/.."

version=27.1.0
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools")
PATH="$tools/bin:$PATH"

build=
if [ "${1:-}" = --build ]; then
    build=yes
    shift
fi
part=${1:-}
shift || true

compiler_tests=(--test-package mesh-compiler --test-package mesh-proof --test-package mesh-hir --test-package mesh-fuzz)
case $part in
    compiler)
        files=(-f 'compiler/src/decide/**' -f 'compiler/src/lower/**' -f 'compiler/hir/src/**' -f 'compiler/proof/src/**')
        tests=("${compiler_tests[@]}")
        ;;
    tables)
        files=()
        for file in pack unpack tree tables canonical intern sim item flow ports prefix membership; do
            files+=(-f "bpf/src/$file.rs" -f "bpf/src/$file/**")
        done
        tests=(--test-package mesh-bpf "${compiler_tests[@]}")
        ;;
    generation)
        files=(-f 'runtime/src/generation/**' -f 'runtime/src/state/**' -f 'runtime/src/maps/**')
        for file in apply confirm history; do
            files+=(-f "runtime/src/commands/$file.rs" -f "runtime/src/commands/$file/**")
        done
        tests=(--test-package mesh-runtime)
        ;;
    *)
        sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac

if ! command -v cargo-mutants >/dev/null; then
    if [ -z "$build" ]; then
        echo "not tried: cargo-mutants is not installed (./test --long builds it)"
        exit 77
    fi
    CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --debug --root "$tools" --version "$version" cargo-mutants
    rm -rf "$tools/build"
fi

# What needs the kernel says nothing about these parts that is not known without it, and takes long.
unset MESHC_TEST_KERNEL
exec cargo mutants --workspace --no-shuffle --profile mutants --output "${CARGO_TARGET_DIR:-target}" "${files[@]}" "${tests[@]}" "$@"
