/** Checks a system or an image before it is booted. */
import { existsSync } from 'node:fs'

import { checkSystem, type CheckFinding } from '../check/check-system.ts'
import { silentProgress } from '../progress.ts'
import { withSubject, type SubjectRequest } from './subject.ts'

export interface CheckRequest extends SubjectRequest {
  /** Where the machine mounts its root from. Default: that of the image or the host's module. */
  nfsRoot?: string
  /** Names of rules that are left out. */
  silenced?: readonly string[]
}

export interface Check {
  kind: 'system' | 'image'
  toplevel: string
  /** Errors first. */
  findings: CheckFinding[]
}

export async function check(request: CheckRequest): Promise<Check> {
  const progress = request.progress ?? silentProgress
  return await withSubject(request, async (subject) => {
    const { system, closure, treeOf, prefetch, knownSecrets, image, settings } = subject
    if (image && !existsSync(image.layout.store)) {
      progress.warn(
        'the image has no root tree as a directory: what is in its store is not checked',
      )
    }
    const findings = await checkSystem({
      system,
      closure,
      publicPaths: image?.publicPaths,
      treeOf,
      prefetch,
      knownSecrets,
      silenced: [...(settings?.silenced ?? []), ...(request.silenced ?? [])],
      nfsRoot: request.nfsRoot ?? image?.options.nfsRoot ?? settings?.options?.nfsRoot,
      image: image && {
        bootTree: image.layout.boot,
        bootFiles: image.manifest.boot.files,
        rootFiles: image.manifest.root.files,
      },
    })
    return { kind: image ? 'image' : 'system', toplevel: system.toplevel, findings }
  })
}
