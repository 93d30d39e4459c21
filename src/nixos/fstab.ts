/** `/etc/fstab`: fstab(5). */

export interface FileSystem {
  device: string
  mountPoint: string
  type: string
  options: string[]
}

export function isNfs({ type }: FileSystem): boolean {
  return type === 'nfs' || type === 'nfs4'
}

/** The last file system for a mount point, because `mount --all` mounts it over the others. */
export function fileSystemAt(
  fileSystems: readonly FileSystem[],
  place: string,
): FileSystem | undefined {
  return fileSystems.findLast(({ mountPoint }) => mountPoint === place)
}

export function parseFstab(text: string): FileSystem[] {
  const fileSystems: FileSystem[] = []
  for (const line of text.split('\n')) {
    // Other kinds of blanks may be part of a name.
    const fields = line.split(/[ \t]+/).filter(Boolean)
    if (fields[0]?.startsWith('#')) continue
    const [device, mountPoint, type, options = 'defaults'] = fields.map(unescape)
    if (device === undefined || mountPoint === undefined || type === undefined) continue
    fileSystems.push({ device, mountPoint, type, options: options.split(',') })
  }
  return fileSystems
}

/** Blanks in a field are written as `\040`. Bytes outside of ASCII may also be written in octal. */
function unescape(field: string): string {
  const bytes = Buffer.from(field).toString('latin1')
  const unescaped = bytes.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )
  return Buffer.from(unescaped, 'latin1').toString()
}
