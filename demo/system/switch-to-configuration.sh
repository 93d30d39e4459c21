#!@shell@
# The demo system has no files outside of its root, so to switch means only to activate.
case ${1:-} in
  switch | test) exec @systemConfig@/activate ;;
  boot) echo 'This system boots from the network: its boot files are not on this machine.' ;;
  dry-activate) echo 'would activate @systemConfig@' ;;
  *)
    echo "usage: $0 switch|boot|test|dry-activate" >&2
    exit 1
    ;;
esac
