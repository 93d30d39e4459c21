/** Whether the store is registered at the first boot. */
import { registrationName } from '../../nix/registration.ts'
import type { CheckContext } from '../context.ts'
import { lines, type Rule } from '../rule.ts'

/** Each is a script, or names scripts of the store. */
const starters = ['init', 'prepare-root', 'activate']
/** nixpkgs's `register-nix-paths` and our module's, before all the others. */
const usualUnit = /^register-/
const maxScripts = 64

export const noRegistration: Rule = {
  name: 'no-registration',
  level: 'warning',
  async find(context) {
    const { toplevel } = context.system
    // Nobody asks Nix for what it knows where there is no Nix.
    if (!(await context.storeFile(`${toplevel}/sw/bin/nix-store`))) return []
    if (await registers(context)) return []
    return [
      {
        message: `nothing reads /${registrationName} at the first boot: Nix knows no path of its own store, and would build or fetch all of them again`,
        fix,
        path: toplevel,
      },
    ]
  },
}

async function registers(context: CheckContext): Promise<boolean> {
  const { toplevel } = context.system
  for (const name of starters) {
    if (await mentions(context, `${toplevel}/${name}`, true)) return true
  }
  const units = `${toplevel}/etc/systemd/system`
  const names = (await context.storeNames(units)).filter((name) => name.endsWith('.service'))
  const likely = names.filter((name) => usualUnit.test(name))
  for (const name of new Set([...likely, ...names])) {
    if (await mentions(context, `${units}/${name}`, true)) return true
  }
  return false
}

/** Whether a file, or a file of the store that it names, mentions the registration. */
async function mentions(context: CheckContext, path: string, follow: boolean): Promise<boolean> {
  const file = await context.storeFile(path)
  if (file?.kind !== 'file') return false
  const text = await context.storeText(path)
  // Programs name many things; scripts do what they name.
  if (text === undefined || text.includes('\0')) return false
  if (text.includes(registrationName)) return true
  if (!follow) return false
  const named = text.match(/\/nix\/store\/[0-9a-z]{32}-[\w+.?=-]+(?:\/[\w+.?=@-]+)*/g) ?? []
  for (const script of [...new Set(named)].slice(0, maxScripts)) {
    if (isScript(script) && (await mentions(context, script, false))) return true
  }
  return false
}

/** By their names: systems name hundreds of programs that would have to be fetched to be read. */
function isScript(path: string): boolean {
  return /local-cmds|script|\.sh$|-start$|-pre$|stage-2|register/.test(path)
}

const fix = lines(
  'systemd.services.register-net-image = {',
  '  unitConfig = {',
  '    DefaultDependencies = false;',
  `    ConditionPathExists = "/${registrationName}";`,
  '  };',
  '  wantedBy = [ "sysinit.target" ];',
  '  before = [ "sysinit.target" "shutdown.target" "nix-daemon.socket" "nix-daemon.service" ];',
  '  after = [ "local-fs.target" ];',
  '  conflicts = [ "shutdown.target" ];',
  '  restartIfChanged = false;',
  '  serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };',
  "  script = ''",
  `    \${config.nix.package.out}/bin/nix-store --load-db < /${registrationName}`,
  '    touch /etc/NIXOS',
  '    ${config.nix.package.out}/bin/nix-env -p /nix/var/nix/profiles/system --set /run/current-system',
  `    rm /${registrationName}`,
  "  '';",
  '};',
)
