#!/usr/bin/env bash
# Mistakes that cargo-mutants makes in the parts that decide, one after the other; the tests must miss each.
#
#   scripts/mutants.sh [--build] [--sample N] PART [ARGUMENT…]
#
# PART               is tried with these tests first      and what they let through with all tests of
#   tables           mesh-bpf: lib, image                 mesh-bpf, the compiler, the proof, the laws of fuzz
#   compiler         the compiler's, the proof's: lib     the compiler, the proof, the laws of fuzz
#   generation       mesh-runtime: what runs in memory    mesh-runtime
#
# compiler is deciding, lowering, what a policy says and the proof; tables packing, unpacking and the model;
# generation a generation's life, without a kernel. --sample N takes about N of the mistakes, spread evenly, others
# each time. ARGUMENTs go to cargo-mutants: `--list`, `--shard 0/8`, `--in-diff FILE`, `-f compiler/src/decide/thin.rs`.
#
# What survives is printed at the end, and the status is 2. It is a test that is missing, or belongs into
# .cargo/mutants.toml with the reason why nobody can notice. A mistake takes 5 to 20 seconds of one processor, the first
# run some minutes more: it works in a copy in the target directory, which is kept.
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

# The tests of a part: of which packages, and what cargo is told of them.
test_of() { printf -- '--test-package\n%s\n' "$@"; }
mapfile -t compiler < <(test_of mesh-compiler mesh-proof mesh-hir mesh-fuzz)
case $part in
    compiler)
        files=(-f 'compiler/src/decide/**' -f 'compiler/src/lower/**' -f 'compiler/hir/src/**' -f 'compiler/proof/src/**')
        first=(--test-package mesh-compiler --test-package mesh-proof)
        quick=(--lib -- --skip random --skip ten_megabytes --skip hundred_thousand --skip million)
        all=("${compiler[@]}")
        ;;
    tables)
        files=()
        for file in pack unpack tree tables canonical intern sim item flow ports prefix membership; do
            files+=(-f "bpf/src/$file.rs")
        done
        first=(--test-package mesh-bpf)
        quick=(--lib --test image)
        all=(--test-package mesh-bpf "${compiler[@]}")
        ;;
    generation)
        files=(-f 'runtime/src/generation/**' -f 'runtime/src/state/**' -f 'runtime/src/maps/**')
        for file in apply confirm history; do
            files+=(-f "runtime/src/commands/$file.rs" -f "runtime/src/commands/$file/**")
        done
        first=(--test-package mesh-runtime)
        quick=(--lib --test it -- --skip steps:: --skip model::)
        all=(--test-package mesh-runtime)
        ;;
    *)
        sed -n '2,22s/^# \{0,1\}//p' "$0" >&2
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
mkdir -p "$tree"
git ls-files -z --cached --others --exclude-standard --deduplicate >"$target/mutants/files"
while IFS= read -r -d '' file; do
    if [ -f "$file" ] && ! cmp --silent "$file" "$tree/$file"; then
        mkdir -p "$tree/$(dirname "$file")"
        cp "$file" "$tree/$file"
    fi
done <"$target/mutants/files"
(cd "$tree" && find . -path ./target -prune -o -type f -printf '%P\0') |
    grep --null-data --invert-match --line-regexp --fixed-strings --file <(tr '\0' '\n' <"$target/mutants/files") |
    (cd "$tree" && xargs --null --no-run-if-empty rm --) || true

# What needs the kernel says nothing about these parts that is not known without it, and takes long.
unset MESHC_TEST_KERNEL MESHC_TEST_LONG CARGO_TARGET_DIR
mutants=(cargo mutants --dir "$tree" --workspace --no-shuffle)
try() {
    local into=$1
    shift
    "${mutants[@]}" --in-place --profile mutants --output "$target/mutants/$into" "$@"
}

# Files that are named take the place of all files of the part.
[[ " $*" =~ \ (-f|--file)[\ =] ]] && files=()
is_list() { [[ " $* " == *" --list "* ]]; }
if [ -n "$sample" ]; then
    is_list "$@" && list=() || list=(--list)
    count=$("${mutants[@]}" "${list[@]}" "${files[@]}" "$@" | wc -l)
    shards=$(((count + sample - 1) / sample))
    [ "$shards" -gt 0 ] || shards=1
    set -- --sharding round-robin --shard "$((RANDOM % shards))/$shards" "$@"
fi
if is_list "$@"; then
    exec "${mutants[@]}" "${files[@]}" "$@"
fi

# 2: some were let through. 3: tests of some did not end, which is noticed, too. Anything above is an error.
status=0
try first "${files[@]}" "$@" "${first[@]}" -- "${quick[@]}" || status=$?
missed=$target/mutants/first/mutants.out/missed.txt
case $status in
    0 | 2 | 3) [ -s "$missed" ] || exit 0 ;;
    *) exit "$status" ;;
esac
echo "let through, and tried again with all tests: $(wc -l <"$missed")"
again=()
while IFS= read -r mistake; do
    again+=(--re "^$(sed 's/[][\.*^$+?(){}|]/\\&/g' <<<"$mistake")\$")
done <"$missed"
status=0
try all "${files[@]}" "${again[@]}" "${all[@]}" || status=$?
case $status in
    0 | 2 | 3) [ -s "$target/mutants/all/mutants.out/missed.txt" ] || exit 0 ;;
    *) exit "$status" ;;
esac
echo "survived:"
cat "$target/mutants/all/mutants.out/missed.txt"
exit 2
