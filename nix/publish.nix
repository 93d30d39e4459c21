# The boot loader of a machine that boots over the network: NixOS calls it for `nixos-rebuild boot`
# and `switch`. It asks the server to boot the new system next, by a file in the machine's own root.
# src/site/publish/request.ts has the other side.
{ pkgs }:

pkgs.writeShellScript "publish-system" ''
  set -euo pipefail
  export LC_ALL=C PATH=${pkgs.coreutils}/bin
  directory=/nix/var/netimage/publish
  request=$directory/request
  answer=$directory/answer
  # Systems that only this machine has must stay in its store as long as it may boot them again.
  roots=/nix/var/nix/gcroots/netimage
  asked=$roots/asked
  # How often the answer is looked at, five times in a second. Not a time: while the server starts again,
  # each look at the answer waits for it.
  first=75 last=1500

  toplevel=$(readlink -e "$1")
  if ! mkdir -p $directory || ! test -w $directory; then
    echo "netimage: the machine cannot write to $directory, so it boots next what it booted before." >&2
    exit 0
  fi
  chmod 700 $directory

  ask() {
    # The server reads the system as soon as it sees the request.
    sync --file-system /nix/store &&
      # From now on the machine may boot the system, also if no answer is seen.
      mkdir -p $roots && ln -sfn "$toplevel" $asked &&
      # The file must be there before the server writes to it: NFS may remember for some time that a
      # file is missing. It has its full size and is never cut, so the server can write an answer
      # also if the machine has no room left.
      printf '%4096s' "" 1<> $answer && sync $answer &&
      printf '{ "version": 1, "id": "%s", "toplevel": "%s" }\n' "$id" "$toplevel" > $request.new &&
      sync $request.new && mv $request.new $request
  }
  id=$EPOCHSECONDS-$$-$RANDOM$RANDOM
  if ! ask; then
    rm -f $asked
    echo "netimage: the machine could not ask the server, so it boots next what it booted before. If it has no room left, run nix-collect-garbage. Then run nixos-rebuild again." >&2
    exit 1
  fi

  # Reads the answer into `status`, `keep` and `says`. The file is opened again each time: NFS then
  # asks the server if it has changed.
  read_answer() {
    status= keep=() says=()
    local word text is_ours=
    while read -r word text; do
      case $word in
        id) if [ "$text" = "$id" ]; then is_ours=yes; fi ;;
        status) status=$text ;;
        keep) keep+=("$text") ;;
        say) says+=("$text") ;;
      esac
    done < $answer
    if [ -z "$is_ours" ]; then status=; fi
  }

  # $1: how often. $2: the status that is not enough.
  wait_for_answer() {
    local looks
    read_answer
    for ((looks = 1; looks < $1; looks++)); do
      if [ "$status" != "$2" ]; then break; fi
      sleep 0.2
      read_answer
    done
  }

  wait_for_answer "$first" ""
  if [ -z "$status" ]; then
    # Otherwise a server that sees the request later makes the system a generation all the same. If a
    # server has just seen the request, it has answered before the request is removed.
    rm -f $request
    read_answer
  fi
  if [ "$status" = working ]; then wait_for_answer "$last" working; fi
  case $status in
    published)
      for system in "''${keep[@]}"; do ln -sfn "$system" "$roots/''${system##*/}"; done
      rm -f $asked
      for root in $roots/*; do
        case " ''${keep[*]} " in
          *" $(readlink "$root") "*) ;;
          *) rm -f "$root" ;;
        esac
      done
      printf 'netimage: %s\n' "''${says[@]}"
      ;;
    refused)
      rm -f $asked
      printf 'netimage: %s\n' "''${says[@]}" >&2
      exit 1
      ;;
    working)
      echo "netimage: the server has not finished the boot files of $toplevel after $((last / 5)) seconds. Its log may say why. Run nixos-rebuild again." >&2
      exit 1
      ;;
    *)
      echo "netimage: no server of netimage answered within $((first / 5)) seconds, so the machine boots next what it booted before. If another NFS server serves this root, the machine keeps its old kernel until you build a new image." >&2
      ;;
  esac
''
