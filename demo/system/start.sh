#!@shell@
# init runs this first. It prints the state of the machine, and obeys the kernel line:
#
#   demo.verify      let Nix verify the whole store
#   demo.poweroff    power off at the end
export PATH=/run/current-system/sw/bin HOME=/root

say() {
  echo "netimage-demo: $*"
}

has() { # has WORD: whether the kernel line has WORD
  case " $(cat /proc/cmdline) " in *" $1 "*) true ;; *) false ;; esac
}

mount -a -t tmpfs
lease_hostname=
[ ! -e /run/lease ] || . /run/lease
hostname "${lease_hostname:-$(cat /etc/hostname)}"

say "host $(hostname)"
say "kernel $(uname -srm)"
say "system $(readlink /run/current-system)"
say "mount $(grep ' / nfs' /proc/mounts)"
say 'up'

if has demo.verify; then
  if nix-store --verify --check-contents; then
    say "verified $(nix-store --query --requisites /run/current-system | wc -l) paths"
  else
    say 'verification failed'
  fi
fi

if has demo.poweroff; then
  say 'power off'
  sync
  poweroff -f
fi
