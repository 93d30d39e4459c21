/** The kernel's NFS server: exports(5). */
import { exportUuid, type ServerPlan } from './plan.ts'

export function nfsExports(plan: ServerPlan): string {
  const { image, rootTree, nfsRoot, network } = plan
  const { path } = nfsRoot
  const elsewhere =
    path === rootTree
      ? []
      : [
          `# Machines mount ${path}. Copy the root tree there, as root:`,
          `#   mkdir -p ${quote(path)}`,
          `#   rsync -aHX --numeric-ids --chown=0:0 ${quote(`${rootTree}/`)} ${quote(path)}`,
        ]
  // A machine needs root's rights in its root. A fixed fsid keeps file handles valid over restarts.
  const options = ['rw', 'sync', 'no_root_squash', 'no_subtree_check', `fsid=${exportUuid(plan)}`]
  return [
    `# NFS exports for ${image}, by netimage. Save as /etc/exports.d/netimage.exports and run: exportfs -ra`,
    ...elsewhere,
    `${escapePath(path)} ${network.address}/${network.prefix}(${options.join(',')})`,
    '',
  ].join('\n')
}

function quote(text: string): string {
  return /^[\w./:@+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

/** exports(5): special characters are written in octal. */
function escapePath(path: string): string {
  return path.replace(
    /[ "#\\]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`,
  )
}
