#!@shell@
# Nothing of the demo system is kept outside of its root, so switching to it is activating it.
case ${1:-} in
  switch | test) exec @systemConfig@/activate ;;
  boot) echo 'This system is booted from the network: its boot files are not on this machine.' ;;
  dry-activate) echo 'would activate @systemConfig@' ;;
  *)
    echo "usage: $0 switch|boot|test|dry-activate" >&2
    exit 1
    ;;
esac
