import { suite, test } from 'node:test'
import { assertFindings, findingsOf, systemdParts } from './make-system.ts'

const nfsRoot = '10.0.0.1:/x,v3'
const fstab = '10.0.0.1:/x / nfs vers=3,nolock 0 0\n'

suite('kernel-line-too-long', () => {
  const rule = 'kernel-line-too-long'
  /** Makes `init=… more=…` have the given number of bytes. */
  const lineOf = (bytes: number) => {
    const own = `init=/nix/store/${'0'.repeat(32)}-nixos-system-test/init more=`.length
    return { fstab, kernelParams: [`more=${'x'.repeat(bytes - own)}`] }
  }

  test('longer than the kernel’s limit, which depends on the processor', async () => {
    const kept = { x86_64: 2047, aarch64: 2047, riscv64: 1023, loongarch64: 4095 }
    for (const [processor, bytes] of Object.entries(kept)) {
      const platform = `${processor}-linux`
      assertFindings(await findingsOf({ ...lineOf(bytes), platform }))
      assertFindings(await findingsOf({ ...lineOf(bytes + 1), platform }), {
        rule,
        message: new RegExp(`has ${bytes + 1} bytes, but the kernel keeps only ${bytes}:`),
      })
    }
    assertFindings(await findingsOf({ ...lineOf(9000), platform: 'unknown-linux' }))
  })

  test('longer than U-Boot’s limit', async () => {
    const boot = { 'extlinux/extlinux.conf': 'DEFAULT nixos\n' }
    const image = { nfsRoot, boot }
    const platform = 'aarch64-linux'
    assertFindings(await findingsOf({ ...lineOf(1023), platform }, image))
    assertFindings(await findingsOf({ ...lineOf(1024), platform }, image), {
      rule,
      level: 'warning',
      message: /U-Boot takes 1023 .* bootarg overflow|“bootarg overflow”/,
    })
    // A PC reads the same menu with pxelinux.
    assertFindings(await findingsOf(lineOf(1024), image))
    assertFindings(await findingsOf({ ...lineOf(1024), platform }, { nfsRoot }))
  })
})

suite('nfsroot-misread', () => {
  const rule = 'nfsroot-misread'
  const builtin = ['fs/nfs/nfs', 'fs/nfs/nfsv3', 'drivers/net/ethernet/x'].map(
    (name) => `kernel/${name}.ko`,
  )
  const byKernel = async (root: string) => {
    const kernelParams = ['root=/dev/nfs', `nfsroot=${root}`, 'ip=dhcp']
    return await findingsOf({ kernelParams, fstab: '', builtin }, { nfsRoot: root })
  }

  test('%s, which netimage’s servers do not replace', async () => {
    assertFindings(await byKernel('10.0.0.1:/srv/%s,v3'), {
      rule,
      level: 'warning',
      message: /replaces %s in \/srv\/%s by the machine’s name or address/,
    })
    assertFindings(await byKernel('10.0.0.1:/srv/pi,v3'))
    assertFindings(await byKernel('/srv/pi,v3'))
  })

  test('other formats of printf', async () => {
    for (const path of ['/srv/100%', '/srv/%d', '/srv/%s/%s']) {
      assertFindings(await byKernel(`10.0.0.1:${path},v3`), {
        rule,
        message: /one %s and no other %/,
      })
    }
  })

  test('a server that is no IPv4 address', async () => {
    for (const server of ['server.lan', '[fd00::1]']) {
      assertFindings(await byKernel(`${server}:/srv/pi,v3`), {
        rule,
        message: /only an IPv4 address as the server/,
      })
    }
  })

  test('%s in a root that stage 1 mounts', async () => {
    const named = '10.0.0.1:/srv/%s / nfs vers=3,nolock 0 0\n'
    for (const parts of [{}, systemdParts]) {
      assertFindings(await findingsOf({ ...parts, fstab: named }), {
        rule,
        message: /nothing replaces %s in 10\.0\.0\.1:\/srv\/%s/,
      })
    }
    const literal = '10.0.0.1:/srv/100% / nfs vers=3,nolock 0 0\n'
    assertFindings(await findingsOf({ fstab: literal }))
  })
})
