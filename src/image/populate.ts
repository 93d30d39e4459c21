/**
 * Runs the commands that people write for their images (`populateFirmwareCommands` and
 * `populateRootCommands`) in the same environment as in raspberry-pi-nix.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'

import { NetimageError } from '../errors.ts'
import type { StorePath } from '../nix/store-path.ts'
import { endGroup, endGroupOn, patienceMs } from '../process-group.ts'

export interface CommandSetting {
  /** The image, exported as `$out`. */
  out: string
  /** The root tree, exported as `$rootfs`. */
  rootfs: string
  /** The boot tree, exported as `$bootfs`. */
  bootfs: string
  /** The directory that holds the closure's trees, exported as `$store`. */
  store: string
  closure: readonly StorePath[]
  /** The working directory. */
  directory: string
  /** An empty directory, for a root that shows `store` as `/nix/store`. */
  emptyDirectory: string
  signal: AbortSignal
}

/** Nix's builders set this value, so that tools do not write the time of the build to files. */
const sourceDateEpoch = '315532800'
/** Sets the umask, so that the modes of new files do not depend on the user. */
const shell = ['sh', '-c', 'umask 022; exec "$@"', 'sh', 'bash', '-euo', 'pipefail', '-c']
/**
 * If netimage is killed, its end of the pipe closes, and this kills the process group. Otherwise
 * the commands would go on writing to a tree that the next build deletes.
 */
const guarded =
  'exec 3<&0 </dev/null; { read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 & exec 3<&-; exec "$@"'
const keptOutputBytes = 64 * 1024

/**
 * @param option the name of the option, for errors
 * @returns true if the commands could not write to the store
 */
export async function runCommands(
  option: string,
  commands: string,
  setting: CommandSetting,
): Promise<boolean> {
  setting.signal.throwIfAborted()
  const { view, isGuarded } = await chooseView(option, commands, setting)
  const { status, output } = await run([...view, ...shell, commands], setting)
  if (status === 0) return isGuarded
  const said = output.trim() === '' ? 'it printed nothing' : `it printed:\n${output.trimEnd()}`
  throw new NetimageError('command-failed', `${option} ended with status ${status}; ${said}`, {
    details: { field: option, actual: status },
    hint: 'The commands run with `bash -euo pipefail`: they end at the first command that fails.',
  })
}

/** Chooses the command that starts the shell, so that it sees a read-only closure in /nix/store. */
async function chooseView(
  option: string,
  commands: string,
  setting: CommandSetting,
): Promise<{ view: string[]; isGuarded: boolean }> {
  const optional =
    !commands.includes('/nix/store') || setting.closure.every((path) => existsSync(path))
  if (process.platform === 'linux') {
    // Use the view even if the commands do not need it: usually they cannot write to its store.
    const view = [...unshareArguments(), 'sh', '-euc', showStoreScript, 'netimage']
    const probe = await run([...view, 'sh', '-c', tryToWrite], setting)
    if (probe.status === 0 || probe.status === wasWritten) {
      return { view, isGuarded: probe.status === 0 }
    }
    if (optional) return { view: [], isGuarded: false }
    throw noStore(option, `could not make a mount namespace: ${probe.output.trim()}`)
  }
  if (optional) return { view: [], isGuarded: false }
  throw noStore(option, `${process.platform} has no mount namespaces`)
}

const wasWritten = 77
const tryToWrite = `
probe=$store/.netimage-probe
if (: > "$probe") 2>/dev/null; then rm "$probe"; exit ${wasWritten}; fi
`

function unshareArguments(): string[] {
  const asUser = process.geteuid?.() === 0 ? [] : ['--user', '--map-root-user']
  return ['unshare', ...asUser, '--mount']
}

/**
 * Makes a root like this machine's, but with the closure in /nix/store. If the machine has a store,
 * the closure lies over it, because the tools of the commands may be in that store.
 */
const showStoreScript = `
root=$NETIMAGE_ROOT
here=$PWD
mount -t tmpfs netimage "$root"
for path in /* /.[!.]*; do
  name=\${path#/}
  if [ -L "$path" ]; then cp -P "$path" "$root/$name"
  elif [ "$name" = nix ]; then :
  elif [ -d "$path" ]; then mkdir "$root/$name"; mount --rbind "$path" "$root/$name"
  elif [ -e "$path" ]; then : > "$root/$name"; mount --bind "$path" "$root/$name"
  fi
done
mkdir -p "$root/nix/store"
if [ -d /nix ]; then mount --rbind /nix "$root/nix"; fi
if [ -n "$(ls /nix/store 2>/dev/null || true)" ]; then
  lower=$(printf %s "$store" | sed 's/[\\\\,:]/\\\\&/g')
  mount -t overlay netimage -o "lowerdir=$lower:/nix/store" "$root/nix/store"
else
  mount --bind "$store" "$root/nix/store"
  mount -o remount,bind,ro "$root/nix/store" 2>/dev/null || true
fi
mount --bind "$root/nix/store" "$root$store"
exec unshare --root="$root" --wd="$here" "$@"
`

function noStore(option: string, why: string): NetimageError {
  return new NetimageError('no-namespace', `${option} cannot be shown /nix/store: ${why}`, {
    details: { field: option },
    hint: 'In the commands, write $store in place of /nix/store: $store is the directory that holds the closure. Or allow user namespaces, or run as root.',
  })
}

function run(
  command: readonly string[],
  setting: CommandSetting,
): Promise<{ status: number | string; output: string }> {
  const { out, rootfs, bootfs, store, directory, emptyDirectory, signal } = setting
  return new Promise((resolve, reject) => {
    const child = spawn('sh', ['-c', guarded, 'sh', ...command], {
      cwd: directory,
      stdio: 'pipe',
      // Makes a process group, so that a signal also ends the processes that the commands started.
      detached: true,
      env: {
        ...process.env,
        out,
        rootfs,
        bootfs,
        store,
        // In raspberry-pi-nix, the working directory is Nix's build directory.
        NIX_BUILD_TOP: directory,
        SOURCE_DATE_EPOCH: sourceDateEpoch,
        NETIMAGE_ROOT: emptyDirectory,
      },
    })
    let output = ''
    const keep = (text: Buffer) => (output = (output + text.toString()).slice(-keptOutputBytes))
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    let timer: NodeJS.Timeout | undefined
    const release = endGroupOn(signal, child)
    child.on('error', (error) => {
      release()
      reject(error)
    })
    child.on('exit', () => {
      release()
      // Processes that the commands left running keep the output open and may write to the trees.
      endGroup(child, 'SIGKILL')
      timer = setTimeout(() => [child.stdout, child.stderr].map((s) => s.destroy()), patienceMs)
    })
    child.on('close', (status, killedBy) => {
      clearTimeout(timer)
      if (signal.aborted) return reject(new NetimageError('interrupted', 'interrupted'))
      resolve({ status: status ?? killedBy ?? 'unknown', output })
    })
  })
}
