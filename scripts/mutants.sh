#!/usr/bin/env bash
# Mistakes that cargo-mutants finds in the parts that decide, one at a time; the tests must notice each.
#
#   scripts/mutants.sh [--build] [--sample N] PART [ARGUMENT…]
#
# PART         what mistakes are made in                             whose tests are run
#   tables     packing, unpacking, trees and the model               mesh-bpf, then the compiler's, the laws of fuzz
#   compiler   deciding, lowering, what a policy says, the proof     the compiler, the proof, the laws of fuzz
#   generation a generation's life, in memory                        mesh-runtime
#   nft        lowering to rulesets of nftables, and their proof     mesh-nft, the law of fuzz
#
# --sample N takes about N of the mistakes, spread evenly, others each time. ARGUMENTs choose among them as they do for
# `cargo mutants --list`: `-f compiler/src/decide/thin.rs`, `--in-diff FILE`, `--shard 0/8`.
#
# All mistakes are compiled at once, each behind a switch (testbed/mutants), in two copies in the target directory,
# which are kept. That takes some minutes; then most mistakes take a tenth of a second, and those that survive as long
# as all tests.
#
# What survives is printed, and the status is 2. It is a test that is missing, or belongs into .cargo/mutants.toml with
# the reason why nobody can notice. What does not compile is in target/mutants/refused, with the compiler's messages.
#
# Without cargo-mutants it says so and exits with 77, unless --build is given: then it is built once, into the target
# directory.
set -euo pipefail
cd "$(dirname "$0")/.."

version=27.1.0
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
PATH="$target/tools/bin:$PATH"

build=
sample=
while :; do
    case ${1:-} in
        --build) build=yes && shift ;;
        --sample) sample=${2:?how many} && shift 2 ;;
        *) break ;;
    esac
done
part=${1:-}
shift || true

# Tests that take long come last, where only those are left that nothing else noticed.
slow=(laws:: brute_force:: hundred_thousand ten_megabytes proof_tests an_effect_where)
laws=(
    "mesh-fuzz:regressions"
    "mesh-compiler:reject --skip many_times"
    "mesh-compiler:lib ${slow[*]/#/--skip }"
    "mesh-compiler:lib exemptions_mean ports_are_walked another_answer exempt_otherwise cut_in_two"
    "mesh-fuzz:random random_programs damaged_programs"
    "mesh-compiler:edits"
    "mesh-compiler:merge"
    "mesh-compiler:services"
    "mesh-compiler:lib proof_tests an_effect_where evaluator_and_tables brute_force"
    "mesh-fuzz:damaged"
    "mesh-fuzz:random most damaged_artifacts"
    "mesh-compiler:lib the_evaluator_is_the_law"
)
case $part in
    compiler)
        files=(-f 'compiler/src/decide/**' -f 'compiler/src/lower/**' -f 'compiler/hir/src/**' -f 'compiler/proof/src/**')
        steps=("mesh-hir:lib" "mesh-proof:lib" "${laws[@]}")
        ;;
    tables)
        files=()
        for file in pack unpack tree tables canonical intern sim item flow ports prefix membership; do
            files+=(-f "bpf/src/$file.rs")
        done
        steps=("mesh-bpf:lib" "mesh-bpf:image" "${laws[@]}" "mesh-nft:lib" "mesh-fuzz:random rulesets")
        ;;
    nft)
        files=()
        for file in judge prove ruleset scene unsupported; do
            files+=(-f "nft/src/$file.rs")
        done
        files+=(-f 'nft/src/lower/**')
        steps=("mesh-nft:lib" "mesh-fuzz:random rulesets")
        ;;
    generation)
        files=(-f 'runtime/src/generation/**' -f 'runtime/src/state/**' -f 'runtime/src/maps/**')
        for file in apply confirm history; do
            files+=(-f "runtime/src/commands/$file.rs" -f "runtime/src/commands/$file/**")
        done
        long=(steps:: model:: every_flipped)
        steps=("mesh-runtime:lib" "mesh-runtime:it ${long[*]/#/--skip }" "mesh-runtime:it ${long[*]}")
        ;;
    *)
        sed -n '2,25s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac

if ! command -v cargo-mutants >/dev/null; then
    if [ -z "$build" ]; then
        echo "not tried: cargo-mutants is not installed (--build, or ./test --long, builds it)"
        exit 77
    fi
    CARGO_TARGET_DIR=$target/tools/build cargo install --quiet --locked --debug --root "$target/tools" \
        --version "$version" cargo-mutants
    rm -rf "$target/tools/build"
fi

# A copy of what is here, committed or not. What is the same there is left alone: cargo goes by the times of files.
tree=$target/mutants/tree
pristine=$target/mutants/pristine
mkdir -p "$tree" "$pristine"
git ls-files -z --cached --others --exclude-standard --deduplicate >"$target/mutants/files"
for copy in "$pristine" "$tree"; do
    while IFS= read -r -d '' file; do
        if [ -f "$file" ] && ! cmp --silent "$file" "$copy/$file"; then
            mkdir -p "$copy/$(dirname "$file")"
            cp "$file" "$copy/$file"
        fi
    done <"$target/mutants/files"
    (cd "$copy" && find . -path ./target -prune -o -type f -printf '%P\0') |
        grep --null-data --invert-match --line-regexp --fixed-strings --file <(tr '\0' '\n' <"$target/mutants/files") |
        (cd "$copy" && xargs --null --no-run-if-empty rm --) || true
done

# Files that are named take the place of all files of the part.
[[ " $* " =~ \ (-f|--file)[\ =] ]] && files=()
list() { cargo mutants --dir "$pristine" --workspace --no-shuffle --list "${files[@]}" "$@"; }
if [ -n "$sample" ]; then
    shards=$((($(list "$@" | wc -l) + sample - 1) / sample))
    [ "$shards" -gt 0 ] || shards=1
    set -- --sharding round-robin --shard "$((RANDOM % shards))/$shards" "$@"
fi
list --json "$@" >"$target/mutants/list.json"

# What needs the kernel says nothing about these parts that is not known without it, and takes long.
unset MESHC_TEST_KERNEL MESHC_TEST_LONG CARGO_TARGET_DIR
cargo build --quiet --manifest-path testbed/mutants/Cargo.toml --target-dir "$target/mutants/tool"
exec "$target/mutants/tool/debug/mesh-mutants" "$tree" "$pristine" "$target/mutants/list.json" "${steps[@]}"
