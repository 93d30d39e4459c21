# Types lines into an interactive shell on a terminal of its own, with TAB at the end of each, and
# prints what the shell made of each line.
#
#   zsh press-tab.zsh SETUP LINE… -- SHELL…
#
# SETUP: a command for the shell, after which Control-T prints the line between brackets and empties it.
emulate -R zsh
zmodload zsh/zpty
setup=$1
shift
lines=()
while [[ $1 != -- ]]; do lines+=("$1"); shift; done
shift
zpty shell "$@"
zpty -w shell "$setup; echo rea''dy"
zpty -r shell output '*ready*'
for line in "${lines[@]}"; do
  zpty -w -n shell "$line"$'\t\C-t'
  zpty -r shell output '*\[*\]*'
  print -r -- "${${output%\]*}##*\[}"
done
zpty -d shell
