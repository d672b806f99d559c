#!/bin/bash
# Converts several checkpoints in one go, for a CI job:
#
#   convert.sh OUT MODEL...          (PHIQ names the program; FORMAT is one of `phiq formats`, TYPE one
#                                     of its types, OPTIONS more options of quantize)
#
# A checkpoint that fails does not stop the others. An output is left alone when it was made by the
# same phiq with the same options and is newer than every file of its checkpoint; that of a name in the
# hub cache, whose files are not looked at, is made again each time. Exit code: 0 all done; 2 wrong
# command line, two checkpoints of the same name among it; 10 some failed; the first failure's own
# code when all failed.
set -u
phiq=${PHIQ:-phiq} format=${FORMAT:-gguf} options=${OPTIONS:-}
if (($# < 2)); then
  echo "usage: convert.sh OUT MODEL..." >&2
  exit 2
fi
out=$1
shift
# Its type, and what its files are called; "/": it makes folders.
read -r default_type ending < <("$phiq" formats | awk -v name="$format" '$1 == name { print $2, $3 }') || {
  echo "convert.sh: FORMAT=$format: \`phiq formats\` lists those that are known" >&2
  exit 2
}
type=${TYPE:-$default_type}
suffix=-$type$ending
[[ $ending != / ]] || suffix=-$format-$type
declare -A model_of
for model in "$@"; do
  name=$(basename "$model")
  if [[ ${model_of[$name]:-$model} != "$model" ]]; then
    echo "convert.sh: ${model_of[$name]} and $model: both make $out/$name$suffix" >&2
    exit 2
  fi
  model_of[$name]=$model
done
mkdir -p "$out" || exit 5
settings="$("$phiq" --version) $options" || exit 2

n_done=0 first_failure=0
for model in "$@"; do
  name=$(basename "$model")$suffix
  target=$out/$name
  made=$out/.made-$name # written last: the output is whole, and of these settings
  if [[ -e $model && -e $target && -e $made && $(<"$made") == "$settings" &&
    -z $(find -L "$model" -type f -newer "$made") ]]; then
    echo "$model: up to date"
    ((n_done += 1))
    continue
  fi
  started=$(mktemp) # what changes while phiq reads is newer than this
  # shellcheck disable=SC2086  # OPTIONS are several words
  "$phiq" quantize "$model" --format "$format" --type "$type" -o "$target" --force --quiet $options
  code=$?
  if ((code == 0)); then
    printf '%s\n' "$settings" > "$made" && touch -r "$started" "$made"
    echo "$model: done"
    ((n_done += 1))
  elif ((code <= 128)); then
    echo "$model: FAILED with exit code $code"
    ((first_failure != 0)) || first_failure=$code
  fi
  rm -f "$started"
  if ((code > 128)); then exit "$code"; fi # died of a signal: somebody wants us to stop
done

((first_failure == 0)) && exit 0
((n_done > 0)) && exit 10
exit "$first_failure"
