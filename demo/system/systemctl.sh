#!@shell@
# The commands of systemctl that the module's scripts run. One restarts the machine: a test does this when it
# sees the mark. The other lists the units that have failed.
case " $* " in *" reboot "*)
  : >/run/wants-restart
  exit
  ;;
esac
[ ! -e /run/failed-units ] || sed 's/$/ loaded failed failed/' /run/failed-units
