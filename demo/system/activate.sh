#!@shell@
# Activates this configuration on the running system.
systemConfig=@systemConfig@
PATH=$systemConfig/sw/bin

link() { # link TARGET NAME: replaces NAME atomically
  [ "$(readlink "$2")" != "$1" ] || return 0
  ln -sfn "$1" "$2.tmp"
  mv -fT "$2.tmp" "$2"
}

for directory in /bin /usr/bin /etc /root /var/empty; do
  [ -d $directory ] || mkdir -p -m 0755 $directory
done
for directory in /tmp /var/tmp; do
  [ -d $directory ] || mkdir -p -m 1777 $directory
done
link $systemConfig/sw/bin/sh /bin/sh
link $systemConfig/sw/bin/env /usr/bin/env

link @etc@/etc /etc/static
for file in $(cd /etc/static && find . ! -type d | sed 's,^\./,,'); do
  case $file in
    # These change while the system runs.
    passwd | group)
      [ -e "/etc/$file" ] || cp "/etc/static/$file" "/etc/$file"
      chmod 644 "/etc/$file"
      ;;
    *)
      mkdir -p "/etc/$(dirname "$file")"
      link "/etc/static/$file" "/etc/$file"
      ;;
  esac
done

link $systemConfig /run/current-system
