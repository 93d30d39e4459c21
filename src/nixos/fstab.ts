/** `/etc/fstab`: fstab(5). */

export interface FileSystem {
  device: string
  mountPoint: string
  type: string
  options: string[]
}

export function parseFstab(text: string): FileSystem[] {
  const fileSystems: FileSystem[] = []
  for (const line of text.split('\n')) {
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue
    const [device, mountPoint, type, options = 'defaults'] = line.trim().split(/\s+/).map(unescape)
    if (device === undefined || mountPoint === undefined || type === undefined) continue
    fileSystems.push({ device, mountPoint, type, options: options.split(',') })
  }
  return fileSystems
}

/** Blanks in a field are written as `\040`. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )
}
