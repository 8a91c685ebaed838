#!/usr/bin/env bash
# Everything that needs a real GPU, in one run:  benches/gpu.sh [STAGE...]
#
#   adapter   which GPU, driver, loader; stops the run unless the adapter is the expected one
#   build     the program and the tests, where cargo is
#   tests     every test on the adapter           check     the conformance fixtures
#   pairs     the operators at the shapes that the CUDA references are timed at, inputs and results written for them
#   step      whole training steps                profile   a step of each size by kernel, with traces
#   mixed     what is f16 in mixed precision, and whole steps, products in high
#   cuda      the CUDA references (benches/cuda)  compare   both in one table, and mixed in one of its own
#   train     a short training                    bench     every operator at every shape (20 minutes)
#
# Without stages: all, in this order. A stage that fails or takes longer than its limit is noted and the next goes on.
# Results: benches/runs/DATE-GPU/ with summary.md; `adapter` runs always, so that stages may be run one at a time.
#
#   EXPECT=NVIDIA    what the adapter's name has to contain      OUT=DIR      another folder for the results
#   ROWSCAN=FILE     a program built elsewhere                   TESTS=FILE   a test binary built elsewhere
#   PYTHON=python3   one with torch, safetensors, numpy          DUMPS=DIR    where inputs go (gigabytes), default a temporary one
#   SIZES="tiny small base"   BATCH=128                          QUICK=1      small shapes, CPU references: a try without a GPU
set -uo pipefail
cd "$(dirname "$0")/.."
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp} REQUIRE_GPU=1
expect=${EXPECT:-NVIDIA} python=${PYTHON:-python3} quick=${QUICK:-} batch=${BATCH:-128}
sizes=${SIZES:-tiny small base}
[ -n "$quick" ] && { sizes=tiny batch=2; }
stages=("$@")
[ ${#stages[@]} -eq 0 ] && stages=(build tests check pairs step mixed profile cuda compare train bench)
rowscan=${ROWSCAN:-target/release/rowscan}
families="selective_scan conv1d attention matmul mlp rms_norm layer_norm adamw activation"
size_flags=$(printf -- '--size %s ' $sizes)

# the loader finds the driver by itself where packages installed it; elsewhere its file is named
if [ -z "${VK_DRIVER_FILES:-}" ] && [ "$expect" = NVIDIA ]; then
    for file in {/etc,/usr/share,/usr/local/share,/usr/local/nvidia/share}/vulkan/icd.d/nvidia_icd*.json; do
        [ -e "$file" ] && { export VK_DRIVER_FILES=$file; break; }
    done
fi

environment() {
    date -u +%FT%TZ; uname -srm; nproc; git rev-parse HEAD 2> /dev/null
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2> /dev/null || echo "no nvidia-smi"
    ldconfig -p 2> /dev/null | grep -q libvulkan.so.1 || echo "no libvulkan.so.1: install the Vulkan loader (libvulkan1)"
    echo "VK_DRIVER_FILES=${VK_DRIVER_FILES:-}"
    "$python" -c 'import torch; print("torch", torch.__version__, torch.cuda.is_available())' 2>&1 | tail -1
}

if [[ " ${stages[*]} " == *" build "* ]] || [ ! -x "$rowscan" ]; then
    if [ -z "${ROWSCAN:-}" ] && command -v cargo > /dev/null; then
        cargo build --release --package rowscan || { echo "the program does not build" >&2; exit 1; }
        rowscan=${CARGO_TARGET_DIR:-target}/release/rowscan
    fi
fi
[ -x "$rowscan" ] || { echo "no program: $rowscan (set ROWSCAN)" >&2; exit 1; }
adapter=$("$rowscan" info --adapter-only 2> /dev/null)
name=$(printf %s "${adapter%%,*}" | sed 's/ *(.*//; s/[^A-Za-z0-9]\+/-/g; s/-$//' | tr '[:upper:]' '[:lower:]')
out=${OUT:-benches/runs/$(date -u +%F)-${name:-no-adapter}}
mkdir -p "$out"; out=$(realpath "$out")
{ environment; echo "adapter: $adapter"; } 2>&1 | tee "$out/environment.txt"
if [[ $adapter != *$expect* ]]; then
    echo "the adapter is not $expect: nothing was run" | tee -a "$out/environment.txt" >&2
    exit 1
fi
dumps=${DUMPS:-$(mktemp -d)}
[ -n "${DUMPS:-}" ] && mkdir -p "$dumps"
[ -e "$out/summary.md" ] || printf '# %s\n\n| stage | result | seconds | output |\n|---|---|--:|---|\n' "$adapter" > "$out/summary.md"
failed=0

run() { # name, limit in seconds, command...
    local stage=$1 limit=$2 start=$SECONDS code result; shift 2
    echo "== $stage: $*"
    local log=$stage.${ext:-txt}
    timeout --kill-after=20 "$limit" "$@" > "$out/$log" 2>&1
    code=$?
    case $code in 0) result=done ;; 124 | 137) result="stopped after $limit s" ;; *) result="failed with $code" ;; esac
    [ $code -eq 0 ] || { failed=1; tail -n 15 "$out/$log"; }
    echo "| $stage | $result | $((SECONDS - start)) | $log |" | tee -a "$out/summary.md"
    return $code
}

