// Simulates other machines with mount namespaces: machines with their own Nix store, with full
// disks, or with read-only file systems.

import { mkdirSync } from 'node:fs'
import { repository } from './netimage.ts'

/** Root can mount. Other users can mount in a user namespace, if the machine allows that. */
function unshare(...more: string[]): string[] {
  const user = process.geteuid?.() === 0 ? [] : ['--user', '--map-root-user']
  return ['unshare', ...user, '--mount', ...more]
}

/** A command prefix: runs `script` and then the program in a new mount namespace. */
export function mounted(script: string, ...args: string[]): string[] {
  const run = `set -eu\n${script}\nshift ${args.length}\nexec "$@"`
  return [...unshare(), 'sh', '-c', run, 'sh', ...args]
}

/** Mounts a directory read-only onto itself. */
export function readOnly(directory: string): string[] {
  return mounted('mount --bind -o ro "$1" "$1"', directory)
}

/**
 * A machine with Nix and without a network: its `/nix` is the one below the root of a store.
 *
 * @param emptyDirectory the mount point for the root of that machine
 */
export function machineWithNix(storeRoot: string, emptyDirectory: string): string[] {
  mkdirSync(emptyDirectory, { recursive: true })
  const script = `
    set -eu
    root=$1
    store=$2
    shift 2
    here=$PWD
    mount -t tmpfs machine "$root"
    for path in /*; do
      name=\${path#/}
      if [ "$name" = nix ]; then :
      elif [ -L "$path" ]; then cp -P "$path" "$root/$name"
      elif [ -d "$path" ]; then mkdir "$root/$name"; mount --rbind "$path" "$root/$name"
      fi
    done
    mkdir "$root/nix"
    mount --bind "$store/nix" "$root/nix"
    exec unshare --root="$root" --wd="$here" "$@"
  `
  return [...unshare('--net'), 'sh', '-c', script, 'sh', emptyDirectory, storeRoot]
}

/** A user that is not root and has none of root's rights. */
export const ordinaryUser = { uid: 54_321, gid: 54_322 }

/**
 * Runs as an ordinary user. Such a user cannot read a checkout in somebody's home, so the checkout
 * is mounted at another place. Name the program by its path there.
 */
export function asOrdinaryUser(place: string): string[] {
  if (process.geteuid?.() !== 0) return []
  const { uid, gid } = ordinaryUser
  const ids = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups']
  mkdirSync(place, { recursive: true })
  return [
    ...mounted('mount --bind "$1" "$2"', repository, place),
    ...['setpriv', ...ids, '--inh-caps=-all', '--no-new-privs', '--'],
  ]
}
