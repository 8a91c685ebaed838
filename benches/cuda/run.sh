#!/usr/bin/env bash
# Times the CUDA references on our inputs:  benches/cuda/run.sh DUMPS OUT [cpu]
#   DUMPS   a folder that `rowscan bench --dump` wrote
#   OUT     a folder for ops.json, step.json and the logs
#   cpu     run everything on the CPU with small steps: shows that it runs and is right; the times mean nothing
# Needs python3 with torch, safetensors and numpy; PYTHON names another. If mamba-ssm or causal-conv1d is missing and
# nvcc is there, it is built from its source package in benches/cuda/packages, which fetch.sh downloads. If it does not
# build within BUILD_SECONDS, our Triton scan or PyTorch's conv1d takes its place, and every row names the
# implementation.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dumps=${1:?a folder of dumps} out=${2:?a folder for the results} device=${3:-cuda}
dumps=$(realpath "$dumps"); mkdir -p "$out"; out=$(realpath "$out")
python=${PYTHON:-python3}
site=${SITE:-$out/site}
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
failed=0

build() { # module that tells whether it is installed, package
    "$python" -c "import torch, $1" 2> /dev/null && return
    local source
    source=$(ls "$here"/packages/"$2"-*.tar.gz 2> /dev/null | tail -1)
    [ -n "$source" ] || { echo "$2: no source package in $here/packages (fetch.sh)" >&2; return; }
    echo "building $source"
    "$python" "$here/build.py" "$source" "$site" --seconds "${BUILD_SECONDS:-900}" > "$out/build-$2.log" 2>&1 ||
        echo "$2 did not build: see $out/build-$2.log" >&2
}

if [ "$device" = cuda ] && command -v nvcc > /dev/null; then
    for wheel in "$here"/packages/*.whl; do # einops, which mamba-ssm imports
        [ -e "$wheel" ] && "$python" -m pip install --quiet --no-deps --no-index --target "$site" "$wheel"
    done
    MAX_JOBS=$((($(nproc) + 1) / 2)); export MAX_JOBS # two builds at once, half of the cores each
    build causal_conv1d_cuda causal_conv1d &
    build selective_scan_cuda mamba_ssm &
    wait
fi

step() { # log, command...
    local log=$1; shift
    echo "== $*"
    "$@" 2>&1 | tee "$out/$log" || { echo "FAILED: $*"; failed=1; }
}
cd "$here"
# test.py sets a variable for Triton's interpreter, which must not reach the other scripts
step test.log "$python" test.py
step ops.log "$python" ops.py "$dumps" --json "$out/ops.json" --device "$device"
if [ "$device" = cpu ]; then
    step step.log "$python" step.py --json "$out/step.json" --device cpu --size tiny --depth 3 --batch 2 --precision f32 --form eager
else
    # shellcheck disable=SC2086
    step step.log "$python" step.py --json "$out/step.json" --size ${SIZES:-tiny small base} --batch ${BATCH:-128}
fi
exit $failed
