#!@shell@
# Activates the configuration, or lets the machine boot it next, as in NixOS.
case ${1:-} in
  switch) @installBootLoader@ @systemConfig@ && exec @systemConfig@/activate ;;
  boot) exec @installBootLoader@ @systemConfig@ ;;
  test) exec @systemConfig@/activate ;;
  dry-activate) echo 'would activate @systemConfig@' ;;
  *)
    echo "usage: $0 switch|boot|test|dry-activate" >&2
    exit 1
    ;;
esac
