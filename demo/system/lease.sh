#!/bin/sh
# udhcpc runs this script. It sets the address and the route, and writes the lease to /run/lease.
[ "$1" = bound ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/${mask:-24}" broadcast + dev "$interface"
for gateway in $router; do
  ip route add default via "$gateway" dev "$interface"
  break
done
for name in interface ip siaddr serverid rootpath hostname; do
  eval "value=\$$name"
  printf "lease_%s='%s'\n" $name "$(printf %s "$value" | tr -d "'")"
done >/run/lease
