#!/usr/bin/env bash
# The whole recipe, stage by stage; each is safe to repeat and continues where it was interrupted.
#   ./run.sh                                     digits, then printed lines: eight minutes
#   ./run.sh --data DIR                          your own lines: images and labels.tsv (file, tab, text)
#   ./run.sh --config conf/printed.yaml --peer   one configuration; --peer: with PyTorch's loss as well
#   ./run.sh --stage 2 --stop-stage 3            0 data, 1 train, 2 evaluate, 3 report
#   ./run.sh --minutes 20 model.hidden=256       a budget of training time for each model; any setting as key=value
set -euo pipefail
unset CDPATH  # with it, cd would print where it goes

usage() { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
absolute() { # a path from where the user stands, or else from the recipe's folder
    if [ -e "$1" ]; then echo "$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
    elif [ -e "$here/$1" ]; then echo "$here/$1"
    else echo "run.sh: $2 must exist, got $1" >&2; return 1; fi
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export RECIPE_COMMAND="./run.sh${*:+ $*}"
stage=0 stop_stage=3 data="" config="" minutes="" peer="" named="" overrides=()
while [ $# -gt 0 ]; do
    case $1 in
        --stage | --stop-stage | --data | --config | --minutes)
            [ $# -ge 2 ] || { echo "run.sh: $1 needs a value" >&2; exit 2; }
            name=${1#--}; printf -v "${name/-/_}" '%s' "$2"; shift 2 ;;
        --peer) peer=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        name=*) named=yes; overrides+=("$1"); shift ;;
        data.root=?* | decode.lm=?* | decode.vocabulary=?*)
            path=$(absolute "${1#*=}" "${1%%=*}"); overrides+=("${1%%=*}=$path"); shift ;;
        *=*) overrides+=("$1"); shift ;;
        *) echo "run.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
    esac
done
if [ -n "$data" ]; then
    data=$(absolute "$data" --data); overrides+=("data.root=$data")
    config=${config:-conf/folder.yaml}
fi
if [ -n "$named" ] && [ -z "$config" ]; then echo "run.sh: name= needs a --config: one name is for one run" >&2; exit 2; fi
if [ -n "$minutes" ]; then overrides+=("train.minutes=$minutes" "train.epochs=0"); fi
if [ -n "$config" ]; then config=$(absolute "$config" --config); fi

python=${PYTHON:-python}
wanted() { [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ]; }
ocr() { # a stage of a configuration, and how else
    if wanted "$1"; then
        echo "== stage $1: $2, $(basename "$3" .yaml)${4:+ $4}"
        "$python" "$here/ocr.py" "$2" --config "$3" ${overrides[@]+"${overrides[@]}"} "${@:4}"
    fi
}
all() { # every stage of a configuration; the peer's results are part of its report
    if [ -n "$peer" ]; then ocr 0 data "$1" --peer; ocr 1 train "$1" --peer; ocr 2 evaluate "$1" --peer; fi
    ocr 0 data "$1"; ocr 1 train "$1"; ocr 2 evaluate "$1"; ocr 3 report "$1"
}

if [ -n "$config" ]; then all "$config"
else all "$here/conf/digits.yaml"; all "$here/conf/printed.yaml"; fi
