#!/usr/bin/env bash
# Everything that needs a GPU, in one command on a GPU host: installs what is missing, runs the GPU tests and benchmarks,
# writes benchmarks/results/<machine>.json and lists what could not run and why. Under 20 minutes.
#
#   benchmarks/gpu_host.sh                       online
#   benchmarks/gpu_host.sh --wheels FOLDER       offline, from a folder of wheels (docs/air-gapped.md says how to fill it)
#   benchmarks/gpu_host.sh --python PYTHON       with an environment that is there, as it is
#   further: --venv FOLDER, --name MACHINE, --minutes 20, --only STEP (repeatable), --list
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

started=$(date +%s) python="" wheels="" venv=.venv-gpu pass=()
while [ $# -gt 0 ]; do
  case "$1" in
    --wheels) wheels=$(cd "$2" && pwd) || exit 2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --venv) venv=$2; shift 2 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) pass+=("$1"); shift ;;
  esac
done

missing=()
if [ -z "$python" ]; then
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || { echo "cannot make $venv: is python3-venv installed?" >&2; exit 3; }
  python=$venv/bin/python
  from=()
  [ -n "$wheels" ] && from=(--no-index --find-links "$wheels")
  install() { timeout 420 "$python" -m pip install --quiet --disable-pip-version-check "${from[@]}" "$@"; }

  # Offline the project is installed as it lies here, without the packages that would build it.
  echo "installing what every benchmark needs" >&2
  need=(hypothesis pytest pytest-timeout scikit-image)
  if [ -n "$wheels" ]; then need+=(hatchling editables); fi
  install "${need[@]}" && install --no-build-isolation -e '.[cpu,bench,onnxruntime]' 2>/dev/null \
    || install -e '.[cpu,bench,onnxruntime]' || { echo "the project itself cannot be installed" >&2; exit 3; }

  # Each by itself, so that one that is not to be had does not keep the others away.
  driver=$(sed -n 's/.* \([0-9]\{3,\}\)\.[0-9.]* .*/\1/p' /proc/driver/nvidia/version 2>/dev/null | head -1)
  cuda=13
  [ -n "$driver" ] && [ "$driver" -lt 580 ] && cuda=12
  for package in "cupy-cuda${cuda}x[ctk]>=14" "PyNvVideoCodec>=2.1,<3" \
    "nvidia-dali-cuda${cuda}0>=2,<3" "tensorrt-cu$cuda>=10.13" "tensorrt-rtx-cu$cuda>=1.4,<2"; do
    echo "installing $package" >&2
    install "$package" 2>/dev/null || missing+=(--not-installed "${package%%[>=]*}")
  done
fi

spent=$(($(date +%s) - started))
exec "$python" benchmarks/gpu_host.py --spent-seconds "$spent" ${missing[@]+"${missing[@]}"} ${pass[@]+"${pass[@]}"}
