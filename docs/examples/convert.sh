#!/bin/bash
# Converts several checkpoints in one go, for a CI job:
#
#   convert.sh OUT MODEL...          (PHIQ names the program, FORMAT gguf or onnx, TYPE the type)
#
# A checkpoint that fails does not stop the others. An output that is newer than every file of its
# checkpoint is left alone. Exit code: 0 all done; 10 some failed; the first failure's own code when
# all failed.
set -u
phiq=${PHIQ:-phiq} format=${FORMAT:-gguf}
if [[ $format == onnx ]]; then
  type=${TYPE:-int4} suffix=-onnx-$type stamp=/model.onnx  # a folder; its files get their names at once
else
  type=${TYPE:-Q4_K_M} suffix=-${TYPE:-Q4_K_M}.gguf stamp=
fi
if (($# < 2)); then
  echo "usage: convert.sh OUT MODEL..." >&2
  exit 2
fi
out=$1
shift
mkdir -p "$out" || exit 5

n_done=0 first_failure=0
for model in "$@"; do
  target=$out/$(basename "$model")$suffix
  if [[ -e $target$stamp && -z $(find -L "$model" -type f -newer "$target$stamp") ]]; then
    echo "$model: up to date"
    ((n_done += 1))
    continue
  fi
  "$phiq" quantize "$model" --format "$format" --type "$type" -o "$target" --force --quiet
  code=$?
  if ((code > 128)); then exit "$code"; fi  # died of a signal: somebody wants us to stop
  if ((code != 0)); then
    echo "$model: FAILED with exit code $code"
    ((first_failure != 0)) || first_failure=$code
  else
    echo "$model: done"
    ((n_done += 1))
  fi
done

((first_failure == 0)) && exit 0
((n_done > 0)) && exit 10
exit "$first_failure"
