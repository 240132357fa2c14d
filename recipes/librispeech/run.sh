#!/usr/bin/env bash
# The whole recipe, stage by stage; each is safe to repeat and continues where it was interrupted.
#   ./run.sh                                            synthesised corpus, less than eight minutes
#   ./run.sh --data DIR --config conf/mini.yaml         real speech in LibriSpeech's layout
#   ./run.sh --download DIR --config conf/train-clean-100.yaml     the configuration's subsets are fetched into DIR
#   ./run.sh --stage 2 --stop-stage 3                   0 data, 1 tokens, 2 train, 3 evaluate, 4 report
#   ./run.sh --stage 3 decode.lm=3-gram.arpa.gz         any language model, tuned on dev
#   ./run.sh --minutes 20 model.hidden=320              a budget of training time; any setting as key=value
set -euo pipefail
unset CDPATH  # with it, cd would print where it goes

usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
absolute() { # a path from where the user stands, or else from the recipe's folder
    if [ -e "$1" ]; then echo "$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
    elif [ -e "$here/$1" ]; then echo "$here/$1"
    else echo "run.sh: $2 must exist, got $1" >&2; return 1; fi
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export RECIPE_COMMAND="./run.sh${*:+ $*}"
stage=0 stop_stage=4 data="" download="" config="" minutes="" overrides=()
while [ $# -gt 0 ]; do
    case $1 in
        --stage | --stop-stage | --data | --download | --config | --minutes)
            [ $# -ge 2 ] || { echo "run.sh: $1 needs a value" >&2; exit 2; }
            name=${1#--}; printf -v "${name/-/_}" '%s' "$2"; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        data.root=?* | data.noise=?* | decode.lm=?* | decode.vocabulary=?*)
            path=$(absolute "${1#*=}" "${1%%=*}"); overrides+=("${1%%=*}=$path"); shift ;;
        *=*) overrides+=("$1"); shift ;;
        *) echo "run.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
    esac
done
if [ -n "$download" ]; then
    if [ -n "$data" ] || [ -z "$config" ]; then
        echo "run.sh: --download needs a --config that names the subsets, and no --data" >&2; exit 2
    fi
    mkdir -p "$download"
    download=$(absolute "$download" --download)
    overrides+=("data.root=$download/LibriSpeech")
fi
if [ -z "$config" ]; then
    config=$here/conf/demo.yaml
    if [ -n "$data" ]; then config=$here/conf/mini.yaml; fi
fi
config=$(absolute "$config" --config)
if [ -n "$data" ]; then data=$(absolute "$data" --data); overrides+=("data.root=$data"); fi
if [ -n "$minutes" ]; then overrides+=("train.minutes=$minutes"); fi

python=${PYTHON:-python}
run() { "$python" "$here/$1" --config "$config" "${@:2}" ${overrides[@]+"${overrides[@]}"}; }
wanted() { [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ]; }

if wanted 0; then
    echo "== stage 0: data"
    if [ -n "$download" ]; then run download.py --out "$download"; fi
    if [ -z "$data$download" ] && [ "$(basename "$config")" = demo.yaml ]; then "$python" "$here/synthesise.py"; fi
    run prepare.py
fi
if wanted 1; then echo "== stage 1: tokens"; run vocabulary.py; run normalisation.py; fi
if wanted 2; then echo "== stage 2: train"; run train.py; fi
if wanted 3; then echo "== stage 3: evaluate"; run evaluate.py; fi
if wanted 4; then echo "== stage 4: report"; run report.py; fi
