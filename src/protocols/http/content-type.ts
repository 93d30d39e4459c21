/** The media type of a file, by its name. UEFI checks the type before it starts a file. */
import { extname } from 'node:path'

const text = 'text/plain; charset=utf-8'
const types: Record<string, string> = {
  // [UEFI 2.10 §24.7, HTTP Boot; all three are registered with IANA]
  '.efi': 'application/efi',
  '.img': 'application/vnd.efi.img',
  '.iso': 'application/vnd.efi.iso',
  '.json': 'application/json',
  '.cfg': text,
  '.conf': text,
  '.ipxe': text,
  '.txt': text,
}

export function contentType(name: string): string {
  return types[extname(name).toLowerCase()] ?? 'application/octet-stream'
}
