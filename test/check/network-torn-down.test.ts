import { suite, test } from 'node:test'
import { inventPath } from '../support/synthetic.ts'
import {
  assertFindings,
  findingsOf,
  networkUnit,
  scriptedInitrd,
  stage1Script,
  systemdInitrd,
  systemdParts,
} from './make-system.ts'

const rule = 'network-torn-down'
const units = (files: Record<string, string>) => ({ systemd: { system: files } })

suite('network-torn-down', () => {
  test('by the script of stage 1', async () => {
    // NixOS's lines, with and without "dev".
    for (const dev of ['', 'dev ']) {
      const flush = `for iface in $ifaces; do\n  ip address flush ${dev}"$iface"\n  ip link set ${dev}"$iface" down\ndone\n`
      assertFindings(
        await findingsOf({ initrd: scriptedInitrd({ script: stage1Script + flush }) }),
        {
          rule,
          fix: /boot\.initrd\.network\.flushBeforeStage2 = false;/,
          path: /-initrd-test\/initrd$/,
        },
      )
    }
  })

  test('by networkd of stage 1', async () => {
    for (const no of ['no', 'false']) {
      const initrd = systemdInitrd({ network: `${networkUnit}KeepConfiguration=${no}\n` })
      assertFindings(await findingsOf({ ...systemdParts, initrd }), {
        rule,
        fix: /flushBeforeStage2 = false/,
      })
    }
  })

  test('by dhcpcd', async () => {
    const conf = inventPath('dhcpcd.conf')
    const unit = (flags: string) =>
      units({
        'dhcpcd.service': `[Service]\nExecStart=@/nix/store/d/sbin/dhcpcd dhcpcd --quiet ${flags} --config ${conf}\n`,
      })
    const paths = { 'dhcpcd.conf': 'hostname\noption host_name\n' }
    assertFindings(await findingsOf({ etc: unit(''), paths }), {
      rule,
      level: 'warning',
      fix: /networking\.dhcpcd\.persistent = true;/,
      path: /dhcpcd\.service$/,
    })
    assertFindings(await findingsOf({ etc: unit('--persistent'), paths }))
    for (const left of ['denyinterfaces eth0 en*', 'denyinterfaces e*', 'allowinterfaces wlan0']) {
      const paths = { 'dhcpcd.conf': `hostname\n${left}\n` }
      assertFindings(await findingsOf({ etc: unit(''), paths }))
    }
    // NixOS's settings, and settings under which dhcpcd may manage the wired interface.
    for (const other of [
      'denyinterfaces lo peth* vif* tap* tun* virbr* vnet*',
      'denyinterfaces erspan0',
      'allowinterfaces lan0',
    ]) {
      const paths = { 'dhcpcd.conf': `${other}\n` }
      assertFindings(await findingsOf({ etc: unit(''), paths }), { rule, level: 'warning' })
    }
    const persistent = { 'dhcpcd.conf': 'hostname\npersistent\n' }
    assertFindings(await findingsOf({ etc: unit(''), paths: persistent }))
  })

  test('by NetworkManager', async () => {
    const etc = (settings: string) => ({
      ...units({ 'NetworkManager.service': '[Service]\n' }),
      NetworkManager: { 'NetworkManager.conf': settings },
    })
    assertFindings(await findingsOf({ etc: etc('[main]\nplugins=keyfile\n') }), {
      rule,
      level: 'warning',
      fix: /networking\.networkmanager\.unmanaged/,
    })
    const unmanaged = (devices: string) => etc(`[keyfile]\nunmanaged-devices=${devices}\n`)
    for (const devices of [
      'type:ethernet',
      'type:wifi;interface-name:eth0',
      'interface-name:en*',
      '*,except:type:wifi',
      'except:type:wifi',
    ]) {
      assertFindings(await findingsOf({ etc: unmanaged(devices) }))
    }
    for (const devices of [
      'type:wifi;type:wifi-p2p',
      'interface-name:wlan0',
      '',
      '*,except:type:ethernet',
      '*;except:interface-name:eth0',
    ]) {
      assertFindings(await findingsOf({ etc: unmanaged(devices) }), { rule, level: 'warning' })
    }
  })

  test('by the end of the lease of systemd’s stage 1', async () => {
    const fleeting = systemdInitrd({ network: networkUnit.replace(/^Keep.*$/m, '') })
    assertFindings(await findingsOf({ ...systemdParts, initrd: fleeting }), {
      rule,
      level: 'warning',
      fix: /systemd\.network\.networks\."10-root"\.networkConfig\.KeepConfiguration = "yes"/,
    })
    // These services renew the lease.
    const networkd = units({ 'systemd-networkd.service': '[Service]\n' })
    assertFindings(await findingsOf({ ...systemdParts, initrd: fleeting, etc: networkd }))
    const kept = systemdInitrd({
      network: networkUnit.replace(/^Keep.*$/m, 'KeepConfiguration=dynamic'),
    })
    assertFindings(await findingsOf({ ...systemdParts, initrd: kept }))
    const fixed = systemdInitrd({ network: '[Network]\nAddress=10.0.0.2/24\n' })
    assertFindings(await findingsOf({ ...systemdParts, initrd: fixed }))
  })

  test('by networkd of stage 2', async () => {
    const etc = (network: string) => ({
      systemd: {
        system: { 'systemd-networkd.service': '[Service]\n' },
        network: { '40-lan.network': network, '99-default.link': 'DHCP=yes\n' },
      },
    })
    const mac = '[DHCPv4]\nClientIdentifier=mac\n'
    assertFindings(await findingsOf({ etc: etc(`${networkUnit}KeepConfiguration=no\n${mac}`) }), {
      rule,
      level: 'warning',
      fix: /networks\."40-lan"\.networkConfig\.KeepConfiguration = "yes"/,
    })
    assertFindings(await findingsOf({ etc: etc(networkUnit) }), {
      rule,
      level: 'note',
      message: /client identifier/,
      fix: /networks\."40-lan"\.dhcpV4Config\.ClientIdentifier = "mac"/,
    })
    // systemd ignores the key in this file.
    const forAll = { systemd: { ...etc(networkUnit).systemd, 'networkd.conf': mac } }
    assertFindings(await findingsOf({ etc: forAll }), { rule, level: 'note' })
    assertFindings(await findingsOf({ etc: etc(networkUnit + mac) }))
    assertFindings(await findingsOf({ etc: etc('[Network]\nAddress=10.0.0.2/24\n') }))
    // networkd keeps addresses without settings only if / itself is on NFS.
    const fstab =
      'tmpfs / tmpfs mode=755 0 0\n10.0.0.1:/srv/x/nix/store /nix/store nfs vers=3,nolock 0 0\n'
    const fleeting = networkUnit.replace(/^Keep.*$/m, '') + mac
    assertFindings(await findingsOf({ etc: etc(fleeting) }))
    assertFindings(await findingsOf({ fstab, etc: etc(fleeting) }), { rule, level: 'warning' })
    assertFindings(await findingsOf({ fstab, etc: etc(networkUnit + mac) }))
  })

  test('nothing is found if the root is not on the network', async () => {
    const etc = units({ 'dhcpcd.service': '[Service]\nExecStart=dhcpcd\n' })
    const fstab = '/dev/sda1 / ext4 rw 0 0\n'
    assertFindings(await findingsOf({ etc, fstab }), { rule: 'root-not-nfs' })
  })
})
