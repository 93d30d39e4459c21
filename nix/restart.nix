# Lets a machine restart itself when a roll-out of its site wants that. Every two minutes it says, by a
# file in its own root, whether its time windows let it restart now, and the server answers whether it
# may. src/site/rollout/readiness-files.ts has the other side.
{ lib, pkgs, systemd }:

# Time windows, as `option` describes them.
windows:

let
  script = pkgs.writeShellScript "restart-when-asked" ''
    set -euo pipefail
    export LC_ALL=C PATH=${lib.makeBinPath [ pkgs.coreutils systemd ]}
    directory=/nix/var/netimage/restart
    ready=$directory/ready
    answer=$directory/answer
    # What the machine said last since it has started, and when: seconds since its start.
    said=/run/netimage-restart-said
    read -r now _ < /proc/uptime
    now=''${now%.*}
    # How often the answer is looked at, twice in a second.
    looks=24
    windows=(${lib.concatStringsSep " " (map (window: "'${window}'") windows)})

    # $1: Mon. Monday is 1.
    day_number() {
      case $1 in
        Mon) number=1 ;; Tue) number=2 ;; Wed) number=3 ;; Thu) number=4 ;;
        Fri) number=5 ;; Sat) number=6 ;; *) number=7 ;;
      esac
    }

    # $1: Mon..Wed,Sat. Sets `days` to 1236.
    days_of() {
      days=
      local part parts number first
      IFS=, read -ra parts <<< "$1"
      for part in "''${parts[@]}"; do
        day_number "''${part%%..*}"
        first=$number
        day_number "''${part##*..}"
        days+=$first
        while ((first != number)); do
          first=$((first % 7 + 1))
          days+=$first
        done
      done
    }

    # $1: 02:30. Sets `minutes`.
    minutes_of() {
      minutes=$((10#''${1%:*} * 60 + 10#''${1#*:}))
    }

    # $1: the day, from 1. $2: the minute of this day.
    is_in_window() {
      local window days minutes from yesterday=$((($1 + 5) % 7 + 1))
      if ((''${#windows[@]} == 0)); then return 0; fi
      for window in "''${windows[@]}"; do
        days=1234567
        if [[ $window == *" "* ]]; then days_of "''${window% *}"; fi
        window=''${window##* }
        minutes_of "''${window%-*}"
        from=$minutes
        minutes_of "''${window#*-}"
        # A window that ends before it begins lasts until the next day.
        if ((from < minutes)); then
          if [[ $days == *$1* ]] && (($2 >= from && $2 < minutes)); then return 0; fi
        else
          if [[ $days == *$1* ]] && (($2 >= from)); then return 0; fi
          if [[ $days == *$yesterday* ]] && (($2 < minutes)); then return 0; fi
        fi
      done
      return 1
    }

    # A board without a clock of its own has an old time until a time server answers.
    is_clock_set() {
      if ((''${#windows[@]} == 0)); then return 0; fi
      if [ "$(timedatectl show --property NTP --value 2> /dev/null)" != yes ]; then return 0; fi
      [ "$(timedatectl show --property NTPSynchronized --value 2> /dev/null)" = yes ]
    }

    # $1: true or false.
    say() {
      mkdir -p $directory
      chmod 700 $directory
      # The server writes into this file. NFS may remember for some time that a file is missing.
      printf '%256s' "" 1<> $answer
      printf '{ "version": 1, "id": "%s", "ready": %s }\n' "$id" "$1" > $ready.new
      sync $answer $ready.new
      mv $ready.new $ready
      echo "$1 $now" > $said
    }

    # Reads the answer into `status`. NFS may remember what the machine wrote into the file, also if the file is
    # opened again (`nocto`, `actimeo`). A direct read asks the server.
    read_answer() {
      status=
      local word text is_ours= said_there
      said_there=$(dd if=$answer iflag=direct bs=4096 count=1 status=none 2> /dev/null || cat $answer)
      while read -r word text; do
        case $word in
          id) if [ "$text" = "$id" ]; then is_ours=yes; fi ;;
          status) status=$text ;;
        esac
      done <<< "$said_there"
      if [ -z "$is_ours" ]; then status=; fi
    }

    if ! test -w /nix/var; then exit 0; fi
    id=$EPOCHSECONDS-$$-$RANDOM$RANDOM
    read -r day hour minute <<< "$(date '+%u %H %M')"
    if ! is_clock_set || ! is_in_window "$day" $((10#$hour * 60 + 10#$minute)); then
      # The server knows it already, unless it was killed before it could write it down.
      if [ -e $said ]; then
        read -r word at < $said
        if [ "$word" = false ] && ((now - at < 3600)); then exit 0; fi
      fi
      say false
      exit 0
    fi
    say true
    for ((look = 0; look < looks; look++)); do
      read_answer
      case $status in
        restart)
          echo "netimage: the site wants this machine to restart, and it may now"
          systemctl --no-block reboot
          exit 0
          ;;
        wait) exit 0 ;;
      esac
      sleep 0.5
    done
  '';
in
{
  service = {
    description = "Restart when the site wants it";
    restartIfChanged = false;
    serviceConfig = {
      Type = "oneshot";
      ExecStart = script;
    };
  };

  timer = {
    description = "Ask the site whether to restart";
    wantedBy = [ "timers.target" ];
    timerConfig = {
      OnBootSec = "1min";
      OnUnitInactiveSec = "2min";
      RandomizedDelaySec = "30s";
      AccuracySec = "10s";
    };
  };
}
