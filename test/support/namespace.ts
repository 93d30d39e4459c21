// Other machines than this one, as far as a mount namespace can make them: with a Nix store of
// their own, with disks that are full, with file systems that may only be read.

import { mkdirSync } from 'node:fs'
import { repository } from './netimage.ts'

/** Root can mount; anybody else can as root of a user namespace, where the machine allows it. */
function unshare(...more: string[]): string[] {
  const user = process.geteuid?.() === 0 ? [] : ['--user', '--map-root-user']
  return ['unshare', ...user, '--mount', ...more]
}

/** What goes before a program, so that `script` runs before it in a mount namespace of its own. */
export function mounted(script: string, ...args: string[]): string[] {
  const run = `set -eu\n${script}\nshift ${args.length}\nexec "$@"`
  return [...unshare(), 'sh', '-c', run, 'sh', ...args]
}

/** A directory shows itself, but nobody can write to it. */
export function readOnly(directory: string): string[] {
  return mounted('mount --bind -o ro "$1" "$1"', directory)
}

/**
 * A machine without a network that has Nix: `/nix` is that of a store's root.
 *
 * @param emptyDirectory is where that machine's root lies meanwhile
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

/** Nobody in particular: not root, and with nothing of root's. */
export const ordinaryUser = { uid: 54_321, gid: 54_322 }

/**
 * Runs as an ordinary user, who could not look into a checkout that lies in somebody's home: it is
 * shown to them somewhere else, and the program that is run must be named from there.
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
