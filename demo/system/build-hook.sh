#!@shell@
# Nix asks this program whether another machine can build. Debian's program for this is not in the
# system.
echo '# decline-permanently' >&2
