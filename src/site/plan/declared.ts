/** What the file of a site declares of machines, against what it did when it was applied last. */
import type { Declaration, Declarations } from '../declarations.ts'
import type { KnownMachine } from '../desired/catalogue.ts'
import type { DesiredMachine } from '../desired/desired.ts'
import { canonicalJson } from './canonical-json.ts'
import type { PlannedDeclaration } from './planned.ts'

/** @param named all machines that the file names */
export function changedDeclarations(
  named: readonly KnownMachine[],
  applied: Declarations,
): PlannedDeclaration[] {
  const wanted = named.map((each) => ({ ...each, declared: declarationOf(each.desired) }))
  const machines = new Set(named.map(({ machine }) => machine))
  const gone = [...applied.keys()]
    .filter((machine) => !machines.has(machine))
    .map((machine): Wanted => ({ machine, declared: undefined }))
  return [...wanted, ...gone].flatMap(({ machine, name, declared }) => {
    const before = applied.get(machine)
    if (canonicalJson(declared) === canonicalJson(before)) return []
    return [
      {
        machine,
        ...(name !== undefined && { name }),
        ...(declared && { declared }),
        ...(before && { before }),
      },
    ]
  })
}

type Wanted = Pick<KnownMachine, 'machine' | 'name'> & { declared: Declaration | undefined }

/** @returns undefined if it says no more than that the machine is the one with its only hardware address */
function declarationOf(desired: DesiredMachine | undefined): Declaration | undefined {
  const { macs = [], serials = [], hostName, address } = desired ?? {}
  const isMore = macs.length > 1 || serials.length > 0
  if (!isMore && hostName === undefined && address === undefined) return undefined
  return {
    ...{ macs: [...macs], serials: [...serials] },
    ...(hostName !== undefined && { hostName }),
    ...(address !== undefined && { address }),
  }
}

/** All declarations once the plan is applied. */
export function declarationsAfter(
  applied: Declarations,
  changes: readonly PlannedDeclaration[],
): Declarations {
  const after = new Map(applied)
  for (const { machine, declared } of changes) {
    if (declared) after.set(machine, declared)
    else after.delete(machine)
  }
  return after
}
