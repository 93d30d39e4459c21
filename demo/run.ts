/**
 * The demo: real Nix makes a system, netimage builds an image of it, and a machine without a disk
 * boots the image. The person sees each step.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import { removeTree } from '../src/remove-tree.ts'
import { bootInFront } from './boot.ts'
import { buildDemoSystem, cacheDemoSystem } from './system/build.ts'

const work = resolve('.netimage-demo')
const cache = `${work}/cache`
const image = `${work}/image`
const program = fileURLToPath(new URL('../src/cli.ts', import.meta.url))
const root = '10.66.0.1:/srv/demo'

say('Real Nix makes a small system in the shape of NixOS, from Debian’s kernel and busybox:')
mkdirSync(work, { recursive: true })
const demo = await buildDemoSystem({
  cacheDirectory: `${work}/downloads`,
  worldDirectory: `${work}/nix`,
  rootDevice: root,
})
const { secretKeyFile, publicKey } = await demo.world.generateKey('demo-1')
removeTree(cache)
await cacheDemoSystem(demo, cache, { secretKeyFile })
say(`  ${demo.toplevel}\n  in the signed binary cache ${cache}`)

const access = ['--from', `file://${cache}`, '--trusted-public-keys', publicKey]
const place = ['--pool', `${work}/pool`, '-o', image, '--force']
await netimage('build', demo.toplevel, ...access, ...place, '--nfs-root', `${root},v3`)
await netimage('inspect', image)
await netimage('verify', image)

say('\nReal Nix registers the store paths of the root, as the machine does at its first boot:')
await letNixAccept(`${image}/net-image`)

say('\nA machine without a disk is switched on, in its own network:')
const state = `${work}/state`
removeTree(state)
await bootInFront({
  image,
  state,
  command(...args) {
    say(`\n$ netimage ${args.join(' ')}`)
    return [process.execPath, program, ...args]
  },
  show: say,
})
say(`\nThe image is ${image}`)

/** Works in a copy: the image must not change before a machine boots from it. */
async function letNixAccept(trees: string): Promise<void> {
  const copy = `${work}/accepted`
  removeTree(copy)
  const script = `
    cp -a "${trees}" "${copy}"
    root=$(echo "${copy}"/nixos-*)
    nix-store --store "$root" --load-db < "$root/nix-path-registration"
    nix-store --store "$root" --verify --check-contents`
  await run('sh', ['-euc', script], {
    NIX_CONFIG: 'build-users-group =\nsubstituters =',
    HOME: `${work}/nix/home`,
  })
  removeTree(copy)
}

async function netimage(...args: string[]): Promise<void> {
  const shown = args.map((arg) => (/[^\w./:=@+-]/.test(arg) ? `'${arg}'` : arg))
  say(`\n$ netimage ${shown.join(' ')}`)
  await run(process.execPath, [program, ...args], {})
}

async function run(command: string, args: string[], environment: NodeJS.ProcessEnv) {
  const child = spawn(command, args, {
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  })
  const [status] = await once(child, 'close')
  if (status === 0) return
  say(`the demo stops here: ${command} ended with status ${status}`)
  process.exit(1)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