for stage in "${stages[@]}"; do
    case $stage in
    adapter | build) ;; # above
    tests)
        filter=${FILTER:-$([ -n "$quick" ] && echo measure)}
        if [ -n "${TESTS:-}" ]; then run tests 1500 "$TESTS" $filter
        else run tests 1500 cargo test --release --package rowscan -- $filter; fi ;;
    check) run check 300 "$rowscan" check --quiet tests/fixtures/*.safetensors ;;
    pairs)
        # the training shape and the inference shape of each size
        list=$(printf -- '--family %s ' $families)
        if [ -n "$quick" ]; then
            run pairs 600 "$rowscan" bench --quick $list $size_flags --json "$out/pairs.json" --dump "$dumps"
        else
            run pairs 900 "$rowscan" bench $list $size_flags --batch "$batch" --tokens 98 --json "$out/pairs.json" --dump "$dumps"
            run pairs-1 600 "$rowscan" bench $list $size_flags --batch 1 --tokens 208 --json "$out/pairs-1.json" --dump "$dumps"
        fi ;;
    step)
        if [ -n "$quick" ]; then run step 300 "$rowscan" bench --family step --json "$out/step.json"
        else run step 600 "$rowscan" bench --family step $size_flags --batch "$batch" --json "$out/step.json"; fi ;;
    mixed)
        shape="--batch $batch --tokens 98"; [ -n "$quick" ] && shape=--quick
        run mixed 600 "$rowscan" bench --precision mixed --family matmul --family mlp --family attention \
            --family conv1d --family selective_scan --family rms_norm --family layer_norm --family step $size_flags $shape --json "$out/mixed.json"
        run high 300 "$rowscan" bench --precision high --family matmul $size_flags $shape --json "$out/high.json" ;;
    profile)
        for size in $([ -n "$quick" ] && echo micro || echo $sizes); do
            run "profile-$size" 300 "$rowscan" profile --model "$size" --batch-size "$batch" --trace "$out/trace-$size.json"
            run "info-$size" 60 "$rowscan" info --model "$size" --batch-size "$batch"
        done ;;
    cuda) SIZES=$sizes BATCH=$batch run cuda 1800 benches/cuda/run.sh "$dumps" "$out/cuda" $([ -n "$quick" ] && echo cpu) ;;
    compare)
        files=()
        for file in "$out"/{pairs,pairs-1,step,cuda/ops,cuda/step}.json; do [ -e "$file" ] && files+=("$file"); done
        ext=md run compare 60 "$python" benches/compare.py "${files[@]}"
        [ -e "$out/mixed.json" ] && ext=md run compare-mixed 60 "$python" benches/compare.py "$out/mixed.json" "$out"/cuda/*.json ;;
    train)
        model=tiny images=12800 size=224; [ -n "$quick" ] && { model=micro images=8 size=16; }
        run train 420 "$rowscan" pretrain --data "synthetic:$images" --model "$model" --image-size $size --batch-size "$batch" \
            --epochs 2 --log-every 5 --output-dir "$out/train" --keep 1
        rm -rf "$out"/train/checkpoint-* ;;
    bench)
        run bench 1800 "$rowscan" bench $([ -n "$quick" ] && echo --quick --family scale --family add) --json "$out/bench.json" ;;
    *) echo "no such stage: $stage" >&2; exit 2 ;;
    esac
done
[ -n "${DUMPS:-}" ] || rm -rf "$dumps"
echo "results: $out"
exit $failed
