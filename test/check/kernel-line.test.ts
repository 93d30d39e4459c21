import { suite, test } from 'node:test'
import { assertFindings, findingsOf, systemdParts } from './make-system.ts'

const nfsRoot = '10.0.0.1:/x,v3'
const fstab = '10.0.0.1:/x / nfs vers=3,nolock 0 0\n'

suite('kernel-line-too-long', () => {
  const rule = 'kernel-line-too-long'
  /** So that `init=… more=…` has as many bytes as are wanted. */
  const lineOf = (bytes: number) => {
    const own = `init=/nix/store/${'0'.repeat(32)}-nixos-system-test/init more=`.length
    return { fstab, kernelParams: [`more=${'x'.repeat(bytes - own)}`] }
  }

  test('longer than the kernel keeps, by its processor', async () => {
    const kept = { x86_64: 2047, aarch64: 2047, riscv64: 1023, loongarch64: 4095 }
    for (const [processor, bytes] of Object.entries(kept)) {
      const platform = `${processor}-linux`
      assertFindings(await findingsOf({ ...lineOf(bytes), platform }))
      assertFindings(await findingsOf({ ...lineOf(bytes + 1), platform }), {
        rule,
        message: new RegExp(`has ${bytes + 1} bytes, and the kernel keeps ${bytes} of them`),
      })
    }
    assertFindings(await findingsOf({ ...lineOf(9000), platform: 'unknown-linux' }))
  })

  test('longer than U-Boot takes', async () => {
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

  test('a place for the machine’s address, which netimage’s servers do not fill', async () => {
    assertFindings(await byKernel('10.0.0.1:/srv/%s,v3'), {
      rule,
      level: 'warning',
      message: /puts the machine’s name or address in the place of %s in \/srv\/%s/,
    })
    assertFindings(await byKernel('10.0.0.1:/srv/pi,v3'))
    assertFindings(await byKernel('/srv/pi,v3'))
  })

  test('what else the kernel takes for a format of printf', async () => {
    for (const path of ['/srv/100%', '/srv/%d', '/srv/%s/%s']) {
      assertFindings(await byKernel(`10.0.0.1:${path},v3`), {
        rule,
        message: /one %s there and no other %/,
      })
    }
  })

  test('a server that the kernel does not understand', async () => {
    for (const server of ['server.lan', '[fd00::1]']) {
      assertFindings(await byKernel(`${server}:/srv/pi,v3`), {
        rule,
        message: /no server there but an IPv4 address/,
      })
    }
  })

  test('stage 1, which fills in nothing', async () => {
    const named = '10.0.0.1:/srv/%s / nfs vers=3,nolock 0 0\n'
    for (const parts of [{}, systemdParts]) {
      assertFindings(await findingsOf({ ...parts, fstab: named }), {
        rule,
        message: /in the place of %s in 10\.0\.0\.1:\/srv\/%s/,
      })
    }
    const literal = '10.0.0.1:/srv/100% / nfs vers=3,nolock 0 0\n'
    assertFindings(await findingsOf({ fstab: literal }))
  })
})
