/** Whether the first boot registers the store in Nix's database. */
import { registrationName } from '../../nix/registration.ts'
import type { CheckContext } from '../context.ts'
import { lines, type Rule } from '../rule.ts'

/** Files of the toplevel that are scripts or name scripts of the store. */
const starters = ['init', 'prepare-root', 'activate']
/** The units of nixpkgs (`register-nix-paths`) and of our module, which are read first. */
const usualUnit = /^register-/
const maxScripts = 64

export const noRegistration: Rule = {
  name: 'no-registration',
  level: 'warning',
  async find(context) {
    const { toplevel } = context.system
    // Without Nix, no program needs the database.
    if (!(await context.storeFile(`${toplevel}/sw/bin/nix-store`))) return []
    if (await registers(context)) return []
    return [
      {
        message: `nothing reads /${registrationName} at the first boot: Nix does not know the paths of its store, and builds or fetches them again`,
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

/** Whether the file mentions the registration, or (with `follow`) names a script that does. */
async function mentions(context: CheckContext, path: string, follow: boolean): Promise<boolean> {
  const file = await context.storeFile(path)
  if (file?.kind !== 'file') return false
  const text = await context.storeText(path)
  // Only scripts: a binary may mention the name without using it.
  if (text === undefined || text.includes('\0')) return false
  if (text.includes(registrationName)) return true
  if (!follow) return false
  const named = text.match(/\/nix\/store\/[0-9a-z]{32}-[\w+.?=-]+(?:\/[\w+.?=@-]+)*/g) ?? []
  for (const script of [...new Set(named)].slice(0, maxScripts)) {
    if (isScript(script) && (await mentions(context, script, false))) return true
  }
  return false
}

/**
 * Goes by the name, because reading a file may fetch it, and a system names hundreds of programs.
 */
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
