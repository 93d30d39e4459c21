#!@shell@
# The one command of systemctl that the module's scripts run: it lists the units that have failed.
[ ! -e /run/failed-units ] || sed 's/$/ loaded failed failed/' /run/failed-units
