#!@shell@
# init runs this first. It prints the state of the machine, and obeys the kernel line:
#
#   demo.verify      let Nix verify the whole store
#   demo.fail-check  fail in the unit that checks the boot
#   demo.poweroff    power off at the end
export PATH=/run/current-system/sw/bin HOME=/root

say() {
  echo "netimage-demo: $*"
}

has() { # has WORD: whether the kernel line has WORD
  case " $(cat /proc/cmdline) " in *" $1 "*) true ;; *) false ;; esac
}

runUnit() { # runUnit NAME: runs a oneshot unit as systemd does
  unit=/etc/systemd/system/$1
  $(sed -n 's/^ExecStart=//p' $unit)
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

# The unit that notes a good boot requires boot-complete.target, which requires demo-check.service.
if ! has demo.fail-check; then
  runUnit netimage-bless.service && say 'blessed'
else
  echo demo-check.service >/run/failed-units
  runUnit "$(sed -n 's/^OnFailure=//p' /etc/systemd/system/netimage-bless.service)" && say 'not good'
fi

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
