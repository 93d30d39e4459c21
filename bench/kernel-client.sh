#!/bin/bash
# What bench/serve-nfs-kernel.ts runs in its machine: common work on mounted roots, and what it costs.
#
#   kernel-client.sh ROUNDS TREE <MOUNTS
#
# A line of MOUNTS is `<name>|<device>|<mount options>|<KiB to read ahead, or nothing>`. TREE is the
# tree that the servers serve, as a directory of this machine. Prints for each work
#
#   begin <number>
#   end <number>|<name>|<work>|<microseconds>|<call>=<count> … received=<bytes>
set -eu -o pipefail
rounds=$1 tree=$2
there=/mnt/there
number=0
mount -t sysfs sysfs /sys
git config --global safe.directory '*'
tar cf /mnt/files.tar -C "$tree/files" --exclude .git .
mapfile -t mounts
loader=/lib64/ld-linux-x86-64.so.2

attach() {
  busybox mount -t nfs -o "$options" "$device" $there
  if [ -n "$ahead" ]; then echo "$ahead" >"/sys/class/bdi/$(mountpoint -d $there)/read_ahead_kb"; fi
}

# Nothing is in the client's memory after this.
again() {
  cd /
  umount $there
  echo 3 >/proc/sys/vm/drop_caches
  attach
  cd $there
}

calls() {
  awk -v there=$there '
    $1 == "device" { isOurs = $5 == there }
    isOurs && $1 ~ /^[A-Z]+:$/ && NF > 8 {
      print substr($1, 1, length($1) - 1), $2
      received += $6
    }
    END { print "received", received }
  ' /proc/self/mountstats
}

difference() {
  awk 'NR == FNR { before[$1] = $2; next } $2 > before[$1] { printf "%s=%d ", $1, $2 - before[$1] }' \
    /mnt/before -
}

# $1: the name of the work. The others: the command.
work() {
  local name=$1 start end
  shift
  number=$((number + 1))
  echo "begin $number"
  calls >/mnt/before
  start=${EPOCHREALTIME/[.,]/}
  "$@" >/dev/null
  end=${EPOCHREALTIME/[.,]/}
  echo "end $number|$contender|$name|$((end - start))|$(calls | difference)"
}

start_programs() {
  local program
  for program in bin/*; do $loader --library-path lib "$program" --version; done
}

read_in_turn() {
  local name
  for name in "$@"; do cat "$name"; done
}

pack() { tar cf - "$1" | cat; }

insert() {
  {
    echo 'CREATE TABLE rows (number);'
    for ((row = 0; row < 50; row++)); do echo "INSERT INTO rows VALUES ($row);"; done
  } | sqlite3 work/database
}

unpack() {
  mkdir work/files
  tar xf /mnt/files.tar -C work/files
}

for ((round = 0; round <= rounds; round++)); do
  for mount in "${mounts[@]}"; do
    IFS='|' read -r contender device options ahead <<<"$mount"
    attach
    cd $there
    if [ $round = 0 ]; then
      # The index of git gets the numbers that this server gives the files.
      git -C files status >/dev/null
    else
      again
      work 'find, nothing cached' find store -printf '%s %p\n'
      work 'find again' find store -printf '%s %p\n'
      again
      work 'programs start' start_programs
      again
      work 'read 64 MiB' read_in_turn large
      again
      work 'tar out' pack files
      again
      work 'git status, nothing cached' git -C files status
      work 'git status again' git -C files status
      work 'tar in' unpack
      work 'sqlite3, 51 transactions' insert
      work 'rm -r' rm -r work/files
      rm work/database
    fi
    cd /
    umount $there
  done
done
