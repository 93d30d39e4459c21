# Uses a file system as programs do, and prints the results. Run in empty directories of two file
# systems, it must print the same. It prints no inode numbers, times or sizes of directories.
umask 022
# Commands must not wait for an answer.
exec </dev/null

step=0
# Runs a command, and prints its output and its status.
t() {
  step=$((step + 1))
  "$@" >/tmp/out 2>&1
  echo "$step: $*: $?"
  cat /tmp/out
}
# Does the same as another user.
as() {
  user=$1
  shift
  t su "$user" -c "umask 022; $*"
}
show() { for file; do stat -c '%n %A %u:%g %h %F' "$file"; done; }
size() { stat -c '%n %s' "$@"; }
# Prints whether the time has changed.
later() { [ "$(stat -c "$1" "$2")" != "$3" ] && echo changed || echo same; }

t mkdir a a/b
t mkdir a
t rmdir a
t touch a/file a/b/file
t ls -a a
t mv a/file a/b
t mv -T a/b a/file
t mkdir a/c
t mv -T a/c a/file
t rm -r a/file
t ls -A a
show a

# Links.
echo content >one
t ln one two
show one two
t ln one two
echo more >>two
t cat one
t rm one
show two
t ln a hard
t ln -s two symbolic
t readlink symbolic
t cat symbolic
t ln -s nowhere dangling
t cat dangling
t ln -s loop loop
t cat loop
show symbolic dangling

# Replacing files, also while they are open.
echo old >open
exec 3<open
echo new >other
t mv other open
read -r line <&3
echo "$line"
exec 3<&-
t cat open
exec 3>gone
t rm gone
echo still >&3
exec 3>&-
t ls -A

# Sizes and holes.
t truncate -s 100000 sparse
size sparse
printf end | t dd of=sparse bs=1 seek=50000 conv=notrunc
t md5sum sparse
t truncate -s 50001 sparse
t truncate -s 60000 sparse
t md5sum sparse
size sparse
t dd if=/dev/zero of=large bs=65536 count=40
t md5sum large
size large
: >large
size large
for i in 1 2 3 4 5 6 7 8 9; do echo "line $i" >>appended; done
t cat appended

# Names.
long=$(printf '%0255d' 0)
t touch "$long"
t ls "$long"
t touch "0$long"
t touch "$(printf 'latin\351')"
t touch ' leading' 'back\slash' '*' "$(printf 'new\nline')"
t ls -A
t rm "$long" "$(printf 'latin\351')" ' leading' 'back\slash' '*' "$(printf 'new\nline')"

# Modes and owners.
t chmod 4755 two
show two
t chown 1001:1002 two
show two
t chmod 6755 two
show two
echo written >>two
show two
as one 'echo written >>two'
show two
t chmod 0640 two
as one cat two
as two cat two
as two 'echo no >two'
t chown 0:1003 two
as two cat two
as one cat two
as one chmod 777 two
as one chown one two
t chmod 2777 .
show .
as one touch ones
as one mkdir onesdir
show ones onesdir
t chgrp 1003 .
as one touch grouped
as two mkdir groupeddir
show grouped groupeddir
as one chmod 2755 grouped
show grouped
t chmod 1777 .
as two rm ones
as two mv ones twos
as one mv ones ones2
as one rm ones2
t chmod 755 .
as one touch forbidden
as one rm grouped
t mkdir closed
t chmod 700 closed
t touch closed/file
as one ls closed
as one cat closed/file
t chmod 711 closed
as one ls closed
as one cat closed/file
as one 'echo x >closed/file'
t chmod 000 closed/file
as one cat closed/file
t cat closed/file

# A program without the read permission.
cp /bin/busybox ./program
t chmod 711 program
as one ./program echo ran
t chmod 600 program
as one ./program echo ran
t ./program echo ran

# Special files.
t mkfifo fifo
t mknod null c 1 3
t mknod disk b 7 300
show fifo null disk
stat -c '%n %t %T' null disk
as two mknod groupeddir/mine c 1 3
echo through >fifo &
t cat fifo
wait
echo nothing >null
t cat null

# Times.
t touch -d '2001-02-03 04:05:06' timed
stat -c '%X %Y' timed
t touch -d '1969-12-31 23:59:00' before
before=$(stat -c %Z timed)
sleep 1
t chmod 600 timed
later %Z timed "$before"
stat -c '%X %Y' timed
modified=$(stat -c %Y a)
sleep 1
touch a/new
later %Y a "$modified"
t chmod 666 timed
as one touch timed
as one 'echo of another >timed'
show timed
t cat timed
as one 'truncate -s 5 timed'
size timed
as one "touch -d '2001-02-03 04:05:06' timed"

# Many files.
mkdir many
i=0
while [ $i -lt 500 ]; do : >many/file-with-a-longer-name-$i; i=$((i + 1)); done
t sh -c 'ls many | wc -l'
t sh -c 'ls -l many | tail -n +2 | wc -l'
t sh -c 'ls -f many | sort | uniq | wc -l'
t sh -c 'rm many/*7; ls many | wc -l'
t rm -r many

# An archive.
mkdir source
i=0
while [ $i -lt 14 ]; do
  mkdir -p source/$((i % 7))/sub
  dd if=/dev/urandom of=source/$((i % 7))/sub/file$i bs=$((i * 997 + 1)) count=1 2>/dev/null
  ln -s sub/file$i source/$((i % 7))/link$i
  i=$((i + 1))
done
chown -R 1001:1003 source/3
chmod 4711 source/4/sub/file4
t tar -cf archive.tar source
mkdir unpacked
t tar -xf archive.tar -C unpacked
t diff -r source unpacked/source
(cd unpacked && find source | sort | while read -r name; do stat -c '%n %A %u:%g %h' "$name"; done)
t rm -r source unpacked archive.tar
exit 0
