# The parameters of the kernel line with which a machine starts again by itself: if stage 1 finds no
# root, if the kernel panics, or if systemd crashes. The argument is the number of seconds until then.
seconds: [
  "boot.panic_on_fail"
  "panic=${toString seconds}"
  "systemd.crash_reboot"
]
